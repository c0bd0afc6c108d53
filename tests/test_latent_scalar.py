"""FSQ, LFQ and BSQ: levels, gradients, entropy losses, dither. Share: 3 s."""
import itertools

import numpy as np
import pytest

from npdvae import latents
from npdvae.config import Config, with_defaults
from npdvae.rng import LATENT, Generator
from npdvae.step import step
from tests.checks import close
from tests.frozen import B, Given, X, check_gradients, decoded_cost, log_prior, model_of, parameters, softplus

D = 3


def made(name, **options):
    return latents.get(name, latents=D, **options)


def squashed(name, h):
    """What is rounded; complex numbers pass."""
    if name == "bsq":
        return h / np.sqrt((h * h).sum(-1, keepdims=True))
    return np.tanh(h) if name == "fsq" else h


def entropies(y, slope, mix):
    """mean_b sum_d H(p_bd) - mix sum_d H(mean_b p_bd) of p = sigmoid(slope y)."""
    p = 1 / (1 + np.exp(-slope * y))
    m = p.mean(0)
    each = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(-1).mean()
    return each + mix * (m * np.log(m) + (1 - m) * np.log(1 - m)).sum()


CASES = [("fsq", 5, {}), ("fsq", 2, {"prior": "learned"}), ("fsq", 4, {"dither": True}),
         ("lfq", 2, {}), ("lfq", 2, {"prior": "learned", "mix": 1.7, "inverse_temperature": 0.6, "commitment": 0.4}),
         ("bsq", 2, {"entropy_weight": 0.5}), ("bsq", 2, {"inverse_temperature": 2.0, "mix": 0.3, "prior": "learned"})]


@pytest.mark.parametrize("name, K, options", CASES, ids=str)
def test_scalar_step_is_the_derivative_of_the_frozen_surrogate(name, K, options):
    model = model_of(made(name, categories=K, **options))
    params = parameters(model)
    got = step(model, params, X, Generator(3), kl_weight=0.2)
    h = model.encoder.forward(params, X)[0]
    y0, radius = squashed(name, h), 3 ** -0.5 if name == "bsq" else 1.0
    u = Generator(3, LATENT).uniform((1, B, D))[0] - 0.5 if "dither" in options else 0.0
    codes = np.floor((K - 1) / 2 * y0 / radius + K / 2 + u).clip(0, K - 1).astype(int)
    z0 = radius * (2 * codes / (K - 1) - 1)
    slope = 4 * options.get("inverse_temperature", 1.0) * radius
    assert len(np.unique(codes)) >= min(K, 3)

    def surrogate(p):
        y = squashed(name, model.encoder.forward(p, X)[0])
        loss = decoded_cost(model, p, y + (z0 - y0)).mean()
        if name != "fsq":
            loss = loss + options.get("commitment", 0.25) * ((y - z0) ** 2).sum(-1).mean()
            loss = loss + options.get("entropy_weight", 0.1) * entropies(y, slope, options.get("mix", 1.0))
        return loss - log_prior(p, codes).mean() if "prior" in options else loss

    check_gradients(surrogate, params, got.grads)
    close(got.kl, -log_prior(params, codes) if "prior" in options else np.full(B, D * np.log(K)), 1e-14)
    close(got.cost, decoded_cost(model, params, z0), 1e-13)


