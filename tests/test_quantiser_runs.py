"""Quantisers in whole runs, from the command line, and two steps of each on the three backends. Share: 8 s."""
import json

import numpy as np
import pytest

from npdvae import backends, build, evaluate, latents, optimizers, report, sample, train
from npdvae.data.dataset import Dataset
from npdvae.describe import Recipe
from npdvae.engine import Readable
from npdvae.model import DiscreteVAE
from npdvae.rng import INIT, Generator
from npdvae.run import Run
from npdvae.settings import resolve
from npdvae.state import TrainState
from tests.checks import close
from tests.cuda.places import place

# ---- the three backends ----------------------------------------------------------------------------------------------

STEPS = {
    "ema": ("vq", {"latents": 2, "size": 3, "prior": "learned"}, None),
    "microbatches": ("vq", {"latents": 2, "size": 3, "grouped": True}, 4),
    "revive": ("vq", {"latents": 2, "size": 3, "revive": 0.9}, None),
    "cosine": ("vq", {"latents": 2, "size": 3, "cosine": True, "codebook": "gradient"}, None),
    "residual": ("vq", {"latents": 4, "size": 3, "levels": 2, "rotation": True}, None),
    "simvq": ("vq", {"latents": 2, "size": 3, "codebook": "simvq"}, None),
    "dither": ("fsq", {"latents": 3, "categories": 4, "dither": True}, None),
    "lfq": ("lfq", {"latents": 3, "prior": "autoregressive"}, None),
    "bsq": ("bsq", {"latents": 3}, None),
    "soft": ("soft_vq", {"latents": 2, "size": 3, "estimator": "gumbel_softmax"}, None),
    "soft exact": ("soft_vq", {"latents": 2, "categories": 3, "size": 3, "estimator": "exact"}, None),
}


def two_steps(case, ops):
    """Sums, evaluation and state after two steps from the parameters that every backend is given."""
    name, options, microbatch = STEPS[case]
    model = DiscreteVAE(14, (9,), latents.get(name, ops=ops, **options))
    rows = np.random.default_rng(0).integers(0, 256, (16, 14)).astype(np.uint8)
    recipe = Recipe(optimizers.get("adam", ops=ops), lambda s: 1e-2, lambda s: 1.0, 6, microbatch, None, "dynamic", 3,
                    np.dtype("f4"))
    engine = build.choose_engine(model, recipe, Dataset("small", rows[6:], rows[:6], (2, 7)))
    host = latents.get(name, **options)
    params = DiscreteVAE(14, (9,), host).init(Generator(3, INIT), np.float32)
    for k in params:
        if k == "latent.codebook" and name == "vq":
            params[k] = 4 * params[k]           # beyond the encoder's first outputs: several codes are in use
    state = host.init_state(Generator(3, INIT), 0)
    engine.load(TrainState(params, optimizers.get("adam").init(params), state, 0))
    sums = engine.run(np.arange(10))
    assert isinstance(engine, Readable) and (ops.name == "numpy" or microbatch or name in engine.why)
    return sums, np.asarray(engine.evaluate(engine.dataset.test)), engine.save()


@pytest.mark.parametrize("backend", ["numba", "cupy"])
@pytest.mark.parametrize("case", STEPS)
def test_two_steps_are_the_same_on_every_backend(case, backend):
    """1e-4: float32 sums of a dozen products, and two steps of Adam."""
    expected = two_steps(case, backends.load("numpy"))
    if backend == "cupy":
        with place("emulator"):
            found = two_steps(case, backends.load("cupy"))
    else:
        found = two_steps(case, backends.load(backend))
    for a, b in zip(found[:2], expected[:2]):
        close(a, b, 1e-4)
    for part in ("params", "latent"):
        a, b = getattr(found[2], part), getattr(expected[2], part)
        assert (a is None) == (b is None) and set(a or {}) == set(b or {})
        for k in b or {}:
            assert a[k].dtype == b[k].dtype, k
            if not k.startswith(("encoder", "decoder")):            # which magnify rounding by Adam's first steps
                close(a[k], b[k], 1e-3, max(np.abs(b[k]).max(), 0.1))
    for k, v in expected[2].moments.items():
        if k.startswith("m."):
            close(found[2].moments[k], v, 1e-3, np.abs(v).max() + 1e-7)


# ---- whole runs ------------------------------------------------------------------------------------------------------

