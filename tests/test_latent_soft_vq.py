"""Soft codes: the gradient of every parameter, for every estimator of the registry. Share: 1 s."""
import numpy as np
import pytest

from npdvae import estimators, latents
from npdvae.model import DiscreteVAE
from npdvae.rng import INIT, Generator
from npdvae.step import step
from tests.checks import close
from tests.frozen import OPS, PIXELS, B, X, check_gradients, log_prior, model_of, parameters, softplus

D, K, C = 2, 3, 4


def made(estimator, categories=K, **options):
    return latents.get("soft_vq", latents=D, categories=categories, estimator=estimator, size=C, **options)


def logits_of(p, h):
    """-exp(t) |h - e|^2 by its definition: h [B, D*C] -> [B, D, K]."""
    gap = h.reshape(len(h), D, 1, C) - p["latent.codebook"]         # [B, D, K, C]
    return -np.exp(p["latent.log_scale"]) * (gap ** 2).sum(-1)


def decode(model, p, y):
    """-log p(x | rows y) of y [B, D, K], embedded."""
    a, _ = model.decoder.forward(p, (y @ p["latent.codebook"]).reshape(len(y), -1))
    return (softplus(a) - X * a).sum(-1)


def kl_of(p, log_q):
    prior = p.get("latent.prior", np.zeros((D, K)))
    log_p = prior - np.log(np.exp(prior).sum(-1, keepdims=True))
    return (np.exp(log_q) * (log_q - log_p)).sum((1, 2))            # [B]


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_exact_step_is_the_gradient_of_the_enumerated_negative_elbo(prior):
    model = model_of(made("exact", prior=prior))
    params = parameters(model)

    def elbo(p):
        logits = logits_of(p, model.encoder.forward(p, X)[0])
        log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total = 0.7 * kl_of(p, log_q)
        for code in np.ndindex(K, K):
            y = np.broadcast_to(np.eye(K)[list(code)], (B, D, K))
            total = total + np.exp((y * log_q).sum((1, 2))) * decode(model, p, y)
        return total.mean()

    check_gradients(elbo, params, step(model, params, X, None, kl_weight=0.7).grads)


