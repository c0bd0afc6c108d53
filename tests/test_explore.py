"""The explorer's writer: the assembler, strings of a run, what a page holds, mistakes. Share of the suite: 4 s.

What the page computes is compared in a browser, in tests/test_explore_browser.py.
"""
import base64
import hashlib
import json
import re
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest

from npdvae import backends, report, train
from npdvae.explore import __main__ as explore
from npdvae.explore import blobs, latents, model, page, wat
from npdvae.latents.categorical import Categorical
from npdvae.run import Run
from tests.test_report import Reader

SMALL = ["--epochs", "1", "--hidden", "12", "--backend", "numpy", "--batch-size", "500", "--no-figures"]


def trained(folder, *options):
    assert train.main([*options, *SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one epoch on the digits, D=2, K=3."""
    return trained(tmp_path_factory.mktemp("runs") / "small", "--latents", "2", "--categories", "3")


def parts(text):
    """The page's JSON and its script."""
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.S)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="run"', ""]
    return json.loads(scripts[0][1]), scripts[1][1]


def array(blob):
    return np.frombuffer(base64.b64decode(blob["data"]), blob["type"]).reshape(blob["shape"])


# ---- the assembler ------------------------------------------------------------------------------------------------

def test_assembler_writes_the_bytes_of_the_specification():
    text = """(module (import "env" "memory" (memory 1))     ;; a comment
      (func (export "f") (param $n i32) (local $k i32) (local $v v128)
        (loop $up (local.set $k (i32.add (local.get $k) (i32.const -65)))
          (v128.store offset=16 (local.get $k) (v128.load32_splat (i32.const 300)))
          (loop $in (br_if $up (i32.lt_u (local.get $k) (local.get $n)))))))"""
    assert wat.assemble(text).hex(" ") == " ".join((
        "00 61 73 6d 01 00 00 00",                                  # magic, version 1
        "01 05 01 60 01 7f 00",                                     # type: (i32) -> ()
        "02 0f 01 03 65 6e 76 06 6d 65 6d 6f 72 79 02 00 01",       # import env.memory, at least 1 page
        "03 02 01 00",                                              # one function of type 0
        "07 05 01 01 66 00 00",                                     # export f
        "0a 2a 01 28 02 01 7f 01 7b",                               # code; locals: one i32, one v128
        "03 40 20 01 41 bf 7f 6a 21 01",                            # loop; k = k + -65
        "20 01 41 ac 02 fd 09 02 00 fd 0b 04 10",                   # store at k + 16 of splat(load 300)
        "03 40 20 01 20 00 49 0d 01 0b 0b 0b"))                     # loop; br_if to the outer one; ends


@pytest.mark.parametrize("text, message", [
    ("(module (import \"a\" \"b\" (memory 1)) (func (export \"f\") (i64.nop)))", "i64.nop"),
    ("(module (", "one expression"), ("(module))", "one expression"), ("(mod (import \"a\" \"b\" (memory 1)))", "mod")])
def test_assembler_refuses_what_it_does_not_know(text, message):
    with pytest.raises(ValueError, match=message):
        wat.assemble(text)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 127, 128, 300, 2 ** 31 - 1, -1, -64, -65, -128, -129])
def test_numbers_of_any_length_read_back(n):
    """By the definition of LEB128: seven bits each, the lowest first; the last one's second bit is the sign."""
    for written, is_signed in [(wat.signed(n), True)] + ([(wat.unsigned(n), False)] if n >= 0 else []):
        value = sum((b & 127) << 7 * i for i, b in enumerate(written))
        value -= (written[-1] >> 6 & 1 and is_signed) << 7 * len(written)
        assert value == n and [b >> 7 for b in written] == [1] * (len(written) - 1) + [0]


# ---- the page -----------------------------------------------------------------------------------------------------

