"""Identities between estimators, each exact up to rounding. Share of the suite: 1 s."""
import collections

import numpy as np
import pytest

from npdvae import estimators
from npdvae.backends import load
from npdvae.rng import Generator
from npdvae.verify import costs, exact_gradient, moments
from npdvae.verify.quadrature import gumbel_moments

EXACT = 1e-12                                                       # roundings of sums of a few dozen terms


def random_problem(B=2, D=2, K=3, seed=0, kind="cubic"):
    logits = 1.5 * np.random.default_rng(seed).normal(size=(B, D, K))
    return logits, costs.make(kind, seed + 1, B, D, K)


def value(estimator, draw, cost):
    return estimator.backward(draw, cost(draw.codes), cost.gradient(draw.codes))


def assert_same_values(one, other, logits, cost):
    """The same dlogits for the same draws of one sample."""
    for seed in range(20):
        draw, twin = one.sample(logits, Generator(seed)), other.sample(logits, Generator(seed))
        assert (draw.codes == twin.codes).all()
        found, expected = value(one, draw, cost), value(other, twin, cost)
        assert np.abs(found - expected).max() <= EXACT * np.abs(expected).max()


@pytest.mark.parametrize("seed", range(5))
def test_reinmax_is_zgr_at_temperature_one(seed):
    assert_same_values(estimators.get("reinmax"), estimators.get("zgr"), *random_problem(K=2 + seed, seed=seed))


def test_decoupled_is_straight_through_where_it_draws_at_temperature_one():
    decoupled = estimators.get("decoupled_straight_through", temperature=1.3, forward_temperature=1.0)
    assert_same_values(decoupled, estimators.get("straight_through", temperature=1.3), *random_problem())


def test_zgr_is_the_mean_of_straight_through_and_darn_at_the_probabilities():
    logits, cost = random_problem()
    parts = estimators.get("straight_through"), estimators.get("darn", centre="probabilities")
    draw = parts[0].sample(logits, Generator(0))
    expected = sum(value(part, draw, cost) for part in parts) / 2
    assert np.abs(value(estimators.get("zgr"), draw, cost) - expected).max() <= EXACT * np.abs(expected).max()


def test_reinmax_cv_without_its_control_is_reinmax():
    logits, cost = random_problem()
    estimator = estimators.get("reinmax_cv", eta=0.0, temperature=1.2)
    draw = estimator.sample(logits, Generator(0))
    expected = value(estimators.get("reinmax", temperature=1.2), draw, cost)
    assert np.abs(value(estimator, draw, cost) - expected).max() <= EXACT * np.abs(expected).max()


@pytest.mark.parametrize("name", ["straight_through", "reinmax", "zgr", "darn", "rloo"])
def test_covariance_falls_as_one_over_the_samples(name):
    """Twice as many independent samples: the same mean and half the covariance (for RLOO, from two to three, less)."""
    logits, cost = random_problem(B=1, D=1)
    fewer, more = (3, 4) if name == "rloo" else (1, 2)
    mean, covariance = moments(estimators.get(name, samples=fewer), logits, cost, cost.gradient)
    mean2, covariance2 = moments(estimators.get(name, samples=more), logits, cost, cost.gradient)
    assert np.abs(mean - mean2).max() <= EXACT * np.abs(mean).max()
    if name == "rloo":
        assert np.trace(covariance2[0]) < fewer / more * np.trace(covariance[0])
    else:
        assert np.abs(covariance - 2 * covariance2).max() <= EXACT * np.abs(covariance).max()


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_gr_mc_has_the_mean_of_straight_through_gumbel_and_less_variance(temperature):
    logits, cost = random_problem(B=1, D=1, K=2)
    through = gumbel_moments(estimators.get("straight_through_gumbel", temperature=temperature), logits, cost,
                             cost.gradient)
    rao = gumbel_moments(estimators.get("gr_mc", temperature=temperature, conditional_draws=4), logits, cost,
                         cost.gradient)
    assert np.abs(through.mean - rao.mean).max() <= 1e-9 * through.scale.max()     # of the quadrature
    assert np.trace(rao.covariance[0]) < np.trace(through.covariance[0])


def test_gr_mc_with_one_draw_is_straight_through_gumbel_at_the_noise_it_stands_for():
    """The conditional noise, added to nothing twice: G = G~ - phi gives back the same code and the same gradient."""
    logits, cost = random_problem(K=4)
    rao = estimators.get("gr_mc", conditional_draws=1)
    draw = rao.sample(logits, Generator(3))
    e = -np.log(draw.kept["v"])                                     # [S, B, D, K]
    total = np.exp(logits).sum(-1, keepdims=True)                   # [B, D, 1]
    winner = np.take_along_axis(e, draw.codes[..., None], -1) / total
    won = np.arange(4) == draw.codes[..., None]
    perturbed = -np.log(np.where(won, winner, e / np.exp(logits) + winner))
    through = estimators.get("straight_through_gumbel")
    same = through.from_noise(logits, np.exp(-np.exp(logits - perturbed)))
    assert (same.codes == draw.codes).all()
    expected = value(through, same, cost)
    assert np.abs(value(rao, draw, cost) - expected).max() <= 1e-10 * np.abs(expected).max()   # exp(-exp) and back


def test_gumbel_softmax_tends_to_straight_through_gumbels_codes_as_the_temperature_falls():
    logits, _ = random_problem(B=50, K=4)
    u = Generator(0).uniform((1, 50, 2, 4))
    relaxed = estimators.get("gumbel_softmax", temperature=1e-4).from_noise(logits, u).codes
    hard = estimators.get("straight_through_gumbel").from_noise(logits, u).codes
    assert (relaxed.argmax(-1) == hard).all()
    assert relaxed.max(-1).min() > 0.99