@pytest.mark.parametrize("K", [2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fsq_reaches_all_levels(K, dtype):
    """From -1 to 1 in equal steps, of h in [-6, 6] and of any h; as likely as the width of their cells says."""
    latent, h = made("fsq", categories=K), np.linspace(-6, 6, 3 * 4001, dtype=dtype).reshape(-1, D)
    codes = latent.quantise({}, h)
    assert set(codes.ravel()) == set(range(K))
    assert latent.quantise({}, np.full((1, D), np.inf, dtype)).tolist() == [[K - 1] * D]
    assert latent.quantise({}, np.full((1, D), -np.inf, dtype)).tolist() == [[0] * D]
    z = latent.rows({"decoder.0.weight": h}, codes)
    assert z.dtype == dtype and z.min() == -1 and z.max() == 1
    close(np.unique(z), np.linspace(-1, 1, K, dtype=dtype), 1e-6 if dtype == np.float32 else 1e-14)
    cells = np.unique(codes, return_counts=True)[1] / codes.size    # of h; edges of tanh h at 2 k / K - 1 ...
    edges = np.arctanh((np.arange(1, K) - K / 2) * 2 / (K - 1))     # between levels
    close(cells, np.diff(np.concatenate([[-6], edges, [6]])) / 12, 1e-3, 1)
    assert (np.abs(z - np.tanh(h)) <= 1 / (K - 1) + 1e-6).all()     # half a step


def test_dithered_rounding_is_exact_in_the_mean_for_an_affine_cost():
    """E z = tanh h, so straight-through is the derivative of E[affine]; without dither it is not."""
    dithered, plain = made("fsq", categories=5, dither=True), made("fsq", categories=5)
    h = np.array([[0.3, -1.2, 2.0]])
    noise = (np.arange(4000) + 0.5) / 4000
    z = np.mean([dithered.level(dithered.forward({}, h, Given(u))[0][0], float) for u in noise], 0)
    close(z, np.tanh(h), 2e-4, 1)                                   # a level is 1/2, drawn at 1 of 4000 points
    assert np.abs(plain.level(plain.forward({}, h, None)[0][0], float) - np.tanh(h)).max() > 0.05
    assert (dithered.quantise({}, h) == plain.quantise({}, h)).all()                # evaluation has no noise
    edge = dithered.forward({}, np.full((1, D), 99.0, np.float32), Given(1 - 2.0 ** -24))[0]
    assert (edge == 4).all() and (dithered.forward({}, -h * 99, Given(2.0 ** -24))[0][0] == [[0, 4, 0]]).all()


@pytest.mark.parametrize("name, options", [("fsq", {}), ("lfq", {"commitment": 0.0, "entropy_weight": 0.0}),
                                           ("bsq", {"commitment": 0.0, "entropy_weight": 0.0})])
def test_scalar_gives_the_encoder_nothing_but_the_cost(name, options):
    latent, draw = made(name, prior="learned", **options), np.random.default_rng(0)
    h, dz, params = draw.normal(size=(B, D)), draw.normal(size=(1, B, D)), {"latent.prior": draw.normal(size=(D, 8))}
    params["latent.prior"] = params["latent.prior"][:, :latent.categories]
    _, kept = latent.forward(params, h, None)
    dh, grads = latent.backward(params, kept, None, 0 * dz)
    assert not dh.any() and set(grads) == {"latent.prior"} and grads["latent.prior"].any()
    dh, _ = latent.backward(params, kept, None, dz, scale=0.5)
    assert (latent.backward(params, kept, None, dz)[0] == 2 * dh).all()
    expected = {"fsq": dz[0] * (1 - np.tanh(h) ** 2), "lfq": dz[0]}.get(name)
    if name == "bsq":                           # across the sphere alone
        u = squashed(name, h)
        expected = (dz[0] - u * (u * dz[0]).sum(-1, keepdims=True)) / np.sqrt((h * h).sum(-1, keepdims=True))
        close((dh * h).sum(-1), np.zeros(B), 1e-15, 1)
    close(dh, expected / 2, 1e-14)


def test_lfq_entropy_factorises():
    """Softmax over all 2^D codes z by exp(-T |y - z|^2): its entropy is the sum of the bits' entropies."""
    y, T = np.random.default_rng(1).normal(size=D), 0.6
    z = np.array(list(itertools.product((-1, 1), repeat=D)))
    p = np.exp(-T * ((y - z) ** 2).sum(-1))
    p = p / p.sum()
    a = 4 * T * y
    close(-(p * np.log(p)).sum(), (softplus(a) - a / (1 + np.exp(-a))).sum(), 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entropy_losses_stay_finite_where_all_are_sure(dtype):
    """Also where every example has the same sign, so that log-odds of the mean have no bound."""
    latent = made("lfq")
    for size in (0, 5, 30, 1e3, 1e30):
        h = np.full((4, D), size, dtype)
        _, kept = latent.forward({}, h, None)
        dh, _ = latent.backward({}, kept, None, np.zeros((1, 4, D), dtype))
        assert np.isfinite(dh).all() and dh.dtype == dtype
        assert (kept.codes == 1).all() and not latent.quantise({}, -h - dtype(1e-3)).any()


def test_entropy_losses_read_the_whole_batch():
    for name in ("lfq", "bsq"):
        assert made(name).couples_batch and not made(name).divisible
        assert made(name, entropy_weight=0.0).divisible and not made(name, entropy_weight=0.0).couples_batch
    assert made("fsq").divisible and not made("fsq").weighs_kl and not made("fsq").one_codebook


@pytest.mark.parametrize("name, options, message", [
    ("fsq", {"categories": 1}, "2 categories or more"), ("lfq", {"categories": 3}, "binary: categories must be 2"),
    ("lfq", {"commitment": -1.0}, "commitment must not be negative"), ("bsq", {"mix": -1.0}, "mix must not be"),
    ("bsq", {"entropy_weight": -0.1}, "entropy_weight must not be"),
    ("lfq", {"inverse_temperature": 0.0}, "inverse_temperature must be positive")])
def test_scalar_refuses_what_makes_no_sense(name, options, message):
    with pytest.raises(ValueError, match=message):
        made(name, **options)


def test_scalar_is_described_by_its_options():
    assert made("fsq").spec() == {"prior": "uniform", "settings": {"dither": False}}
    assert made("lfq", prior="learned").spec() == {"prior": "learned", "settings": {
        "commitment": 0.25, "entropy_weight": 0.1, "mix": 1.0, "inverse_temperature": 1.0}}
    assert with_defaults(Config(latent="bsq")).categories == 2 and with_defaults(Config(latent="fsq")).categories == 8
