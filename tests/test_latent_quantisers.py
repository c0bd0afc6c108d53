"""What quantisers share: bounds against enumeration, posteriors, the softened bound. Share: 3 s."""
import itertools

import numpy as np
import pytest

from npdvae import evaluation, latents, rng, saved
from npdvae.data.dataset import Dataset
from npdvae.rng import Generator
from tests.checks import close
from tests.frozen import B, X, decoded_cost, model_of, parameters

CASES = {
    "vq": ("vq", {"latents": 2, "categories": 3, "size": 2}),
    "learned": ("vq", {"latents": 2, "categories": 3, "size": 2, "prior": "learned", "grouped": True}),
    "autoregressive": ("vq", {"latents": 3, "categories": 2, "size": 2, "prior": "autoregressive"}),
    "cosine": ("vq", {"latents": 2, "categories": 3, "size": 3, "cosine": True}),
    "residual": ("vq", {"latents": 4, "categories": 2, "size": 2, "levels": 2, "prior": "learned"}),
    "simvq": ("vq", {"latents": 2, "categories": 3, "size": 2, "codebook": "simvq"}),
    "fsq": ("fsq", {"latents": 2, "categories": 4, "prior": "learned"}),
    "lfq": ("lfq", {"latents": 3}),
    "bsq": ("bsq", {"latents": 3, "prior": "autoregressive"}),
}
among = pytest.mark.parametrize("case", CASES)


def problem(case):
    """Model, parameters, encoder outputs, and -log p(x, z) of every code by a loop: [K^D, B]."""
    name, options = CASES[case]
    model = model_of(latents.get(name, **options))
    params = parameters(model)
    latent, joint = model.latent, []
    for code in itertools.product(range(latent.categories), repeat=latent.latents):
        z = np.array([code])
        prior = 0.0
        for d in range(latent.latents):
            prior += float(latent.terms(params, z)[0, d])
        joint.append(decoded_cost(model, params, latent.rows(params, z)) - prior)
    return model, params, model.encoder.forward(params, X)[0], np.array(joint)


@among
def test_outline_has_the_shapes_of_fresh_parameters_without_a_warning(case):
    name, options = CASES[case]
    model = model_of(latents.get(name, **options))
    with np.errstate(all="raise"):
        found = saved.outline(model, 10 ** 6)
    fresh = model.init(Generator(0, rng.INIT), np.float32)
    assert {k: a.shape for k, a in found.items()} == {k: a.shape for k, a in fresh.items()}


@among
def test_deterministic_bound_above_exact(case):
    """cost - log p(code) is -log p(x, z) at the code: above -log p(x), by the log of its share."""
    model, params, h, joint = problem(case)
    exact = -np.log(np.exp(-joint).sum(0))                          # [B]
    close(-evaluation.log_prob(model, params, X), exact, 1e-12)
    q = model.latent.posterior(params, h)
    z = model.latent.sample(params, q, None, 2)                     # [2, B, D]
    bound = evaluation.cost_of(model, params, z, X)[1] + q.kl.sum(-1)
    at = (q.codes * model.latent.categories ** np.arange(model.latent.latents)[::-1]).sum(-1)
    close(bound, joint[at, range(B)], 1e-12)
    assert (bound >= exact).all() and (bound - exact).min() > 1e-3  # the share of one code of 8 to 16
    close(model.latent.log_ratio(params, q, z), -q.kl.sum(-1) * np.ones((2, 1)), 1e-13)
    for d in range(model.latent.latents):       # any other code has no probability
        other = z.copy()
        other[..., d] = (z[..., d] + 1) % model.latent.categories
        assert (model.latent.log_ratio(params, q, other) == -np.inf).all()


@among
def test_soft_posterior_bound(case):
    """E_q[p(x, z) / q(z)] = p(x) to rounding, whatever the temperature; its ELBO lies between nothing and that."""
    model, params, h, joint = problem(case)
    exact, codes = np.exp(-joint).sum(0), model.latent.codes()[:, None]     # [B], [K^D, 1, D]
    for temperature in (0.5, 4.0):
        soft = model.latent.soft(temperature)
        q = soft.posterior(params, h)
        ratio = soft.log_ratio(params, q, np.broadcast_to(codes, (len(codes), B, codes.shape[-1])))
        log_w = ratio - decoded_cost_of(model, params, codes)       # [K^D, B], log p(x, z) / q(z)
        mass = np.exp(np.take_along_axis(q.log_q, codes[:, 0].T[None], -1).sum(1)).T        # [K^D, B], q(z)
        close(mass.sum(0), np.ones(B), 1e-12)
        close((mass * np.exp(log_w)).sum(0), exact, 1e-11)
        elbo = (mass * log_w).sum(0)
        assert (elbo < np.log(exact)).all()
    assert (soft.rows(params, codes) == model.latent.rows(params, codes)).all()
    sharp = model.latent.soft(1e-9).posterior(params, h).log_q
    assert (sharp.argmax(-1) == model.latent.quantise(params, h)).all() and (sharp.max(-1) == 0).all()