@pytest.mark.parametrize("samples", [1, 3])
def test_relaxed_step_is_the_derivative_at_fixed_noise(samples):
    model = model_of(made("gumbel_softmax", samples=samples, temperature=0.8, prior="learned"))
    params, state = parameters(model), model.latent.init_state(Generator(0, INIT), 0)
    got = step(model, params, X, Generator(5), state)
    noise = -np.log(-np.log(Generator(5).uniform((samples, B, D, K))))      # [S, B, D, K]

    def loss(p):
        logits = logits_of(p, model.encoder.forward(p, X)[0])
        total = kl_of(p, logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
        for g in noise:
            y = np.exp((logits + g) / 0.8)
            total = total + decode(model, p, y / y.sum(-1, keepdims=True)) / samples
        return total.mean()

    check_gradients(loss, params, got.grads)


@pytest.mark.parametrize("prior", ["uniform", "autoregressive"])
@pytest.mark.parametrize("name", estimators.names())
def test_soft_codes_are_a_categorical_with_the_codebook_in_the_decoder(name, prior):
    """Every estimator: the same draws, the same dlogits; dh, de and dt follow by the chain rule."""
    categories = 2 if estimators.find(name).binary else K
    soft = model_of(made(name, categories, prior=prior))
    plain = DiscreteVAE(PIXELS, (5,), latents.get("categorical", latents=D, categories=categories, estimator=name,
                                                  prior=prior), activation="tanh")
    params = parameters(soft)
    e, w = params["latent.codebook"], params["decoder.0.weight"].reshape(D, C, -1)
    h = soft.encoder.forward(params, X)[0]                          # [B, D*C]
    inner = {**params, "decoder.0.weight": (e @ w).reshape(D * categories, -1)}
    logits = logits_of(params, h)
    state = soft.latent.init_state(Generator(2, INIT), PIXELS)

    class Fixed:
        """An encoder whose output is given."""

        def forward(self, params, x):
            return logits.reshape(B, -1), None

        def backward(self, params, kept, dh):
            return None, {"dlogits": dh.reshape(logits.shape)}

    plain.encoder = Fixed()
    expected = step(plain, inner, X, Generator(4), state)
    got = step(soft, params, X, Generator(4), state)
    scale = max(np.abs(g).max() for g in expected.grads.values())
    close(got.cost, expected.cost, 1e-12, 10)                       # float64 sums of a few terms of some nats
    close(got.kl, expected.kl, 1e-12, 10)
    dl, dw = expected.grads["dlogits"], expected.grads["decoder.0.weight"].reshape(D, categories, -1)
    gap = h.reshape(B, D, 1, C) - e                                 # [B, D, K, C]
    t = np.exp(params["latent.log_scale"])
    close(got.grads["latent.codebook"], (2 * t * dl[..., None] * gap).sum((0, 1)) + np.einsum("dkh,dch->kc", dw, w),
          1e-11, scale)
    close(got.grads["latent.log_scale"], (dl * logits).sum().reshape(1), 1e-11, scale * np.abs(logits).max())
    close(got.grads["decoder.0.weight"], np.einsum("dkh,kc->dch", dw, e).reshape(D * C, -1), 1e-11, scale)
    dh = (-2 * t * dl[..., None] * gap).sum(2).reshape(B, -1)       # [B, D*C]
    _, encoder = soft.encoder.backward(params, soft.encoder.forward(params, X)[1], dh)
    for k, g in encoder.items():
        close(got.grads[k], g, 1e-10, scale * np.abs(gap).max())
    for k in (k for k in got.grads if k.startswith(("latent.prior", "estimator."))):
        close(got.grads[k], expected.grads[k], 1e-11, scale)


def test_soft_codes_are_evaluated_as_rows_of_the_codebook():
    latent = made("rloo")
    params = latent.init(Generator(0, INIT), np.float32)
    e = params["latent.codebook"]
    codes = np.random.default_rng(0).integers(0, K, (4, 5, D))
    close(latent.rows(params, codes), e[codes].reshape(4, 5, -1), 0)
    close(latent.rows(params, OPS.one_hot(codes, K, np.float32)), e[codes].reshape(4, 5, -1), 1e-6)
    assert (latent.check_z(codes[0]) == codes[0]).all() and latent.one_codebook
    assert latent.width == latent.features == D * C
    h = np.random.default_rng(1).normal(size=(6, D * C)).astype(np.float32)
    q = latent.posterior(params, h)
    nearest = ((h.reshape(6, D, 1, C) - e) ** 2).sum(-1).argmin(-1)
    assert (latent.mode(params, q) == nearest).all() and q.log_q.dtype == np.float32


def test_first_codebook_is_normal_and_the_scale_one():
    latent = latents.get("soft_vq", latents=1, categories=200, size=50)
    params = latent.init(Generator(0, INIT), np.float32)
    e = params["latent.codebook"] * np.float32(50 ** 0.5)
    assert e.shape == (200, 50) and e.dtype == np.float32 and abs(e.std() - 1) < 0.02 and abs(e.mean()) < 0.03
    u = Generator(0, INIT).uniform((2, 200, 50))
    close(e.astype(float), np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * u[1]), 1e-6)     # of float32
    assert (params["latent.log_scale"] == 0).all() and params["latent.log_scale"].dtype == np.float32
    assert latents.get("soft_vq", latents=1).size == latents.get("soft_vq", latents=1).categories == 8
    with pytest.raises(ValueError, match="size must be at least 1"):
        latents.get("soft_vq", latents=1, size=0)


def test_free_bits_and_kl_weight_reach_soft_codes():
    h = np.random.default_rng(3).normal(size=(B, D * C))
    latent, floored = made("exact"), made("exact", free_bits=99.0)
    params = latent.init(Generator(0, INIT), np.float64)
    dz, cost = np.zeros((K ** D, B, D * C)), np.zeros((K ** D, B))
    _, kept = latent.forward(params, h, None)
    assert not floored.backward(params, kept, cost, dz)[0].any()
    by_default = latent.backward(params, kept, cost, dz)
    plainly = latent.backward(params, kept, cost, dz, None, 1.0, 1.0)
    assert (by_default[0] == plainly[0]).all()
    assert all((by_default[1][k] == plainly[1][k]).all() and plainly[1][k].any() for k in plainly[1])
    straight, dz = made("straight_through"), np.random.default_rng(4).normal(size=(2, B, D * C))
    close(straight.dcodes(params, kept, dz), dz.reshape(2, B, D, C) @ params["latent.codebook"].T, 1e-14)
    assert latent.dcodes(params, kept, dz) is None
    dz = np.zeros((K ** D, B, D * C))
    once, twice = (latent.backward(params, kept, cost, dz, kl_weight=w)[0] for w in (1.0, 2.0))
    close(twice, 2 * once, 1e-12)
    assert once.any() and latent.weighs_kl and "estimator" in latent.spec()
    assert log_prior({"latent.prior": np.zeros((D, K))}, np.zeros((1, D), int))[0] < 0
