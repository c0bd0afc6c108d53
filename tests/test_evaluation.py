"""Evaluation of a trained model and the API of a run, against slow sums over all codes. Share of the suite: 2 s."""
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from npdvae import backends, build, evaluate, evaluation, latents, likelihoods, rng, train
from npdvae.config import Config, with_defaults
from npdvae.data import Dataset
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.run import Run

OPS = backends.load("numpy")


def small(prior="uniform", seed=3):
    model = DiscreteVAE(6, (7,), Categorical(2, 3, "exact", prior=prior))
    params = model.init(rng.Generator(seed, rng.INIT), np.float64)
    noise = np.random.default_rng(seed)
    params = {k: 3 * noise.normal(size=v.shape) for k, v in params.items()}
    x = (noise.random((9, 6)) < 0.5).astype(np.float64)
    return model, params, x


def slow_log_joint(model, params, x):
    """log p(x_b, z) of every code by loops: [C, B]."""
    prior = np.exp(model.latent.prior.log_rows(params))
    rows = []
    for z in itertools.product(range(3), repeat=2):
        one_hot = np.zeros(6)
        one_hot[[z[0], 3 + z[1]]] = 1
        h = np.maximum(one_hot @ params["decoder.0.weight"] + params["decoder.0.bias"], 0)
        logits = h @ params["decoder.1.weight"] + params["decoder.1.bias"]
        like = [-math.fsum(np.logaddexp(0, -l if xj else l) for xj, l in zip(xb, logits)) for xb in x]
        rows.append([v + math.log(prior[0, z[0]]) + math.log(prior[1, z[1]]) for v in like])
    return np.array(rows)


@pytest.mark.parametrize("prior", ["uniform", "learned"])
@pytest.mark.parametrize("tile", [1, 4, 100])
def test_log_prob_equals_the_sum_over_all_codes(prior, tile):
    model, params, x = small(prior)
    expected = [math.log(math.fsum(np.exp(column))) for column in slow_log_joint(model, params, x).T]
    got = evaluation.log_prob(model, params, x, tile)
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()      # a few float64 roundings


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_bounds_stand_in_their_order(prior):
    """ELBO <= importance-weighted bound, increasing in samples, <= log p(x): with many images, beyond the noise."""
    model, params, _ = small(prior)
    x = (np.random.default_rng(0).random((2000, 6)) < 0.5).astype(np.float32)
    params = {k: ((0.1 if k.startswith("encoder") else 0.3) * v).astype(np.float32) for k, v in params.items()}
    data = Dataset("test", x, x[:1], (2, 3), 1)
    split = evaluation.Split(data, x, "none")
    cost, kl = evaluation.cost_and_kl(model, params, split)
    bounds = [-(cost + kl)] + [evaluation.importance_weighted(model, params, split, s) for s in (4, 50)]
    exact = evaluation.log_prob(model, params, x).mean()
    assert bounds[0] < bounds[1] < bounds[2] < exact + 1e-4        # float32 sums of 2,000 images
    assert bounds[2] > exact - 0.05


def test_elbo_with_one_sample_is_unbiased_for_the_enumerated_elbo():
    model, params, x = small()
    kept = model.encode(params, x)
    joint = slow_log_joint(model, params, x) + 2 * math.log(3)      # uniform prior: log p(x | z)
    q = np.array([kept.log_q[:, 0, a] + kept.log_q[:, 1, b] for a in range(3) for b in range(3)])
    expected = (np.exp(q) * joint).sum(0).mean() - kept.kl.sum(-1).mean()
    data = Dataset("test", x.astype(np.float32), x[:1].astype(np.float32), (2, 3), 1)
    split = evaluation.Split(data, data.train, "none", dtype=np.float64)
    got = -evaluation.cost_and_kl(model, params, split, samples=20_000).sum()
    spread = np.sqrt((np.exp(q) * joint ** 2).sum(0) - (np.exp(q) * joint).sum(0) ** 2).max()
    assert abs(got - expected) < 6 * spread / math.sqrt(20_000)     # six standard errors; the seed is fixed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert train.main(["--backend", "numpy", "--epochs", "30", "--hidden", "32", "--latents", "3", "--categories", "5",
                       "--no-figures", "--out", str(folder)]) == 0
    return Run.load(folder)


