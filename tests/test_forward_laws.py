"""Laws that a forward pass must satisfy, which no gradient check can see. Share of the suite: 1 s."""
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npdvae import estimators
from npdvae.backends import load
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.latents.categorical import Categorical
from npdvae.verify import costs

OPS = load("numpy")
BIG = {np.float32: float(np.finfo(np.float32).max) / 4, np.float64: 1e300}


def logits_of(dtype):
    """Logits [B, D, K] of any finite size, with the sizes at which exp breaks more often than chance would."""
    sizes = [0.0, 1e-8, 17.0, 88.8, 104.0, 1e4, BIG[dtype]]
    entries = st.one_of(st.floats(-30, 30, width=32), st.sampled_from(sizes + [-size for size in sizes]))
    return hnp.arrays(dtype, st.tuples(*[st.integers(1, 4)] * 3), elements=entries.map(lambda v: float(dtype(v))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kl_lies_between_zero_and_d_log_k(dtype):
    @given(logits_of(dtype))
    @settings(max_examples=50)
    def check(logits):
        _, D, K = logits.shape
        latent = Categorical(D, K, estimators.get("rloo"), OPS)
        kl = latent.posterior({}, logits).kl                        # [B, D]
        assert kl.dtype == dtype and kl.shape == logits.shape[:2]
        assert (kl >= 0).all()
        assert (kl.sum(-1) <= D * np.log(K) * (1 + 4 * np.finfo(dtype).eps)).all()      # rounding of log K and the sum
    check()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("categories", range(2, 20))
def test_kl_of_nearly_uniform_rows_is_not_negative(dtype, categories):
    """Where log K - H is rounding and nothing else, either sign is as likely."""
    logits = 1e-9 * np.random.default_rng(categories).normal(size=(500, 1, categories))
    logits += np.linspace(0, 9, 500)[:, None, None]
    kl = Categorical(1, categories, estimators.get("rloo"), OPS).posterior({}, logits.astype(dtype)).kl
    assert (kl >= 0).all() and kl.max() <= 1e-6


def test_kl_reaches_both_ends():
    latent = Categorical(2, 4, estimators.get("rloo"), OPS)
    uniform, certain = np.zeros((1, 2, 4)), 1e4 * np.eye(4)[None, :2]
    assert (latent.posterior({}, uniform).kl == 0).all()
    assert np.abs(latent.posterior({}, certain).kl - np.log(4)).max() <= 1e-15


def log_sum_exp(x):
    top = x.max(0)
    return np.log(np.exp(x - top).sum(0)) + top


def bounds(logits, cost, samples):
    """E log mean_s p(x, z_s) / q(z_s | x) for S = 1, ..., samples, and log p(x), by enumeration: [B] each, in nats."""
    _, D, K = logits.shape
    codes = all_codes(np, D, K)                                     # [C, D]
    log_q = codes_log_prob(OPS, logits, codes)                      # [C, B]
    log_joint = -cost(codes[:, None]) - D * np.log(K)               # [C, B]
    log_w, found = log_joint - log_q, []
    for S in range(1, samples + 1):
        bound = 0
        for index in itertools.product(range(len(codes)), repeat=S):
            bound = bound + np.exp(log_q[list(index)].sum(0)) * (log_sum_exp(log_w[list(index)]) - np.log(S))
        found.append(bound)
    return found, log_sum_exp(log_joint)


@given(st.integers(0, 2 ** 16), st.sampled_from([(2, 1, 4), (1, 2, 3), (2, 2, 2), (1, 3, 2)]),
       st.sampled_from([0.1, 1.0, 3.0]))
@settings(max_examples=10)
def test_bounds_increase_with_the_samples_towards_log_p(seed, shape, spread):
    logits = spread * np.random.default_rng(seed).normal(size=shape)
    cost = costs.make("decoder", seed + 1, *shape)
    (one, *more), log_p = bounds(logits, cost, 3)
    latent = Categorical(*shape[1:], estimators.get("exact"), OPS)
    draw = latent.estimator.sample(logits, None)
    expected = latent.estimator.weigh(draw, None) * cost(draw.codes)
    elbo = -expected.sum(0) - latent.posterior({}, logits).kl.sum(-1)
    assert np.abs(one - elbo).max() <= 1e-12 * np.abs(log_p).max()  # the analytic KL against the sampled one
    slack = 1e-12 * np.abs(log_p)                                   # rounding of at most 9^3 terms
    for less, greater in itertools.pairwise([one, *more, log_p]):
        assert (less <= greater + slack).all()


def test_bounds_are_tight_at_the_true_posterior():
    cost = costs.make("table", 0, 2, 1, 4)
    posterior = -cost(np.arange(4)[:, None, None]).T[:, None]       # [B, 1, K]
    found, log_p = bounds(posterior, cost, 2)
    for bound in found:
        assert np.abs(bound - log_p).max() <= 1e-12 * np.abs(log_p).max()
