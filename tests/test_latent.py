"""The categorical latent layer, schedules, optimizer and clipping: what the op tests do not reach. Share: 3 s."""
import math

import numpy as np
import pytest

from npdvae import backends, estimators, optimizers, rng, schedules
from npdvae.latents.categorical import Categorical
from npdvae.mlp import MLP
from npdvae.optimizers.base import clip_norm
from npdvae.state import merge

OPS = backends.load("numpy")


def layer(prior="uniform", free_bits=0.0, D=2, K=3):
    return Categorical(D, K, estimators.get("exact"), OPS, prior, free_bits)


def test_prior_samples_have_the_priors_frequencies():
    noise = np.random.default_rng(0)
    latent = layer("learned")
    params = {"latent.prior": noise.normal(size=(2, 3))}
    n = 100_000
    codes = latent.sample_prior(params, rng.Generator(1, rng.PRIOR), n)
    p = np.exp(latent.prior.log_rows(params))
    shares = (codes[..., None] == np.arange(3)).mean(0)
    assert (np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / n)).all()    # five standard errors; the seed is fixed
    assert np.allclose(layer().prior.log_rows({}), -math.log(3))


def test_a_kl_of_the_rows_own_is_summed_over_latents():
    """Each latent its own estimate, [B, D]; `estimators.parts.concrete` has it against its law."""
    estimator = estimators.get("gumbel_softmax", kl="concrete")
    latent = Categorical(3, 2, estimator, OPS)
    h = np.random.default_rng(2).normal(size=(4, 6))
    _, kept = latent.forward({}, h, rng.Generator(3))
    each = estimator.rows_kl(kept.draw)
    assert each.shape == (4, 3)
    assert np.allclose(latent.kl({}, kept, np.ones((1, 1))), each[:, 0] + each[:, 1] + each[:, 2], atol=1e-15, rtol=0)


def test_free_bits_stop_the_gradient_of_small_kl_only():
    h = np.array([[0.0, 0.1, 0.0, 4.0, 0.0, 0.0]])                  # first latent near the prior, second far from it
    plain, floored = (layer(free_bits=bits) for bits in (0.0, 0.3))
    grads = []
    for latent in (plain, floored):
        _, kept = latent.forward({}, h, rng.Generator(0))
        grads.append(latent.backward({}, kept, np.zeros((9, 1)), None)[0])
    assert kept.q.kl[0, 0] < 0.3 < kept.q.kl[0, 1]
    assert (grads[1][0, :3] == 0).all() and (grads[0][0, :3] != 0).any()
    assert np.array_equal(grads[0][0, 3:], grads[1][0, 3:])


def test_kl_weight_scales_the_kl_part_alone():
    noise = np.random.default_rng(2)
    h, cost = noise.normal(size=(4, 6)), noise.normal(size=(9, 4))
    latent = layer()
    _, kept = latent.forward({}, h, rng.Generator(0))
    at = [latent.backward({}, kept, cost, None, kl_weight=w)[0] for w in (0.0, 1.0, 3.0)]
    assert np.abs((at[2] - at[0]) - 3 * (at[1] - at[0])).max() <= 1e-14     # linear in the weight, float64
    assert np.abs(at[1] - at[0]).max() > 0.01


def through(options, scale):
    """Gumbel-Softmax in the layer: its estimator, the draw, (dh, grads), and the arguments of the backward."""
    noise, estimator = np.random.default_rng(3), estimators.get("gumbel_softmax", **options)
    latent = Categorical(2, 3, estimator, OPS)
    h, cost, dz = noise.normal(size=(4, 6)), noise.normal(size=(1, 4)), noise.normal(size=(1, 4, 6))
    state = latent.init_state(rng.Generator(1), 5)
    _, kept = latent.forward({}, h, rng.Generator(0), state)
    found = latent.backward({}, kept, cost, dz, state, kl_weight=0.3, scale=scale)
    return estimator, kept.draw, found, (cost, dz.reshape(1, 4, 2, 3), state)


def test_a_kl_of_the_estimators_own_joins_its_gradient():
    estimator, draw, (dh, grads), arguments = through({"kl": "concrete"}, 0.25)
    expected = estimator.backward(draw, *arguments) + 0.3 * estimator.rows_kl_backward(draw)
    assert np.abs(dh - 0.25 * expected.reshape(4, 6)).max() <= 1e-14 * np.abs(expected).max() and grads == {}