def test_page_is_one_file_that_may_load_nothing(folder, capsys):
    assert explore.main([str(folder), "--images", "5", "--samples", "7"]) == 0
    assert "explore.html (0." in capsys.readouterr().out
    text = (folder / "explore.html").read_text(encoding="utf-8")
    read, (held, script) = Reader(text), parts(text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#x27;", "'")
    assert policy.startswith("default-src 'none'; ")
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert read.links == [] and "http:" not in text and "https:" not in text and "{{" not in text
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(", script) and "eval(" not in script
    assert base64.b64decode(held["kernel"]["data"]) == page.kernel()
    assert (held["images"]["shape"], held["prior"]["shape"]) == ([5, 64], [7, 2])
    assert held["title"] == "digits: 2 latents of 3 categories" and held["shape"] == [8, 8] and held["binary"]
    assert not list(folder.glob("*.tmp"))


def test_strings_of_the_run_stay_text():
    evil = "</script><!--<b>&amp;\u2028</title>{{script}}"
    contents = {"title": evil, "facts": [evil], "notes": [evil]}
    text = page.html(contents)
    held, script = parts(text)
    assert held["facts"] == [evil] and "b" not in Reader(text).tags
    assert text.count("<title>") == text.count("</title>") == 1 and text.count(script) == 1
    assert "".join(Reader(text).words).count(evil) == 2             # title and heading


def test_page_holds_the_weights_and_the_prior_of_every_code(folder):
    run = Run.load(folder)
    held = model.contents(run, run.dataset(), 3, 4, 0)
    for name, layers in (("encoder", held["encoder"]["layers"]), ("decoder", held["decoder"]["layers"])):
        for i, layer in enumerate(layers):
            np.testing.assert_array_equal(array(layer["weight"]), run.params[f"{name}.{i}.weight"])
            np.testing.assert_array_equal(array(layer["bias"]), run.params[f"{name}.{i}.bias"])
    assert held["exact"]["codes"] == 9
    np.testing.assert_allclose(array(held["exact"]["log_prior"]), np.full(9, -2 * np.log(3)), rtol=1e-6)    # float32
    np.testing.assert_array_equal(array(held["prior"]), run.sample(4, 0)[0])
    assert set(np.unique(array(held["images"]))) <= {0, 1} and held["labels"] == [0, 1, 2]


@pytest.mark.parametrize("options, sentence", [
    (["--latents", "9", "--categories", "8"], "8⁹ codes, too many"),
    (["--latent", "gaussian"], "z is continuous"),
    (["--binarize", "none"], "no log-probabilities")])
def test_what_cannot_be_shown_is_left_out_with_a_sentence(options, sentence, tmp_path):
    run = Run.load(trained(tmp_path / "run", *options))
    held = model.contents(run, run.dataset(), 3, 4, 0)
    assert held["exact"] is None and len(held["notes"]) == 1 and sentence in held["notes"][0]


def test_rows_that_are_no_sum_over_latents_are_refused(folder):
    run = Run.load(folder)

    class Product(type(run.model.latent)):
        def rows(self, params, z):
            return (z[..., :1] * z[..., 1:]).astype("f8")
    latent = Product(2, 3)
    with pytest.raises(ValueError, match="no sum over latents"):
        latents.describe(latent, run.params)


def test_tables_larger_than_a_page_are_refused_before_they_are_made():
    latent = Categorical(1, 2 ** 20, ops=backends.load("numpy"))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"categorical: .* {2 ** 40} numbers, more than the {2 ** 25} that a page"):
            latents.describe(latent, {})
        assert tracemalloc.get_traced_memory()[1] < 1e6             # bytes: less than one for each category
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most, numbers", [(60, None), (59, 60), (39, 40), (19, 20)])
def test_every_table_of_its_own_counts(most, numbers, monkeypatch):
    class Many(Categorical):
        def rows(self, params, z):                                  # D = 3 tables [K, F] = [4, 5]
            return params["tables"][np.arange(3), z].sum(-2)
    params = {"tables": np.random.default_rng(0).normal(size=(3, 4, 5))}
    latent = Many(3, 4, ops=backends.load("numpy"))
    monkeypatch.setattr(blobs, "MOST_NUMBERS", most)
    with nullcontext() if numbers is None else pytest.raises(ValueError, match=f" {numbers} numbers, more than"):
        assert array(latents.describe(latent, params)["tables"]).shape == (3, 4, 5)


def test_a_latent_of_ones_own_opens_without_its_encoder(tmp_path, monkeypatch):
    (tmp_path / "explored.py").write_text("from npdvae.latents.location_scale import Gaussian\n"
                                      "class Mine(Gaussian):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = trained(tmp_path / "run", "--latent", "explored:Mine", "--latents", "2")
    assert explore.main([str(run)]) == 2
    assert explore.main([str(run), "--trust"]) == 0
    held, _ = parts((run / "explore.html").read_text())
    assert held["latent"]["encoder"] is None and held["latent"]["transform"] == "none"
    assert "code of its own" in held["notes"][0]


def test_report_links_to_the_page_where_it_is(folder, tmp_path):
    out = tmp_path / "out"
    assert report.main([str(folder), "--images", "2", "--out", str(out)]) == 0
    read = Reader((out / "report.html").read_text())
    assert f"python -m npdvae.explore {folder}" in read.words and "explore.html" not in read.links
    assert explore.main([str(folder), "--out", str(out / "explore.html")]) == 0
    assert report.main([str(folder), "--images", "2", "--out", str(out)]) == 0
    assert "explore.html" in Reader((out / "report.html").read_text()).links


@pytest.mark.parametrize("arguments, message", [
    (["nowhere"], "nowhere: no run there"),
    (["RUN", "--images", "0"], "--images: got 0, expected 1 to 1000"),
    (["RUN", "--samples", "20000"], "--samples: got 20000, expected 1 to 10000"),
    (["RUN", "--checkpoint", "missing"], "missing: no such checkpoint"),
    (["RUN", "--seed", "-1"], "seed must be between 0 and"),
    (["RUN", "--out", "RUN/config.toml/x.html"], "config.toml"),
])
def test_mistakes_get_one_line_and_exit_code_2(folder, capsys, arguments, message):
    assert explore.main([a.replace("RUN", str(folder)) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("npdvae: error: ")


def test_facts_name_the_bound_of_the_run(folder, tmp_path):
    assert model.facts(Run.load(folder))[-1].startswith("test negative ELBO ")
    quantiser = trained(tmp_path / "vq", "--latent", "vq", "--latents", "2", "--categories", "3")
    assert model.facts(Run.load(quantiser))[-1].startswith("test negative deterministic bound ")