def test_the_command_writes_what_it_shows(run, tmp_path, capsys):
    assert evaluate.main([str(run.folder), "--samples", "20", "--json", str(tmp_path / "e.json")]) == 0
    shown, figures = capsys.readouterr().out, json.loads((tmp_path / "e.json").read_text())
    assert figures["log_prob"] >= figures["importance_weighted_bound"] - 0.05 >= -figures["negative_elbo"] - 0.1
    for key in ("log_prob", "importance_weighted_bound", "collapsed_posterior"):
        assert f"{abs(figures[key]):.3f}" in shown
    assert figures["negative_elbo"] < figures["collapsed_posterior"]
    assert np.allclose(np.sum(figures["code_use"], 1), 1, atol=1e-6)    # float32 probabilities
    assert sum(figures["kl_per_latent"]) == pytest.approx(figures["kl"], rel=1e-5)
    assert evaluate.main([str(run.folder), "--json", "--samples", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 297


def test_grey_targets_have_costs_and_no_probabilities(run):
    """Under a likelihood of 0 and 1; a density takes them, and drawn pixels are none."""
    rows = np.array([[0, 3, 16, 0]], np.uint8)
    for levels, values, mode, grey in ((16, rows, "none", True), (16, rows, "dynamic", False),
                                       (16, 16 * (rows > 8), "none", False), (1, rows / 16, "none", True)):
        split = evaluation.Split(Dataset("x", values, values, (2, 2), levels), values, mode)
        assert evaluation.grey_targets(run.model, split) == grey
        assert not evaluation.grey_targets(DiscreteVAE(4, (), run.model.latent, likelihoods.get("gaussian")), split)
    data = run.dataset()
    faded = np.clip(data.test[:50].astype(np.float32), 0.2, 0.8)
    split = evaluation.Split(replace(data, train=faded, test=faded, levels=1, train_labels=None, test_labels=None),
                             faded, "none")
    figures = evaluation.summary(run.model, run.params, split, 2)
    assert figures["grey_targets"] and figures["log_prob"] is figures["bits_per_dimension"] is None
    text = evaluate.table({"run": "r", "step": 1, "collapsed_posterior": None, **figures})
    assert "log p(x), exact          " in text and "(grey targets have none)" in text and evaluate.GREY in text
    assert "bits per dimension" not in text


def test_the_api_encodes_decodes_samples_and_scores(run):
    data = run.dataset()
    x = run.targets(data, data.test[:20])
    q = run.encode(x)
    assert q.shape == (20, 3, 5) and np.allclose(q.sum(-1), 1, atol=1e-6)
    codes, p = run.sample(7, seed=1)
    assert codes.shape == (7, 3) and p.shape == (7, 64) and (0 <= p).all() and (p <= 1).all()
    assert np.array_equal(run.sample(7, seed=1)[0], codes)
    rows = np.eye(5, dtype=np.float32)[codes]
    assert np.abs(run.decode(rows) - p).max() < 1e-6                # gather against product, float32
    a, _ = run.model.decoder.forward(run.params, rows.reshape(7, 15))
    assert np.abs(p - 1 / (1 + np.exp(-a))).max() < 1e-6
    assert (run.elbo(x, samples=2000) < run.log_prob(x) + 0.2).all()


@pytest.mark.parametrize("call, message", [
    (lambda r: r.decode(np.full((1, 3), 5)), "categories 0 to 4"),
    (lambda r: r.decode(np.zeros((1, 4), int)), "codes must be"),
    (lambda r: r.encode(np.zeros((2, 63))), "images must be rows"),
    (lambda r: r.encode(np.full((2, 64), np.nan)), "pixels must lie"),
    (lambda r: r.elbo(np.zeros((2, 64)), samples=0), "samples must be at least 1, got 0"),
    (lambda r: r.elbo(np.zeros((2, 64)), -1), "samples must be at least 1, got -1"),
    (lambda r: r.sample(-1), "n must not be negative, got -1"),
    (lambda r: Run.load(r.folder, "best"), "no --validation"),
    (lambda r: Run.load(r.folder / "nowhere"), "no run there"),
])
def test_the_api_refuses_wrong_input_by_name(run, call, message):
    with pytest.raises(ValueError, match=message):
        call(run)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("latent, options", [*((name, {}) for name in latents.names()), ("vq", {"levels": 2}),
                                             ("vq", {"grouped": True}), ("gaussian", {"kl": "sampled"})])
def test_no_images_have_empty_answers(latent, options):
    config = with_defaults(Config(latent=latent, latents=2, hidden=[5], latent_options=options))
    model = build.build_model(config, 6, OPS)
    run = Run(None, config, model.init(rng.Generator(1, rng.INIT), np.float32), 0, (2, 3), model)
    none = np.zeros((0, 6))
    one, (z, pixels) = run.draw(np.zeros((1, 6))), run.sample(0)
    assert run.elbo(none).shape == run.elbo(none, samples=3).shape == (0,)
    for found in (run.draw(none), run.mode_of(none), z):
        assert found.shape == (0, *one.shape[1:]) and found.dtype.kind == one.dtype.kind
        assert run.decode(found).shape == run.draw_images(found).shape == pixels.shape == (0, 6)
    readout = run.encode(none)
    assert all(len(a) == 0 for a in (readout.values() if isinstance(readout, dict) else [readout]))
    if model.latent.code_count() is not None:
        assert run.log_prob(none).shape == (0,)