SETTINGS = ["--hidden", "12", "--batch-size", "300", "--backend", "numpy", "--no-figures"]
RUNS = {"vq": ["--latent", "vq", "--prior", "learned", "--categories", "5", "--latent-options", "size=3", "revive=0.2"],
        "residual": ["--latent", "vq", "--latent-options", "levels=2", "codebook=simvq", "--latents", "4"],
        "fsq": ["--latent", "fsq", "--latent-options", "dither=true", "--prior", "autoregressive"],
        "bsq": ["--latent", "bsq", "--latents", "6"],
        "soft_vq": ["--latent", "soft_vq", "--estimator", "gumbel_softmax", "--free-bits", "0.1"]}


@pytest.fixture(scope="module", params=RUNS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / request.param
    assert train.main([*RUNS[request.param], *SETTINGS, "--epochs", "3", "--out", str(path)]) == 0
    return path


def test_run_resumes_to_the_same_bits(folder, tmp_path):
    out = tmp_path / "again"
    assert train.main([*RUNS[folder.name], *SETTINGS, "--epochs", "1", "--out", str(out)]) == 0
    assert train.main(["--resume", str(out), "--epochs", "3"]) == 0
    a, b = Run.load(out), Run.load(folder)
    assert a.step == b.step == 15 and set(a.params) == set(b.params)
    assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)
    ends = [json.loads((f / "metrics.jsonl").read_text().splitlines()[-1]) for f in (out, folder)]
    assert all(ends[0][k] == ends[1][k] for k in ends[0] if not k.startswith("seconds"))


def test_run_is_evaluated_sampled_and_reported(folder, capsys):
    point = folder.name != "soft_vq"
    assert evaluate.main([str(folder), "--samples", "5"]) == 0
    text = capsys.readouterr().out
    assert ("deterministic bound" in text and "samples of codes softened at temperature" in text) == point
    assert ("  codebook: " in text) == (folder.name in ("vq", "soft_vq"))
    assert sample.main([str(folder), "--count", "4", "--out", str(folder / "s.npz")]) == 0
    assert report.main([str(folder), "--images", "3", "--samples", "2"]) == 0
    page = (folder / "report.html").read_text()
    assert ("negative deterministic bound" in page) == point
    assert ("codebook perplexity" in page) == ("vq" in folder.name)
    run = Run.load(folder)
    codes, images = run.sample(3)
    assert images.shape == (3, 64) and codes.dtype.kind == "i" and np.isfinite(run.elbo(run.targets(
        run.dataset(), run.dataset().test[:4]))).all()
    assert run.encode(images).shape == (3, run.config.latents, run.config.categories)


@pytest.mark.parametrize("arguments, message", [
    ({"latent": "vq", "kl_weight": 0.5}, "vq has no analytic KL to weigh, so --kl-weight and --kl-warmup cannot"),
    ({"latent": "fsq", "kl_warmup": 10}, "fsq has no analytic KL to weigh"),
    ({"latent": "vq", "free_bits": 0.1}, "--free-bits: latent vq cannot use it"),
    ({"latent": "lfq", "samples": 2}, "--samples: latent lfq cannot use it"),
    ({"latent": "bsq", "estimator": "rloo"}, "--estimator: latent bsq cannot use it"),
    ({"latent": "lfq", "microbatch": 10}, "--microbatch: lfq reads the whole batch of a step"),
    ({"latent": "vq", "microbatch": 10, "latent_options": {"revive": 0.1}}, "--microbatch: vq reads the whole batch"),
    ({"latent": "vq", "latent_options": {"levels": 3}}, "latent vq: levels must divide latents = 4"),
    ({"latent": "vq", "categories": 7000, "data": "digits"}, "start=kmeans needs an encoder output for each of 7000")])
def test_settings_that_a_quantiser_cannot_use_are_refused(arguments, message):
    with pytest.raises(ValueError) as raised:
        job = build.build(resolve({**arguments, "backend": "numpy", "hidden": [8]}))
        build.fresh_state(job)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_microbatches_are_allowed_where_they_change_nothing():
    for arguments in ({"latent": "vq", "microbatch": 10}, {"latent": "fsq", "microbatch": 10},
                      {"latent": "lfq", "microbatch": 50}, {"latent": "lfq", "microbatch": 10,
                                                            "latent_options": {"entropy_weight": 0.0}}):
        build.build(resolve({**arguments, "backend": "numpy", "hidden": [8]}))
