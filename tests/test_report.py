"""The report of a small run and the page that holds it. Share of the suite: 3 s."""
import base64
import html.parser
import json
import re

import numpy as np
import pytest

from npdvae import data, page, report, train
from npdvae.run import Run


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and text; checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.open = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two epochs on the digits, D=3, K=5."""
    path = tmp_path_factory.mktemp("runs") / "small"
    assert train.main(["--epochs", "2", "--latents", "3", "--categories", "5", "--hidden", "20", "--backend", "numpy",
                       "--batch-size", "100", "--validation", "0.1", "--no-figures", "--out", str(path)]) == 0
    return path


def test_page_needs_nothing_else_and_escapes_everything():
    blocks = [page.picture(b"123", 'x"><script>'), page.table([("<u>", 1.5, 2)], "abc")]
    text = page.html("<b>&", "a < b", [("<i>", [*blocks, page.folded("<s>", "</pre>&amp;")])])
    read = Reader(text)
    assert not {"b", "i", "u", "s", "script", "link"} & set(read.tags)
    assert read.links == ["data:image/png;base64," + base64.b64encode(b"123").decode()]
    assert "<b>&" in read.words and "</pre>&amp;" in read.words
    assert "default-src 'none'" in text


def test_page_sets_numbers_right_and_words_left():
    assert "<td class=n>-<" in page.table([("a", "-")])
    text = page.table([("a", 1.25, 3, "remark")], ("name", "x", "n", "what"))
    assert re.findall(r"<t[dh]( class=n)?>([^<]*)", text) == [
        ("", "name"), (" class=n", "x"), (" class=n", "n"), ("", "what"),
        ("", "a"), (" class=n", "1.25"), (" class=n", "3"), ("", "remark")]


def test_report_writes_figures_and_one_self_contained_page(folder, capsys):
    assert report.main([str(folder)]) == 0
    assert "report.html" in capsys.readouterr().out
    names = ["elbo", "reconstructions", "traversals", "prior", "code_use"]
    files = {n: (folder / "figures" / f"{n}.png").read_bytes() for n in names}
    text = (folder / "report.html").read_text(encoding="utf-8")
    read = Reader(text)
    inside = [base64.b64decode(link.removeprefix("data:image/png;base64,")) for link in read.links]
    assert inside == list(files.values())
    assert "script" not in read.tags and "http" not in re.sub("http-equiv", "", text)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    words = " ".join(read.words)
    assert f"{last['test_negative_elbo']:.2f}" in words             # the page and the training log agree
    assert "nats" in words and "all 125 codes" in words and "latents = 3" in words


def test_report_of_a_grey_run_without_metrics_in_another_folder(tmp_path):
    run = tmp_path / "grey"
    assert train.main(["--epochs", "1", "--latents", "1", "--categories", "2", "--hidden", "8", "--backend", "numpy",
                       "--batch-size", "500", "--binarize", "none", "--no-figures", "--out", str(run)]) == 0
    (run / "metrics.jsonl").unlink()
    assert report.main([str(run), "--out", str(tmp_path / "out"), "--images", "3"]) == 0
    words = " ".join(Reader((tmp_path / "out" / "report.html").read_text()).words)
    assert "floor of grey targets" in words and "Training" not in words
    assert "grey targets have none" in words and "bounds bound nothing" in words and "bits per dimension" not in words
    assert not (run / "figures").exists() and not (tmp_path / "out" / "figures" / "elbo.png").exists()
    rows, x, captions = report.reconstructions(Run.load(run), Run.load(run).dataset(), 3)
    assert list(rows) == ["input\nprobabilities", "reconstruction\nprobabilities", "reconstruction\nsample"]
    np.testing.assert_array_equal(rows["input\nprobabilities"], x)


def test_report_of_continuous_z_and_a_density_speaks_of_neither_codes_nor_probabilities(tmp_path):
    run = tmp_path / "run"
    assert train.main(["--epochs", "1", "--latent", "gaussian", "--latents", "2", "--likelihood", "gaussian",
                       "--hidden", "8", "--backend", "numpy", "--batch-size", "500", "--no-figures", "--out",
                       str(run)]) == 0
    assert report.main([str(run), "--images", "3"]) == 0
    words = " ".join(Reader((run / "report.html").read_text()).words).split("Settings")[0]
    for word in (" code", "probabilit", "categor", "collapsed", "bits per dimension", "log p(x)", "grey"):
        assert word not in words, word
    assert "pixel means at a z drawn from q(z | x)" in words and "The pixel means of z drawn from the prior." in words
    assert list(report.reconstructions(Run.load(run), Run.load(run).dataset(), 3)[0]) == [
        "input", "reconstruction\nmeans", "reconstruction\nsample"]


def test_reconstructions_belong_to_one_another(folder):
    run = Run.load(folder)
    dataset = run.dataset()
    rows, x, captions = report.reconstructions(run, dataset, 10)
    grey, binary, p, drawn = rows.values()
    digits = data.load("digits")
    np.testing.assert_array_equal(digits.test_labels[report.examples(dataset, 10)], np.arange(10))
    np.testing.assert_array_equal(binary, grey > 0.5)
    assert binary is x and set(np.unique(drawn)) <= {0, 1} and np.all((0 < p) & (p < 1))
    every = run.decode(np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3))
    assert all(np.abs(every - image).max(1).min() <= 1e-6 for image in p)   # float32: each is the decoding of a code
    sigma = np.sqrt((p * (1 - p)).sum())
    assert np.any(drawn != (p > 0.5)) and abs((drawn - p).sum()) <= 5 * sigma   # drawn, not rounded; fixed seed
    assert len(captions) == 10 and all(0 < float(c) < 100 for c in captions)


def test_examples_without_labels_are_the_first():
    rows = np.zeros((4, 4), np.uint8)
    assert report.examples(data.Dataset("made", rows, rows, (2, 2), 1), 10).tolist() == [0, 1, 2, 3]


def test_traversal_changes_one_latent_at_a_time(folder, monkeypatch):
    run = Run.load(folder)
    image = run.targets(run.dataset(), run.dataset().test)[7]
    images, code, latents, categories = report.traversal(run, image, np.array([0.1, 0.3, 0.2]))
    own = run.encode(image[None])[0].argmax(-1)
    assert latents.tolist() == [0, 1, 2] and categories.tolist() == list(range(5)) and code == own.tolist()
    for r in range(3):
        np.testing.assert_allclose(images[r, code[r]], run.decode(own[None])[0], atol=1e-6)   # float32, other batch
        other = own.copy()
        other[r] = (own[r] + 1) % 5
        np.testing.assert_allclose(images[r, other[r]], run.decode(other[None])[0], atol=1e-6)
    figures = {"collapsed_posterior": None, "importance_samples": 1, "soft_temperature": None}
    assert "set to each of its categories. Framed: the category that the image has." in report.caption(
        run, "traversals", figures)
    monkeypatch.setattr(report, "MOST", 2)
    assert "set to the first 2 of its categories." in report.caption(run, "traversals", figures)
    assert report.traversal(run, image, np.array([0.1, 0.3, 0.2]))[2].tolist() == [1, 2]      # the largest KL
    assert report.traversal(run, image, np.array([0.1, 0.3, 0.2]))[0].shape == (2, 2, 64)


@pytest.mark.parametrize("arguments, message", [
    (["nowhere"], "nowhere: no run there"),
    (["RUN", "--images", "0"], "--images: got 0, expected at least 1"),
    (["RUN", "--checkpoint", "missing"], "missing: no such checkpoint"),
    (["RUN", "--seed", "-1"], "seed must be between 0 and"),
    (["RUN", "--out", "RUN/config.toml"], "config.toml"),
])
def test_mistakes_get_one_line_and_exit_code_2(folder, capsys, arguments, message):
    assert report.main([a.replace("RUN", str(folder)) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("npdvae: error: ")