def decoded_cost_of(model, params, codes):
    return np.concatenate([decoded_cost(model, params, model.latent.rows(params, z))[None] for z in codes])


@among
def test_distances_are_squared_to_each_value_of_a_latent(case):
    model, params, h, _ = problem(case)
    latent = model.latent
    d = latent.distances(params, h)                                 # [B, D, K]
    assert d.shape == (B, latent.latents, latent.categories)
    assert (d.argmin(-1) == latent.quantise(params, h)).all()
    if case in ("vq", "simvq"):
        e = latent.book.entries(params)[0]
        close(d, ((h.reshape(B, 2, 1, 2) - e) ** 2).sum(-1), 1e-12)
    if case == "residual":                      # the second level's, of what the first leaves over
        e, v = params["latent.codebook"], h.reshape(B, 2, 2)
        first = e[0][latent.quantise(params, h)[:, ::2]]            # [B, P, C]
        close(d[:, 1::2], ((v - first)[:, :, None] - e[1]) ** 2 @ np.ones(2), 1e-12)
    if case == "fsq":
        close(d, (np.tanh(h)[..., None] - np.array([-1, -1 / 3, 1 / 3, 1])) ** 2, 1e-12)


@among
def test_posterior_is_one_code(case):
    model, params, h, _ = problem(case)
    latent, q = model.latent, model.latent.posterior(params, h)
    assert (latent.mode(params, q) == q.codes).all() and q.codes.shape == (B, latent.latents)
    shown = latent.readout(q)
    assert (shown.argmax(-1) == q.codes).all() and (shown.sum(-1) == 1).all()
    z, kept = latent.forward(params, h, Generator(0))
    assert (z == q.codes).all() and z.shape == (1, B, latent.latents)
    close(latent.kl(params, kept, None), q.kl.sum(-1), 1e-14)
    close(latent.log_prior(params, q.codes), -q.kl.sum(-1), 1e-12)
    rows = latent.traverse(params, q.codes[0], 1)
    assert rows.shape == (latent.categories, latent.latents) and (rows[:, 1] == np.arange(latent.categories)).all()
    drawn = latent.sample_prior(params, Generator(1, rng.PRIOR), 50)
    assert drawn.shape == (50, latent.latents) and latent.check_z(drawn) is drawn
    if latent.prior.name == "uniform":
        close(q.kl, np.full((B, latent.latents), np.log(latent.categories)), 1e-14)


def test_softened_needs_a_positive_temperature():
    with pytest.raises(ValueError, match="temperature must be positive"):
        latents.get("vq", latents=2).soft(0.0)
    assert latents.get("categorical", latents=2).soft(1.0) is None


def test_softened_has_the_codes_of_what_it_softens():
    vq = latents.get("vq", latents=2, categories=3)
    soft = vq.soft(0.5)
    assert soft.code_count() == 9 and np.array_equal(soft.codes(), vq.codes())


def test_summary_takes_the_temperature_of_the_best_bound_on_training_images():
    model, params, _, _ = problem("vq")
    grey = np.random.default_rng(5).random((40, 6)) < 0.5
    data = Dataset("small", grey.astype(np.uint8), X.astype(np.uint8), (2, 3), 1)
    split = evaluation.Split(data, data.test, "none", dtype=np.float64)
    spread, best = evaluation.softened(model, params, split)
    train_rows = split._replace(rows=data.train)
    found = {}
    for t in evaluation.TEMPERATURES:
        spread.latent = model.latent.soft(t)
        found[t] = evaluation.importance_weighted(spread, params, train_rows, 10)
    assert found[best] == max(found.values()) and len(set(found.values())) > 5
    figures = evaluation.summary(model, params, split, samples=200)
    assert figures["soft_temperature"] == best
    assert -figures["negative_elbo"] < figures["importance_weighted_bound"]
    assert figures["importance_weighted_bound"] < figures["log_prob"] + 0.05        # 200 samples, 5 images
    use = np.array(figures["code_use"])
    close(np.array(figures["codebook_use"]), use.mean(0), 1e-14)
    m = use.mean(0)[use.mean(0) > 0]
    close(np.array(figures["codebook_perplexity"]), np.exp(-(m * np.log(m)).sum()), 1e-12)
    grouped, params, _, _ = problem("learned")
    assert evaluation.summary(grouped, params, split, samples=1)["codebook_use"] is None
