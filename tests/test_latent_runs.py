"""Continuous latents on every backend, and from the command line: train, resume, evaluate, sample, report. Share: 4 s.
"""
import json
import pathlib
import runpy

import numpy as np
import pytest

from npdvae import backends, build, evaluate, latents, optimizers, report, sample, train
from npdvae.data.dataset import Dataset
from npdvae.describe import Recipe
from npdvae.engine import Readable
from npdvae.model import DiscreteVAE
from npdvae.run import Run
from tests.cuda.places import place
from tests.test_own_parts import run

PIXELS, f4 = 14, np.float32
LATENTS = [("gaussian", {}), ("student_t", dict(samples=2, transform="sigmoid")),
           ("laplace", dict(kl="sampled", prior_family="logistic", transform="exp")),
           ("triangular", dict(samples=3, gradient="score")), ("logistic", dict(free_bits=0.02)),
           ("uniform", dict(kl="parameters")), ("kumaraswamy", dict(samples=2)), ("gamma", {}),
           ("dirichlet", dict(samples=2))]
SETTINGS = ["--latents", "3", "--hidden", "20", "--batch-size", "100", "--backend", "numpy", "--no-figures"]


def job(name, options, ops):
    """Model, recipe and data; dynamic binarization, two batches, the second not full."""
    rows = np.random.default_rng(0).integers(0, 256, (16, PIXELS)).astype(np.uint8)
    recipe = Recipe(optimizers.get("adam", ops=ops), lambda s: 1e-2, lambda s: 0.5, 6, None, None, "dynamic", 3,
                    np.dtype(f4))
    model = DiscreteVAE(PIXELS, (9, 7), latents.get(name, latents=3, ops=ops, **options))
    return model, recipe, Dataset("small", rows[6:], rows[:6], (2, 7))


@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
@pytest.mark.parametrize("name, options", LATENTS)
def test_every_backend_takes_the_same_two_steps(name, options, backend):
    """Costs: 1e-5, sums of a dozen float32 products; gradients: 1e-4, since the score takes costs from their mean."""
    expected = run(Readable(*job(name, options, backends.load("numpy"))))
    if backend == "cupy":
        with place("emulator"):
            made = build.choose_engine(*job(name, options, backends.load("cupy")))
            found = run(made)
    else:
        made = build.choose_engine(*job(name, options, backends.load(backend)))
        found = run(made)
    assert made.name == ("readable" if backend == "numpy" else "segmented")
    assert name in made.why or backend == "numpy"
    for a, b in ((found[0], expected[0]), (found[1], expected[1])):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    for k, v in expected[2].moments.items():
        if k.startswith("m."):                  # the gradients: parameters after Adam magnify rounding
            assert np.abs(found[2].moments[k] - v).max() <= 1e-4 * np.abs(v).max() + 1e-9, k


