"""The figures: what goes where, at every size of latent space, and no display needed. Share of the suite: 6 s."""
import math
import struct
import subprocess
import sys

import numpy as np
import pytest

from npdvae import metrics, plots

DRAWS = np.random.default_rng(0)


def size(content):
    """Width and height of a PNG in pixels."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def check(drawn, largest=1400):
    """The figure draws to a PNG that fits a page and is not blank."""
    import matplotlib.image
    width, height = size(content := plots.png(drawn))
    assert 100 <= width <= largest and 80 <= height <= largest
    import io
    pixels = matplotlib.image.imread(io.BytesIO(content))[..., :3]
    assert pixels.std() > 0.01
    return pixels


def lines(epochs, validation=False, start=40.0):
    made = []
    for e in range(1, epochs + 1):
        cost, kl = start / e + 15, 3 - 3 / e
        made.append({"epoch": e, "step": 30 * e, "train_negative_elbo": cost + kl, "test_negative_elbo": cost + kl + 1,
                     "train_cost": cost, "train_kl": kl,
                     "test_cost": cost, "test_kl": kl, "seconds": e, "seconds_per_step": 1e-3})
        if validation:
            made[-1] |= metrics.named("validation", cost + 0.5, kl)
    return made


def test_mosaic_puts_every_image_in_its_place():
    images = DRAWS.random((3, 5, 8)).astype(np.float32)
    picture = plots.mosaic(images, (2, 4))
    assert picture.shape == (3 * 3 - 1, 5 * 5 - 1)
    for r in range(3):
        for c in range(5):
            np.testing.assert_array_equal(picture[3 * r:3 * r + 2, 5 * c:5 * c + 4], images[r, c].reshape(2, 4))
    assert np.isnan(picture).sum() == picture.size - images.size    # and nothing but gaps elsewhere


@pytest.mark.parametrize("epochs, validation, collapsed", [(1, False, None), (2, True, 24.3), (160, False, 24.3)])
def test_curves_show_every_split_and_the_baseline(epochs, validation, collapsed):
    f = plots.curves(lines(epochs, validation), collapsed, "a run", "deterministic bound")
    left, right, other = f.axes
    last = lines(epochs)[-1]
    assert left.get_title() == "Negative deterministic bound" and other.get_legend() is None
    assert right.get_title() == f"Its parts, test: cost {last['test_cost']:.2f}, KL {last['test_kl']:.2f}"
    labels = [line.get_label() for line in left.lines]
    assert [label.split()[0] for label in labels] == ["train"] + ["validation"] * validation + ["test"] + \
        ["collapsed"] * (collapsed is not None)
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [m["train_negative_elbo"] for m in lines(epochs)])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [m["test_cost"] for m in lines(epochs)])
    np.testing.assert_array_equal(other.lines[0].get_ydata(), [m["test_kl"] for m in lines(epochs)])
    assert "nats" in left.get_ylabel() and "nats" in right.get_ylabel() and "nats" in other.get_ylabel()
    check(f)


def test_curves_survive_values_that_are_not_finite():
    broken = lines(3)
    broken[1]["test_negative_elbo"] = broken[1]["test_cost"] = math.inf
    broken[2]["train_negative_elbo"] = math.nan
    check(plots.curves(broken))


def test_comparison_labels_each_curve_with_its_end_without_overlap():
    runs = {"one": lines(50, start=40), "two": lines(50, start=40.1), "three": lines(50, start=90)}
    f = plots.comparison(runs, 17.0, "three runs")
    axes, = f.axes
    assert {t.get_text().split("  ")[0] for t in axes.texts} == {*runs, "collapsed posterior"}
    assert f"one  {lines(50)[-1]['test_negative_elbo']:.1f}" in [t.get_text() for t in axes.texts]
    check(f)
    boxes = [t.get_window_extent() for t in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("N, shape", [(1, (8, 8)), (7, (8, 8)), (60, (28, 28)), (60, (1, 5)), (12, (64, 3))])
def test_grid_holds_every_image(N, shape):
    images = DRAWS.random((N, shape[0] * shape[1])).astype(np.float32)
    f = plots.grid(images, shape, "samples")
    shown = np.ma.filled(f.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_array_equal(np.sort(shown[~np.isnan(shown)]), np.sort(images.ravel()))
    check(f)


def test_sixty_square_images_leave_no_empty_place():
    shown = plots.grid(np.zeros((60, 64)), (8, 8)).axes[0].images[0].get_array()
    assert (shown.shape[0] + 1) // 9 * ((shown.shape[1] + 1) // 9) == 60


@pytest.mark.parametrize("N, shape", [(1, (8, 8)), (10, (28, 28))])
def test_rows_of_images_are_named(N, shape):
    names = ["input", "binarized", "probabilities", "sample"]
    f = plots.rows_of_images({n: DRAWS.random((N, shape[0] * shape[1])) for n in names}, shape, "images", ["1.0"] * N)
    assert [t.get_text() for t in f.axes[0].get_yticklabels()] == names
    assert len(f.axes[0].get_xticklabels()) == N
    check(f)


@pytest.mark.parametrize("D, K", [(1, 1), (1, 2), (4, 8), (24, 4), (24, 24), (2, 24)])
def test_traversal_frames_the_code_of_the_image(D, K):
    shape = (8, 8) if D < 24 else (28, 28)
    code = DRAWS.integers(0, K, D)
    f = plots.traversal(DRAWS.random((D, K, shape[0] * shape[1])), code, np.arange(D), np.arange(K), shape, "a title")
    corners = [patch.get_xy() for patch in f.axes[0].patches]
    assert corners == [(k * (shape[1] + 1) - 1, d * (shape[0] + 1) - 1) for d, k in enumerate(code)]
    check(f)


def test_traversal_without_the_codes_category_frames_nothing():
    f = plots.traversal(np.zeros((1, 2, 4)), [5], [3], np.arange(2), (2, 2))
    assert not f.axes[0].patches


@pytest.mark.parametrize("D, K", [(1, 1), (4, 8), (8, 64), (200, 2)])
def test_code_use_shows_perplexity_and_kl(D, K):
    use = DRAWS.dirichlet(np.full(K, 0.5), D)
    use[0] = np.eye(K)[0]                                           # one category only: perplexity 1, no 0 log 0
    kl = DRAWS.random(D)
    f = plots.code_use(use, kl)
    left, middle, right = f.axes[:3]
    np.testing.assert_array_equal(left.images[0].get_array(), 100 * use)
    widths = [bar.get_width() for bar in middle.patches]
    assert widths[0] == pytest.approx(1, abs=1e-12) and max(widths) <= K * (1 + 1e-12)
    np.testing.assert_array_equal([bar.get_width() for bar in right.patches], kl)
    assert "nats" in right.get_xlabel()
    check(f)


def test_same_figure_gives_the_same_bytes(tmp_path):
    plots.save(plots.grid(np.eye(9), (3, 3)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == plots.png(plots.grid(np.eye(9), (3, 3)))


def test_matplotlib_is_imported_only_when_drawing():
    code = "import sys, npdvae.report, npdvae.sample; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