def test_learned_entries_have_their_gradients_by_name():
    estimator, draw, (_, grads), arguments = through({"anneal": "learned"}, 0.5)        # 4 examples, half of each
    assert grads == {"estimator.log_temperature": 2.0 * estimator.learn(draw, *arguments)["log_temperature"]}


@pytest.mark.parametrize("arguments, message", [
    ((0, 3), "latents must be at least 1"), ((2, 0), "categories must be at least 1"),
    ((2, 3, "gauss"), "unknown prior"),
    ((2, 3, "uniform", -1.0), "free bits")])
def test_latent_refuses_senseless_sizes(arguments, message):
    D, K, *rest = arguments
    with pytest.raises(ValueError, match=message):
        Categorical(D, K, estimators.get("rloo"), OPS, *rest)


def test_schedules_at_their_ends():
    assert [schedules.learning_rate("cosine", 3.0, s, 10) for s in (0, 5, 10, 11)] == pytest.approx([3, 1.5, 0, 0])
    assert [schedules.learning_rate("cosine", 3.0, s, n) for s, n in ((0, 0), (1, 0), (1, 1))] == [3, 0, 0]
    assert schedules.learning_rate("exponential", 3.0, 20, 10, 0.5, 10) == 0.75
    assert schedules.learning_rate("exponential", 3.0, 2000, 10) == pytest.approx(3 * 0.81)
    assert schedules.learning_rate("constant", 3.0, 7, 10) == 3.0
    assert [schedules.kl_weight(2.0, 4, s) for s in (0, 1, 4, 9)] == [0, 0.5, 2, 2]
    assert schedules.kl_weight(2.0, 0, 0) == 2.0
    with pytest.raises(ValueError, match="unknown learning-rate schedule"):
        schedules.learning_rate("step", 1.0, 0, 1)


def test_clip_norm_scales_to_the_limit_and_keeps_directions():
    g = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}         # norm 5
    clipped = clip_norm(g, 2.5)
    assert np.allclose(clipped["a"], [1.5, 0]) and np.allclose(clipped["b"], 2)
    assert clip_norm(g, 5.1) is g
    assert np.isnan(clip_norm({"a": np.array([np.nan])}, 1.0)["a"]).all()


def test_optimizer_starts_the_moments_of_learned_entries_when_they_appear():
    adam = optimizers.get("adam")
    moments = adam.init({"w": np.zeros(2)})
    params, moments = adam.update({"w": np.zeros(2), "estimator.eta": np.array(1.0)},
                                  {"w": np.ones(2), "estimator.eta": np.array(2.0)}, moments, 1, 0.1)
    assert params["estimator.eta"] == pytest.approx(0.9, abs=1e-7)  # the first step of Adam is lr * sign(g)
    assert {"m.estimator.eta", "v.estimator.eta"} <= moments.keys()
    with pytest.raises(ValueError, match="unknown optimizer"):
        optimizers.get("adamw")


@pytest.mark.parametrize("how, bound", [("pytorch", 1 / math.sqrt(50)), ("glorot", math.sqrt(6 / 450)),
                                        ("he", math.sqrt(6 / 50))])
def test_initialisations_fill_their_ranges(how, bound):
    params = MLP("m", (50, 400, 3), "relu", OPS, how).init(rng.Generator(0, rng.INIT), np.float64)
    w = params["m.0.weight"]
    assert w.shape == (50, 400) and np.abs(w).max() <= bound and np.abs(w).max() > 0.999 * bound
    assert abs(w.std() * math.sqrt(3) / bound - 1) < 0.01           # 20,000 uniforms
    b = params["m.0.bias"]
    assert (np.abs(b).max() > 0.9 * bound) if how == "pytorch" else (b == 0).all()


def test_merged_states_average_what_differs_and_keep_what_agrees():
    a = {"mean": np.array(1.0), "tau": np.array(0.1), "n": np.array(3)}
    b = {"mean": np.array(4.0), "tau": np.array(0.1), "n": np.array(3)}
    merged = merge([(a, 2 / 3), (b, 1 / 3)])
    assert merged["mean"] == pytest.approx(2.0) and merged["tau"] == 0.1 and merged["n"].dtype.kind == "i"
    assert merge([(None, 1.0)]) is None