@pytest.mark.parametrize("name, options", LATENTS)
def test_evaluation_on_the_device_has_the_hosts_numbers(name, options):
    """q, log-ratio, prior samples and traversals on CuPy."""
    def numbers(ops):
        latent, xp = latents.get(name, latents=3, ops=ops, **options), ops.xp
        h = xp.asarray(np.random.default_rng(1).normal(size=(4, latent.width)).astype(f4))
        q, generator = latent.posterior({}, h), build.rng.Generator(2, draw_uniform=ops.uniform)
        z = latent.sample({}, q, generator, 2)
        rows = latent.traverse({}, latent.mode({}, q)[0], 1)
        made = [q.kl, z, latent.log_ratio({}, q, z), latent.rows({}, latent.sample_prior({}, generator, 5)), rows]
        return [ops.to_host(a) for a in made]

    expected = numbers(backends.load("numpy"))
    with place("emulator"):
        found = numbers(backends.load("cupy"))
    for a, b in zip(found, expected):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.abs(a - b).max() <= 1e-5 * max(1, np.abs(b).max())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two epochs on the digits."""
    path = tmp_path_factory.mktemp("runs") / "laplace"
    assert train.main([*SETTINGS, "--latent", "laplace", "--samples", "2", "--latent-options", "transform=sigmoid",
                       "--epochs", "2", "--free-bits", "0.01", "--kl-warmup", "5", "--out", str(path)]) == 0
    return path


def test_a_resumed_run_has_the_same_bits(folder, tmp_path):
    again = tmp_path / "again"
    assert train.main([*SETTINGS, "--latent", "laplace", "--samples", "2", "--latent-options", "transform=sigmoid",
                       "--epochs", "1", "--free-bits", "0.01", "--kl-warmup", "5", "--out", str(again)]) == 0
    assert train.main(["--resume", str(again), "--epochs", "2"]) == 0
    a, b = (Run.load(f) for f in (folder, again))
    assert a.step == b.step == 30
    assert all(np.array_equal(v, b.params[k]) for k, v in a.params.items())


def test_every_command_takes_a_continuous_latent(folder, capsys):
    assert evaluate.main([str(folder), "--samples", "5", "--json", str(folder / "f.json")]) == 0
    assert "no codes to enumerate" in capsys.readouterr().out
    figures = json.loads((folder / "f.json").read_text())
    assert figures["log_prob"] is figures["code_use"] is None and len(figures["kl_per_latent"]) == 3
    assert -figures["importance_weighted_bound"] < figures["negative_elbo"]
    assert sample.main([str(folder), "--count", "4", "--out", str(folder / "z.npz")]) == 0
    with np.load(folder / "z.npz") as made:
        assert made["codes"].shape == (4, 3) and made["codes"].dtype.kind == "f"
        assert made["images"].shape == (4, 8, 8) and 0 <= made["images"].min() <= made["images"].max() <= 1
    assert report.main([str(folder), "--samples", "2"]) == 0
    text = (folder / "report.html").read_text()
    assert "laplace on digits" in text and "D=3," in text and "K=" not in text
    assert "12 quantiles of its prior" in text and "each of its categories" not in text


def test_a_run_encodes_and_decodes(folder):
    trained = Run.load(folder)
    x = trained.targets(trained.dataset(), trained.dataset().test[:5])
    q = trained.encode(x)
    assert set(q) == {"loc", "scale"} and q["loc"].shape == (5, 3) and (q["scale"] > 0).all()
    assert np.array_equal(trained.mode_of(x), q["loc"]) and trained.decode(q["loc"]).shape == (5, 64)
    with pytest.raises(ValueError, match=r"z must be float \[N, 3\], got int64 \[1, 3\]"):
        trained.decode([[1, 2, 3]])
    with pytest.raises(ValueError, match="cannot be enumerated: the latent has no codes"):
        trained.log_prob(x)


@pytest.mark.parametrize("settings, message", [
    (["--categories", "4"], "--categories: latent gaussian cannot use it"),
    (["--estimator", "rloo"], "--estimator: latent gaussian cannot use it"),
    (["--prior", "learned"], "--prior: latent gaussian cannot use it"),
    (["--baseline", "none"], "--baseline: latent gaussian cannot use it"),
    (["--temperature", "0.5"], "--temperature: latent gaussian cannot use it"),
    (["--estimator-options", "anneal=exponential"], "--estimator-options: latent gaussian cannot use it"),
    (["--latent-options", "gradient=score"], "gradient score compares samples, so it needs at least 2, got 1"),
    (["--latent-options", "nu=3"], "latent gaussian has no option 'nu'"),
    (["--latent-options", "kl=5"], "option kl must be a name, got 5"),
    (["--latent", "gausian"], "unknown latent 'gausian'; did you mean gaussian"),
])
def test_wrong_options_are_refused_in_one_line(settings, message, tmp_path, capsys):
    assert train.main([*SETTINGS, "--latent", "gaussian", "--epochs", "1", "--out", str(tmp_path / "r"),
                       *settings]) != 0
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "r").exists()


def test_weights_of_the_kl_are_fine(tmp_path):
    assert train.main([*SETTINGS, "--latent", "gaussian", "--epochs", "1", "--kl-weight", "0.5", "--out",
                       str(tmp_path / "r")]) == 0


def test_the_table_of_runs_is_what_is_stored():
    docs = pathlib.Path(__file__).parent.parent / "docs"
    assert runpy.run_path(str(docs / "latents.py"))["page"]() == (docs / "latents.md").read_text()
