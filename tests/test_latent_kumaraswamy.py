"""The Kumaraswamy latent: gradients at fixed noise, its KL by quadrature, both ends of (0, 1). Share: 2 s."""
import math

import mpmath
import numpy as np
import pytest

from npdvae import latents
from npdvae.latents.kumaraswamy import Kept
from npdvae.rng import PRIOR, Generator, to_uniform
from npdvae.verify.gradients import finite_differences
from tests.checks import close
from tests.fixed_noise import check_step, small
from tests.test_latent_families import FAMILIES, rule


def layer(D=1, **options):
    return latents.get("kumaraswamy", latents=D, **options)


def log_density(x, a, b):
    return math.log(a * b) + (a - 1) * np.log(x) + (b - 1) * np.log1p(-x ** a)


def at(a, b):
    return np.log([[a, b]])


@pytest.mark.parametrize("options", [dict(), dict(samples=3), dict(kl="sampled"), dict(kl="sampled", samples=2)])
def test_step_is_the_derivative_at_fixed_noise(options):
    check_step(*small(layer(2, **options)))


def test_free_bits_leave_the_gradient_of_the_cost():
    h, dz = at(1.05, 0.95), np.zeros((1, 1, 1))
    gradients = []
    for bits in (0.0, 0.5):
        latent = layer(free_bits=bits)
        _, kept = latent.forward({}, h, Generator(0))
        gradients.append(latent.backward({}, kept, None, dz)[0])
        assert kept.q.kl[0, 0] < 0.01
    assert np.abs(gradients[0]).min() > 1e-3 and (gradients[1] == 0).all()


@pytest.mark.parametrize("a, b", [(1.7, 2.3), (0.6, 0.8), (1.0, 1.0), (4.0, 0.5), (0.5, 3.0)])
def test_draws_density_and_kl_agree(a, b):
    """The sampler inverts the CDF; log q = log p(u) - log |dx / du|; KL and its sampled mean by quadrature over u."""
    latent = layer(kl="sampled")
    u, w = rule(FAMILIES["uniform"])
    u, w = (u + 1) / 2, w / 2
    keep = (u > 1e-15) & (u < 1 - 1e-15)
    u, w = u[keep], w[keep]
    h = np.tile(at(a, b), (len(u), 1))
    latent.draw, draw = lambda q, _: draw(q, u[None, :, None]), latent.draw
    z, kept = latent.forward({}, h, Generator(0))                   # [1, N, 1]
    x = latent.rows({}, z)[0, :, 0]
    inner = (x > 0.01) & (x < 0.99)
    assert inner.sum() > 100
    close((1 - (1 - x ** a) ** b)[inner], 1 - u[inner], 1e-12)      # the CDF at x; u runs down
    close(-latent.log_ratio({}, kept.q, z)[0][inner], log_density(x[inner], a, b), 1e-11, 1)
    close(kept.kl[inner, 0], log_density(x[inner], a, b), 1e-11, 1)
    assert abs((w * kept.kl[:, 0]).sum() - kept.q.kl[0, 0]) <= 1e-9     # the rule's error, with its ends cut off
    assert kept.q.kl[0, 0] >= 0 if (a, b) != (1, 1) else abs(kept.q.kl[0, 0]) <= 1e-15


def test_mean_of_the_pathwise_gradient_is_that_of_the_mean():
    """E[x^2] = b B(1 + 2/a, b), by its derivatives in log a and log b."""
    def moment(h):
        a, b = (float(v) for v in np.exp(h))
        return np.array([float(b * mpmath.beta(1 + 2 / a, b))])

    u, w = rule(FAMILIES["uniform"])
    u, w = (u + 1) / 2, w / 2
    latent, h = layer(), at(1.7, 2.3)
    q = latent.posterior({}, np.tile(h, (len(u), 1)))
    log_y, z = latent.draw(q, u[None, :, None])
    parts = latent.cost_gradient(Kept(q, log_y, z, q.kl), None, 2 * np.exp(z))
    close(np.array([(w * g[:, 0]).sum() for g in parts]), finite_differences(moment, h[0])[0], 1e-8)


@pytest.mark.parametrize("log_a, log_b", [(-3, -3), (-3, 5), (5, -3), (5, 5), (0, 0)])
def test_ends_stay_finite(log_a, log_b):
    """float32 from the smallest to the largest uniform: z accurate, everything finite."""
    latent, words = layer(), np.array([0, 2 ** 9, 2 ** 31, 2 ** 32 - 1], np.uint32)
    u, h = to_uniform(words, np.float32), np.tile(np.float32([[log_a, log_b]]), (4, 1))
    q = latent.posterior({}, h)
    with np.errstate(all="raise", under="ignore"):
        log_y, z = latent.draw(q, u[None, :, None])
        kept = Kept(q, log_y, z, q.kl)
        found = [z, latent.rows({}, z), latent.log_ratio({}, q, z), *latent.cost_gradient(kept, None, np.ones_like(z)),
                 *latent.kl_gradient(kept), q.kl]
    assert all(np.isfinite(v).all() and v.dtype == np.float32 for v in found)
    a, b = (mpmath.exp(float(v)) for v in h[0])
    for i in range(4):
        exact = mpmath.log(1 - mpmath.mpf(float(u[i])) ** (1 / b)) / a
        assert abs(z[0, i, 0] - exact) <= 2e-5 * abs(exact) + 2e-30     # log u / b keeps 20 bits at the ends


def test_evaluation_of_the_uniform_prior():
    latent = layer(2)
    z = latent.sample_prior({}, Generator(1, PRIOR), 10_000)
    assert z.shape == (10_000, 2) and abs(np.exp(z).mean() - 0.5) <= 0.012      # five standard errors
    rows = latent.traverse({}, np.log([0.2, 0.3]), 1)
    close(np.exp(rows), np.stack([np.full(12, 0.2), (np.arange(12) + 0.5) / 12], -1), 1e-15)
    q = latent.posterior({}, np.tile(at(2.0, 3.0), 2)[:, [0, 2, 1, 3]])
    close(latent.readout(q)["a"], np.full((1, 2), 2.0), 1e-15)
    close(latent.readout(q)["b"], np.full((1, 2), 3.0), 1e-15)
    x = np.exp(latent.mode({}, q))
    close(1 - (1 - x ** 2) ** 3, np.full((1, 2), 0.5), 1e-14)
    drawn = np.exp(latent.sample({}, q, Generator(3), 10_000))
    assert drawn.shape == (10_000, 1, 2) and abs((drawn < x).mean() - 0.5) <= 0.02
    assert np.array_equal(z, np.log(Generator(1, PRIOR).uniform((1, 10_000, 2)))[0])
    each = [layer().log_ratio({}, layer().posterior({}, at(2.0, 3.0)), rows[None, :, [d]]) for d in (0, 1)]
    close(latent.log_ratio({}, q, rows[None]), sum(each), 1e-15)
    assert latent.check_z(rows) is rows
    with pytest.raises(ValueError, match=r"logarithm of numbers in \(0, 1\), got 0.5"):
        latent.check_z(np.array([[0.5, -1]]))
    with pytest.raises(ValueError, match="latent kumaraswamy: kl must be one of analytic, sampled, got 'parameters'"):
        layer(kl="parameters")
    assert layer(kl="sampled").spec() == {"free_bits": 0.0, "settings": {"samples": 1, "penalty": "sampled"}}