def test_disarm_is_arm_averaged_over_what_its_pair_of_codes_leaves_open():
    logits, cost = random_problem(B=1, D=2, K=2)
    arm, disarm = estimators.get("arm"), estimators.get("disarm")
    mass, mean = collections.Counter(), collections.Counter()
    for probability, draw in arm.outcomes(logits):
        key = draw.codes.tobytes()
        mass[key] += probability[0]
        mean[key] = mean[key] + probability[0] * value(arm, draw, cost)
    pairs = list(disarm.outcomes(logits))
    assert len(mass) == len(pairs)
    for probability, draw in pairs:
        key = draw.codes.tobytes()
        assert abs(probability[0] - mass[key]) <= EXACT
        assert np.abs(value(disarm, draw, cost) - mean[key] / mass[key]).max() <= EXACT * np.abs(cost(draw.codes)).max()


def test_rloo_of_two_samples_is_half_the_product_of_differences():
    logits, cost = random_problem()
    rloo = estimators.get("rloo", samples=2)
    draw = rloo.sample(logits, Generator(0))
    f, z = cost(draw.codes), np.eye(3)[draw.codes]                  # [2, B], [2, B, D, K]
    expected = (f[0] - f[1])[:, None, None] * (z[0] - z[1]) / 2
    assert np.abs(value(rloo, draw, cost) - expected).max() <= EXACT * np.abs(expected).max()


def test_local_expectation_of_one_latent_is_the_gradient_itself():
    logits, cost = random_problem(D=1, K=5)
    true = exact_gradient(logits, cost)
    leg = estimators.get("local_expectation")
    for seed in range(10):
        found = value(leg, leg.sample(logits, Generator(seed)), cost)
        assert np.abs(found - true).max() <= EXACT * np.abs(true).max()


class OneImage:
    """A decoder l = W z + c of D one-hot rows for one image x: log p(x | z), in nats, complex steps pass through."""

    def __init__(self, D, K, P, seed):
        rng = np.random.default_rng(seed)
        self.ops, self.x = load("numpy"), rng.integers(0, 2, P).astype(float)
        self.weight, self.bias = rng.normal(size=(D * K, P)), rng.normal(size=P)

    def log_likelihood(self, codes, weight):
        return -self.ops.bce(self.ops.code_linear(codes, weight, self.bias), self.x)

    def explicit_gradient(self, codes):
        """d log p(x | z) / d weight by the hand-written backwards."""
        logits = self.ops.code_linear(codes, self.weight, self.bias)
        dlogits = self.ops.bce_backward(-np.ones(codes.shape[:-1]), logits, self.x)
        return self.ops.code_linear_backward(dlogits, codes, self.weight)[1]


def surrogate(model, codes, logits, weight, held_logits):
    """Thickstun's single loss, last page of the notes on discrete VAEs; {.} is what is held: [...].

    q log p(x|z) / {q} + 1 - log |Z| - q (1 + {log q}) / {q}: as a number it is log p(x|z) - log |Z| - log q, the
    sampled ELBO; its gradient, the held parts constant, is eq. (9) for the encoder and for the decoder at once.
    """
    D, K = logits.shape[-2:]
    log_q = model.ops.log_prob(model.ops.log_softmax(logits), codes)
    held_log_q = model.ops.log_prob(model.ops.log_softmax(held_logits), codes)
    ratio = np.exp(log_q - held_log_q)                              # q / {q}
    likelihood = ratio * model.log_likelihood(codes, weight)
    return likelihood + 1 - D * np.log(K) - ratio * (1 + held_log_q)


def surrogate_gradients(model, codes, logits):
    """Of the surrogate w.r.t. the decoder's weight and the logits, by complex steps."""
    return (complex_step(lambda weight: surrogate(model, codes, logits, weight, logits), model.weight),
            complex_step(lambda moved: surrogate(model, codes, moved, model.weight, logits), logits))


def complex_step(f, x):
    """Gradient of a real function by complex steps, entry by entry: no subtraction, so no error but rounding."""
    gradient = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[i] += 1e-20j
        gradient[i] = f(moved).imag / 1e-20
    return gradient


@pytest.mark.parametrize("seed", range(3))
def test_the_single_surrogate_loss_gives_the_explicit_gradients(seed):
    D, K, P = 2, 3, 5
    model, logits = OneImage(D, K, P, seed), np.random.default_rng(seed).normal(size=(D, K))
    estimator = estimators.get("reinforce_sampled_kl", baseline="none", samples=1)
    for _, draw in estimator.outcomes(logits[None]):
        codes = draw.codes[0, 0]                                    # [D]
        log_p = model.log_likelihood(codes, model.weight)
        log_q = model.ops.log_prob(model.ops.log_softmax(logits), codes)
        loss = surrogate(model, codes, logits, model.weight, logits)
        assert abs(loss - (log_p - D * np.log(K) - log_q)) <= EXACT * abs(loss)

        dtheta, dphi = surrogate_gradients(model, codes, logits)
        explicit = model.explicit_gradient(codes[None])
        assert np.abs(dtheta - explicit).max() <= EXACT * np.abs(explicit).max()
        explicit = (log_p - 1 - log_q) * (np.eye(K)[codes] - model.ops.softmax(logits))     # eq. (9)
        assert np.abs(dphi - explicit).max() <= EXACT * np.abs(explicit).max()
        ours = estimator.backward(draw, -log_p[None, None])[0]      # descends
        assert np.abs(ours + dphi).max() <= EXACT * np.abs(dphi).max()
