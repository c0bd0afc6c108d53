"""What the base class of latents promises where a subclass says nothing. Share: 1 s."""
from typing import Any, NamedTuple

import numpy as np
import pytest

from npdvae import backends, estimators, latents, optimizers
from npdvae.latents import discrete
from npdvae.latents.base import Latent
from npdvae.optimizers.base import Optimizer, clip_norm
from npdvae.rng import INIT, Generator

OPS = backends.load("numpy")


class Posterior(NamedTuple):
    loc: Any
    kl: Any


class Bare(Latent):
    name = "bare"


def test_a_bare_latent_averages_remembers_and_changes_nothing():
    noise = np.random.default_rng(0)
    latent, params = Bare(3, OPS), {"latent.a": noise.normal(size=2)}
    z, cost, state = noise.normal(size=(4, 2, 3)), noise.normal(size=(4, 2)), {"a": np.ones(1)}
    assert latent.init(None, np.float64) == {} and latent.init_state(None, 5) is None and latent.spec() == {}
    assert latent.start(params, z[0], None) is params and latent.refresh(params, state) is params
    assert latent.rows(params, z) is z and latent.check_z(z) is z and latent.codes() is None
    weights = latent.weigh(params, None, cost)
    assert weights.shape == (4, 1) and (weights == 0.25).all() and latent.shares(weights) is weights
    assert latent.advance(params, None, cost, z, state) == ({}, state)
    q = Posterior(z[0], cost[0])
    assert latent.kl_of(params, q, z) is q.kl and latent.readout(q) == {"loc": q.loc}
    assert latent.check_length(1) is None
    assert (latent.needs_dz, latent.relaxed, latent.weighs_kl, latent.couples_batch) == (True, False, True, False)
    assert (latent.samples, latent.starts_from, latent.categories) == (1, 0, None)
    assert latent.divisible and not latent.one_codebook and latent.soft(1.0) is None
    with pytest.raises(ValueError, match="latents must be at least 1, got 0"):
        Bare(0, OPS)


def test_the_categorical_hands_on_what_its_estimator_says():
    for name in ("rloo", "reinmax", "gumbel_softmax", "vimco", "reinforce"):
        estimator = estimators.get(name)
        latent = latents.get("categorical", latents=2, categories=3, estimator=estimator)
        assert (latent.needs_dz, latent.samples, latent.relaxed, latent.weighs_kl, latent.couples_batch) == (
            estimator.needs_dcodes, estimator.samples, estimator.relaxed, estimator.objective == "expectation",
            estimator.couples_batch)
    latent = latents.get("categorical", latents=2, estimator="reinforce", baseline="nvil")
    assert latent.categories == 8 and latent.width == latent.features == 16
    expected = latent.estimator.init(Generator(0, INIT), 2, 8, 5)
    found = latent.init_state(Generator(0, INIT), 5)
    assert found.keys() == expected.keys() and all((found[k] == expected[k]).all() for k in found)
    assert found["hidden_weight"].shape[0] == 5
    q = latent.posterior({}, np.random.default_rng(0).normal(size=(3, 16)))
    assert latent.kl_of({}, q, None) is q.kl and q.kl.shape == (3, 2) and (q.kl > 0).all()
    with pytest.raises(ValueError, match="its estimator is made already"):
        latents.get("categorical", latents=2, estimator=estimators.get("rloo"), samples=3)


def test_traversals_and_codes_count_the_last_latent_fastest():
    latent = latents.get("categorical", latents=3, categories=4)
    rows = latent.traverse({}, np.array([1, 2, 3]), 1)
    assert rows.tolist() == [[1, k, 3] for k in range(4)]
    codes = latent.codes()
    assert codes.shape == (64, 3) and codes[1].tolist() == [0, 0, 1] and latent.code_count() == 64
    assert latents.get("categorical", latents=30, categories=4, estimator="rloo").codes() is None


def test_a_joint_cost_reaches_estimator_state_and_derivatives():
    """Where log p(z) is a part of the cost: what the estimator sees, learns from, and is derived from."""
    noise = np.random.default_rng(1)
    latent = latents.get("categorical", latents=2, categories=3, estimator="reinforce_sampled_kl", samples=2,
                         baseline="running_mean", prior="learned")
    params, state = {"latent.prior": noise.normal(size=(2, 3))}, latent.init_state(None, 4)
    _, kept = latent.forward(params, noise.normal(size=(5, 6)), Generator(2))
    cost = noise.normal(size=(2, 5))
    joint = cost - latent.log_prior(params, kept.draw.codes)
    assert np.allclose(latent.objective_cost(params, kept, cost), joint, rtol=0, atol=1e-14)
    signal = latent.estimator.signal(kept.draw, joint)
    after = latent.advance(params, kept, cost, None, state)[1]
    assert after["cost_sum"] == pytest.approx(0.05 * signal.mean(), rel=1e-12)
    dz = noise.normal(size=(2, 5, 6))
    expected = dz.reshape(2, 5, 2, 3) - latent.prior.log_rows(params)
    assert np.array_equal(latent.dcodes(params, kept, dz), expected) and latent.dcodes(params, kept, None) is None
    weights = np.full((2, 5), 0.3)
    assert latent.shares(weights) == 0.5        # the ELBO averages over samples, whatever weighs the gradient
    plain = latents.get("categorical", latents=2, categories=3)
    assert plain.shares(weights) is weights and np.array_equal(plain.dcodes({}, kept, dz), dz.reshape(2, 5, 2, 3))


