"""The explorer in a real Chromium answers to mouse, touch and keys, in both themes, and asks nobody. Share: 0 s.

Skipped without playwright and Chromium; .ci/run installs both, and there it takes under a minute.
"""
import json

import numpy as np
import pytest

from npdvae.explore import model, page
from npdvae.run import Run
from tests.browser import Page

STATE = """() => ({x: Array.from(explorer.state.x), z: Array.from(explorer.state.z), follow: explorer.state.follow,
                   logProb: explorer.state.exact?.logProb, source: explorer.state.source})"""


def at(page, selector, column, row):
    """The place on the screen of a pixel of a canvas of the digits, 8 x 8."""
    box = page.page.locator(selector).bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / 8, box["y"] + (row + 0.5) * box["height"] / 8


def ink(page):
    """Columns and rows of the pixels that are 1."""
    rows, columns = np.nonzero(np.reshape(page.run(STATE)["x"], (8, 8)))
    return set(zip(columns.tolist(), rows.tolist()))


def test_a_digit_drawn_by_mouse_is_encoded_and_scored_while_it_is_drawn(runs, opened):
    run, page = Run.load(runs("categorical")), opened("categorical")
    mouse = page.page.mouse
    page.page.click("#clear")
    assert ink(page) == set()
    empty = page.run(STATE)["logProb"]
    mouse.move(*at(page, "#input", 2, 1))
    mouse.down()
    mouse.move(*at(page, "#input", 2, 6), steps=8)
    during = page.run(STATE)
    assert ink(page) == {(2, row) for row in range(1, 7)} and during["source"] == "a drawing"
    assert abs(during["logProb"] - run.log_prob(np.array([during["x"]], "f4"))[0]) <= 1e-4     # both float32
    assert during["logProb"] != empty
    mouse.move(*at(page, "#input", 5, 6), steps=8)
    mouse.up()
    mouse.move(*at(page, "#input", 7, 0), steps=4)                  # no longer down
    drawn = ink(page)
    assert drawn == {(2, row) for row in range(1, 7)} | {(c, 6) for c in (3, 4, 5)}
    x = np.array([page.run(STATE)["x"]], "f4")
    np.testing.assert_array_equal(page.run(STATE)["z"], run.mode_of(x)[0])
    shown = page.page.locator("#bounds tr").first.inner_text().replace("\u2212", "-").split()[-1]
    assert float(shown) == pytest.approx(run.log_prob(x)[0], abs=0.006)     # two digits
    page.page.click("#centre")
    assert abs(np.mean([c + 0.5 for c, _ in ink(page)]) - 4) <= 0.5
    page.page.click("#erase")
    for _ in range(2):
        mouse.click(*at(page, "#input", 3, 4))
    assert (3, 4) not in ink(page)


def test_keys_draw_and_choose(opened):
    page = opened("categorical")
    keys = page.page.keyboard
    page.page.click("#clear")
    page.page.focus("#input")
    for key in ("ArrowRight", "ArrowUp", "Space", "Shift+ArrowLeft", "Shift+ArrowLeft"):
        keys.press(key)
    assert ink(page) == {(5, 3), (4, 3), (3, 3)}                    # from the middle, (4, 4)
    keys.press("Backspace")
    assert ink(page) == {(5, 3), (4, 3)}
    page.page.focus('[data-at="0 2"]')
    keys.press("ArrowRight")
    assert page.run(STATE)["z"][0] == 3 and page.run(STATE)["follow"] == "hand"
    assert page.page.evaluate("() => document.activeElement.dataset.at") == "0 3"
    keys.press("ArrowDown")
    assert page.page.evaluate("() => document.activeElement.dataset.at.split(' ')[0]") == "1"
    checked = page.page.locator('[role=radio][aria-checked=true]')
    assert checked.count() == 3 and page.page.locator('[role=radio][tabindex="0"]').count() == 3
    page.page.check("#follow-p")
    best = page.run("() => Array.from(explorer.state.exact.best)")
    assert page.run(STATE)["z"] == best
    page.page.wait_for_timeout(800)                                 # the text follows once nothing moves
    assert "log p of x is" in page.page.locator("#spoken").inner_text()