def test_codes_are_enumerated_up_to_the_limit():
    assert latents.get("categorical", latents=20, categories=2, estimator="rloo").codes().shape == (2 ** 20, 20)
    assert latents.get("categorical", latents=21, categories=2, estimator="rloo").codes() is None


@pytest.mark.parametrize("name", optimizers.names())
def test_an_optimizer_applies_its_operation_and_keeps_the_moments(name):
    """Two updates of one array: those of the operation on the table."""
    optimizer, noise = optimizers.get(name), np.random.default_rng(3)
    p, gradients = noise.normal(size=4), noise.normal(size=(2, 4))
    params, moments = {"w": p}, optimizer.init({"w": p})
    own = [np.zeros(4) for _ in optimizer.kinds]
    for t, g in enumerate(gradients, 1):
        params, moments = optimizer.update(params, {"w": g}, moments, t, 0.1)
        rest = (0.1, 0.9) if name == "sgd" else (t, 0.1)
        p, *own = getattr(OPS, name)(p, g, *own, *rest)
        assert np.array_equal(params["w"], p)
        assert all(np.array_equal(moments[f"{kind}.w"], m) for kind, m in zip(optimizer.kinds, own))


def test_a_rule_without_moments_and_one_that_forgets_them():
    class Plain(Optimizer):
        name, kinds = "plain", ""

        def rule(self, p, g, *moments, t, lr):
            return (p - lr * g,)

    class Forgetful(Plain):
        kinds = "m"

    w, g = np.ones(2), np.array([1.0, 2.0])
    params, moments = Plain(OPS).update({"w": w}, {"w": g}, {}, 1, 0.5)
    assert params["w"].tolist() == [0.5, 0.0] and moments == {}
    with pytest.raises(ValueError):
        Forgetful(OPS).update({"w": w}, {"w": g}, {}, 1, 0.5)


def test_clipping_is_by_the_joint_norm():
    g = {"a": np.array([3.0, 4.0]), "b": np.array([[12.0]])}        # norm 13
    assert clip_norm(g, 13.0) is g
    clipped = clip_norm(g, 6.5)
    assert np.allclose(clipped["a"], [1.5, 2.0], rtol=1e-15) and np.allclose(clipped["b"], 6.0, rtol=1e-15)


@pytest.mark.parametrize("z, message", [
    (np.zeros((2, 3)), r"int \[N, 3\] or float \[N, 3, 4\]"), (np.zeros((2, 4), int), r"int \[N, 3\]"),
    (np.full((2, 3), 4), "categories 0 to 3, got 4 to 4"), (np.full((2, 3), -1), "got -1 to -1")])
def test_codes_of_a_user_are_checked(z, message):
    with pytest.raises(ValueError, match=message):
        latents.get("categorical", latents=3, categories=4).check_z(z)


def test_scalars_of_an_update_are_the_bias_corrections():
    """Constants of Kingma & Ba and Liu et al., written out; RAdam's first steps have no rectifier."""
    t, lr = 30, 0.1
    expected = (lr / (1 - 0.9 ** t), (1 - 0.999 ** t) ** 0.5)
    assert optimizers.get("adam").scalars(t, lr) == pytest.approx((*expected, 1.0), rel=1e-14)
    rho_inf = 2 / (1 - 0.999) - 1
    rho = rho_inf - 2 * t * 0.999 ** t / (1 - 0.999 ** t)
    rectifier = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
    assert optimizers.get("radam").scalars(t, lr) == pytest.approx((*expected, rectifier), rel=1e-12)
    assert optimizers.get("radam").scalars(1, lr).rectifier is None
    assert optimizers.get("sgd").scalars(t, lr) == (lr, 1.0, 1.0)
    assert optimizers.get("sgd", momentum=0.5).settings() == {"momentum": 0.5}
    assert optimizers.get("adam").settings() == {}
    with pytest.raises(ValueError, match="momentum must be in"):
        optimizers.get("sgd", momentum=1.0)


def test_the_categorical_reads_out_and_checks_its_codes():
    latent = latents.get("categorical", latents=2, categories=3, estimator="vimco", samples=4, prior="learned")
    params = {"latent.prior": np.random.default_rng(1).normal(size=(2, 3))}
    q = latent.posterior(params, np.random.default_rng(2).normal(size=(5, 6)))
    assert np.abs(latent.readout(q).sum(-1) - 1).max() < 1e-14      # probabilities: sums of three in float64
    z = np.random.default_rng(3).integers(0, 3, (4, 5, 2))
    log_p, log_q = latent.prior.log_rows(params), q.log_q           # [D, K], [B, D, K]
    expected = sum(log_p[d, z[..., d]] - log_q[np.arange(5), d, z[..., d]] for d in range(2))
    assert np.abs(latent.log_ratio(params, q, z) - expected).max() < 1e-13
    rows = np.ones((7, 2, 3))
    assert latent.check_z(rows) is rows and latent.shares(np.ones((4, 1))) == 0.25
    most, discrete.MOST_CODES = discrete.MOST_CODES, 9
    try:
        assert latent.codes().shape == (9, 2)
    finally:
        discrete.MOST_CODES = most