@pytest.mark.parametrize("kind", ["categorical", "gaussian", "many"])
def test_a_phone_draws_by_touch_and_scrolls_down_only(kind, opened):
    page = opened(kind, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert page.run("() => document.documentElement.scrollWidth") <= 390
    page.page.tap("#clear")
    touch = page.context.new_cdp_session(page.page)
    for kind_of, cell in (("touchStart", (2, 2)), ("touchMove", (4, 2)), ("touchMove", (6, 2)), ("touchEnd", None)):
        points = [] if cell is None else [dict(zip("xy", at(page, "#input", *cell)))]
        touch.send("Input.dispatchTouchEvent", {"type": kind_of, "touchPoints": points})
    assert ink(page) == {(c, 2) for c in range(2, 7)}
    cells = page.page.locator(".cell")
    assert cells.count() == 0 or cells.first.bounding_box()["width"] >= 24      # WCAG 2.2, target size
    assert page.run("() => scrollY") == 0


def test_a_second_finger_draws_nothing_and_ends_nothing(opened):
    page = opened("categorical", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page.page.tap("#clear")
    touch = page.context.new_cdp_session(page.page)
    for kind, *fingers in (("touchStart", (1, 2)), ("touchStart", (1, 2), (6, 6)), ("touchMove", (3, 2), (6, 5)),
                           ("touchMove", (3, 2)), ("touchMove", (5, 2)), ("touchEnd",)):
        points = [{**dict(zip("xy", at(page, "#input", *place))), "id": n} for n, place in enumerate(fingers)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert ink(page) == {(c, 2) for c in range(1, 6)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_ink_the_pictures(scheme, opened):
    page = opened("categorical", color_scheme=scheme)
    corner = """() => { const style = getComputedStyle(document.documentElement);
        const canvas = document.getElementById("input"), at = canvas.getContext("2d").getImageData(0, 0, 1, 1).data;
        return [Array.from(at.slice(0, 3)), style.getPropertyValue("--paper").trim(),
                getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]; }"""
    page.page.click("#clear")
    before = page.run(corner)
    page.page.click("#theme")
    after = page.run(corner)
    for rgb, paper, *_ in (before, after):
        assert rgb == [int(paper[i:i + 2], 16) for i in (1, 3, 5)]
    dark, light = (before, after) if scheme == "dark" else (after, before)
    assert max(dark[0]) < 60 and min(light[0]) > 200
    for _, _, text, ground in (before, after):                      # WCAG AA asks for 4.5
        assert contrast(text, ground) >= 7


def contrast(*colours):
    """Ratio of relative luminances of two rgb(...) (WCAG 2)."""
    def luminance(colour):
        parts = np.array([int(n) for n in colour[4:-1].split(",")]) / 255
        return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def test_samples_images_and_codes_set_what_is_shown(runs, opened):
    run, page = Run.load(runs("categorical")), opened("categorical")
    z = run.sample(240, 0)[0]
    page.page.locator("#prior button").nth(5).click()
    assert page.run(STATE)["z"] == z[5].tolist()
    page.page.click("#more")
    page.page.locator("#prior button").nth(5).click()
    assert page.run(STATE)["z"] == z[29].tolist()
    page.page.locator("#images button").nth(3).click()
    state = page.run(STATE)
    assert state["source"] == "test image 4 (3)" and state["follow"] == "q"
    best = page.run("() => Array.from(explorer.state.listed[1])")
    page.page.locator("#likely button").nth(1).click()
    assert page.run(STATE)["z"] == best
    pixels = page.run("""() => Array.from(document.getElementById("output").getContext("2d")
                               .getImageData(0, 0, 8, 8).data).filter((_, i) => i % 4 === 0)""")
    ends = page.run("() => ['--paper', '--ink'].map(n => parseInt(getComputedStyle(document.documentElement)"
                    ".getPropertyValue(n).slice(1, 3), 16))")
    expected = ends[0] + (ends[1] - ends[0]) * run.decode(np.array([best]))[0]
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1.5)  # two roundings to 256 levels


def test_a_slider_moves_its_latent_and_a_simplex_stays_one(opened):
    page = opened("dirichlet")
    before = page.run(STATE)["z"]
    page.page.locator("input[type=range]").first.focus()
    for _ in range(40):
        page.page.keyboard.press("ArrowRight")
    order, after = page.run("() => explorer.run.latent.order"), page.run(STATE)["z"]
    assert after[order[0]] > before[order[0]] and abs(np.exp(after).sum() - 1) <= 1e-5
    others = np.delete(after, order[0]) - np.delete(before, order[0])
    np.testing.assert_allclose(others, others[0], atol=1e-4)        # float32: in their proportions


def test_many_categories_come_one_latent_at_a_time(opened):
    page = opened("simvq")
    assert page.page.locator(".cell").count() == 256
    page.page.select_option("select[aria-label=Latent]", "2")
    page.page.select_option("select[aria-label=Categories]", "256")
    assert page.page.locator(".cell").count() == 44
    page.page.click('[data-at="2 290"]')
    assert page.run(STATE)["z"][2] == 290
    for start, reached in (("0", "2 0"), ("256", "2 290")):         # by keys, wherever z is
        page.page.select_option("select[aria-label=Categories]", start)
        page.run(STATE)                                             # after the frame that draws
        cells = page.page.locator('[role=radio][tabindex="0"]')
        assert cells.count() == 1 and cells.get_attribute("data-at") == reached


def test_categories_beyond_16_bits_are_themselves(runs, opened):
    run, page = Run.load(runs("fine")), opened("fine")
    z = [70000]
    decoded = run.decode(np.array([z]))[0]
    np.testing.assert_allclose(page.run("z => explorer.decode(z)", z), decoded, rtol=0, atol=1e-5)      # both float32
    page.page.select_option("select[aria-label=Categories]", str(70000 // 256 * 256))
    page.page.click('[data-at="0 70000"]')
    assert page.run(STATE)["z"] == z
    page.page.locator("#prior button").nth(5).click()
    assert page.run(STATE)["z"] == run.sample(240, 0)[0][5].tolist()


def test_the_joint_of_a_code_is_shown_where_no_sum_over_codes_is(runs, opened):
    run, page = Run.load(runs("many")), opened("many")
    found = page.run(STATE)
    q = run.posterior(np.array([found["x"]], "f4"))
    z = run.model.latent.mode(run.params, q)[None]                  # [1, 1, D]
    cost = run.model.likelihood.forward(run.params, run.model.decode(run.params, z)[0], np.array([found["x"]], "f4"))
    rows = page.page.locator("#bounds tr").all_inner_texts()
    shown = [float(row.replace("\u2212", "-").split()[-1]) for row in rows]
    expected = -cost[0, 0], -cost[0, 0] - 40 * np.log(20)           # uniform over 20^40 codes
    np.testing.assert_allclose(shown, expected, rtol=0, atol=0.006)     # two digits
    assert page.page.locator("#likely").is_hidden() and "20\u2074\u2070 codes" in page.page.inner_text("#notes")


def test_a_latent_without_its_encoder_is_set_by_hand(browser, runs, tmp_path):
    run = Run.load(runs("categorical"))
    contents = model.contents(run, run.dataset(), 2, 2, 0)
    contents["latent"]["encoder"] = None
    path = tmp_path / "own.html"
    path.write_text(page.html(contents))
    with Page(browser, path) as shown:
        assert shown.run(STATE)["follow"] == "hand" and not shown.page.locator("#follow-q").is_visible()
        x = np.array([shown.run(STATE)["x"]], "f4")
        assert abs(shown.run(STATE)["logProb"] - run.log_prob(x)[0]) <= 1e-4    # both float32
        assert shown.page.locator("#bounds tr").count() == 3        # log p(x), and two of this z
    assert shown.wrong == []


def test_names_of_the_run_stay_text_in_the_browser(browser, runs, tmp_path):
    run = Run.load(runs("categorical"))
    evil = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'><!--"
    contents = {**model.contents(run, run.dataset(), 2, 2, 0), "title": evil, "facts": [evil], "notes": [evil]}
    path = tmp_path / "evil.html"
    path.write_text(page.html(json.loads(json.dumps(contents))))
    with Page(browser, path) as shown:
        assert shown.page.evaluate("() => window.broken") is None
        assert shown.page.title() == evil == shown.page.locator("h1").inner_text()
        assert [shown.page.locator(s).inner_text() for s in ("#facts li", "#notes p")] == [evil, evil]
    assert shown.wrong == []
