"""What every estimator must satisfy, found through the registry. Share of the suite: 20 s.

Expectations are sums over the estimator's own finite noise, so the tolerances are roundings of float64 sums: at most
some hundred terms of the scale E |dlogits| or, where they cancel, of the cost itself.
"""
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npdvae import estimators
from npdvae.rng import Generator
from npdvae.verify import costs, exact_gradient
from npdvae.verify.continuous import noise_moments
from npdvae.verify.moments import enumerate_moments, prepared
from tests import evidence
from tests.strategies import CASES, CONTINUOUS, EXTREMES, FINITE, Problem, problem, problems, shapes, twin

EXACT = 1e-12
SAMPLES = 5000                                                      # draws for frequencies


def among(cases, predicate=lambda estimator: True):
    """Parametrise over those cases whose estimator satisfies a predicate."""
    return pytest.mark.parametrize("case", [case for case in cases if predicate(CASES[case].make())])


def kinds_claimed(estimator):
    """The kinds of cost for which the estimator promises the exact gradient."""
    order = (None, *costs.ORDER)
    return [kind for kind in costs.KINDS if order.index(estimator.exact_for) >= order.index(costs.CLASS[kind])]


def moments(p: Problem):
    return enumerate_moments(p.estimator, p.logits, p.cost, p.cost.gradient, state=p.state, context=p.context)


def rounding(p: Problem, found):
    """The scale of rounding: the largest E |dlogits|, and what cancels before it."""
    C = p.cost(next(iter(p.outcomes()))[1].codes)
    return found.scale.max() + np.abs(C).max()


def true_gradient(p: Problem):
    return exact_gradient(p.logits, p.cost, objective=p.estimator.objective,
                          samples=getattr(p.estimator, "samples", None))


@pytest.mark.parametrize("name", estimators.names())
def test_estimator_is_complete(name):
    estimator = estimators.get(name)
    assert estimator.name == name and type(estimator).__doc__ and callable(twin(name))
    assert estimator.objective in ("expectation", "sampled_kl", "importance_weighted")
    assert estimator.exact_for in ("any", "quadratic", "multilinear", None)
    assert not estimator.unbiased or estimator.exact_for == "any"
    assert not (estimator.unbiased and estimator.relaxed)


@among(CASES)
def test_estimator_draws_as_many_rows_as_it_says(case):
    p = problem(case, shapes(case)[0])
    B, D, K = p.logits.shape
    draw = p.draw()
    assert draw.codes.shape in [(len(draw.codes), b, D, *k) for b in (1, B) for k in ((), (K,))]
    assert len(draw.codes) <= p.estimator.evaluations(D, K)
    assert p.backward(draw).shape == (B, D, K)


@among(FINITE)
def test_outcomes_have_probabilities_that_sum_to_one(case):
    @given(problems(case, spreads=(0.0, 0.5, 2.0, *EXTREMES)))
    @settings(max_examples=5)
    def check(p):
        total = 0
        for probability, draw in p.outcomes():
            assert probability.shape == (len(p.logits),) and not (probability < 0).any()
            assert np.isfinite(p.backward(draw)).all()
            total = total + probability
        assert np.abs(total - 1).max() <= EXACT
    check()


@among(FINITE, kinds_claimed)
def test_mean_is_the_gradient_where_that_is_claimed(case):
    @given(problems(case, kinds_claimed(CASES[case].make())))
    @settings(max_examples=6)
    def check(p):
        found = moments(p)
        assert np.abs(found.mean - true_gradient(p)).max() <= EXACT * rounding(p, found)
    check()


@among(FINITE, lambda estimator: not estimator.unbiased)
def test_mean_is_not_the_gradient_outside_the_claimed_class(case):
    kind = {"multilinear": "quadratic", "quadratic": "cubic", None: "cubic"}[CASES[case].make().exact_for]
    p = problem(case, max(shapes(case), key=lambda shape: shape[2]), kind)
    found, true = moments(p), true_gradient(p)
    assert np.abs(found.mean - true).max() >= 0.01 * np.abs(true).max()


@among(FINITE, lambda estimator: not estimator.relaxed)
def test_decoder_weights_give_the_expected_cost(case):
    """The weighted costs have mean E_q[cost], and the weights of importance-weighted bounds sum to one."""
    p = problem(case, shapes(case)[0])
    found = scale = 0
    for probability, draw in p.outcomes():
        cost = p.cost(draw.codes)
        weights = p.estimator.weigh(draw, cost)
        assert weights.shape in [cost.shape, (len(cost), 1)]
        if p.estimator.objective == "importance_weighted":
            assert np.abs(weights.sum(0) - 1).max() <= EXACT
            return
        found = found + probability * (weights * cost).sum(0)       # [B]
        scale = max(scale, np.abs(cost).max())
    exact = estimators.get("exact")
    draw = exact.sample(p.logits, None)
    assert np.abs(found - (exact.weigh(draw, None) * p.cost(draw.codes)).sum(0)).max() <= EXACT * scale


@among(FINITE)
def test_samples_have_the_frequencies_of_the_outcomes(case):
    """Where outcomes or sampler are wrong, the e-value exceeds 1e9 or an impossible code is drawn."""
    for spread in (0.0, 1.5):
        p = problem(case, shapes(case)[0], spread=spread, seed=5)
        evidence.assert_frequencies(p, SAMPLES)


def test_frequencies_convict_a_wrong_sampler_beside_right_outcomes():
    p = problem("straight_through-samples=1", (2, 1, 3), seed=5)

    class Sharper(type(p.estimator)):
        def sample(self, logits, rng, state=None, context=None):
            draw = super().sample(1.5 * logits, rng, state, context)
            return type(draw)(draw.codes, logits, draw.kept)

    class Shifted(type(p.estimator)):
        def sample(self, logits, rng, state=None, context=None):
            draw = super().sample(logits, rng, state, context)
            return type(draw)((draw.codes + 1) % logits.shape[-1], logits, draw.kept)

    class Relaxed(type(p.estimator)):
        def sample(self, logits, rng, state=None, context=None):
            draw = super().sample(logits, rng, state, context)
            return type(draw)(0.9 * self.rows(draw), logits, draw.kept)

    evidence.assert_frequencies(p, SAMPLES)
    for wrong in (Sharper, Shifted, Relaxed):
        with pytest.raises(AssertionError, match="sampler"):
            evidence.assert_frequencies(p._replace(estimator=wrong(samples=1)), SAMPLES)


@among([case for case in CASES if case in CONTINUOUS or CASES[case].name in evidence.CELLS])
def test_samples_have_the_mean_that_they_should(case):
    """Where single values cannot be compared: the mean by enumeration, of an unbiased method, or by quadrature."""
    coarse = CASES[case].make().binary or CASES[case].make().noise == "normal"   # whose rule takes K dimensions
    p = problem(case, (1, 1, 2 if coarse else 3), spread=1.5, seed=5)
    if p.estimator.unbiased:
        mean = true_gradient(p)
    else:                                                           # of independent draws: one has the mean
        fewest = {k: 1 for k in ("samples", "conditional_draws") if getattr(p.estimator, k, 0) > 1}
        one = estimators.get(p.estimator.name, **{**CASES[case].options, **fewest})
        mean = noise_moments(one, p.logits, p.cost, p.cost.gradient, state=p.state).mean
    dlogits = evidence.estimates(p, 2 * SAMPLES)                    # [N, D, K]
    evidence.assert_mean(dlogits, mean[0], p.estimator.name)
    if CASES[case].finite:
        found = moments(p)
        square = np.diagonal(found.covariance[0]).reshape(mean[0].shape) + mean[0] ** 2
        evidence.assert_mean(dlogits ** 2, square, p.estimator.name)


@among(CONTINUOUS, lambda estimator: not estimator.relaxed)
def test_samples_that_train_the_decoder_are_codes_from_q(case):
    evidence.assert_hard_codes(problem(case, shapes(case)[0], spread=1.5, seed=5), SAMPLES)


@among(CASES)
def test_backward_equals_its_twin_on_every_outcome(case):
    backward = twin(CASES[case].name)

    @given(problems(case, spreads=(0.5, 2.0), most=300), st.integers(0, 2 ** 16))
    @settings(max_examples=4)
    def check(p, seed):
        draws = [p.draw(Generator(seed)), p.draw(Generator(seed + 1))]
        if CASES[case].finite:
            enumerated = [draw for _, draw in p.outcomes()]
            draws += enumerated[::-(-len(enumerated) // 12)]
        for draw in draws:
            f, g = p.cost(draw.codes), p.cost.gradient(draw.codes)
            mine, theirs = p.backward(draw), backward(p.estimator, draw, f, g, p.state)
            assert theirs.shape == mine.shape
            assert np.abs(mine - theirs).max() <= EXACT * (np.abs(theirs).max() + np.abs(f).max() + np.abs(g).max())
    check()


@among(FINITE)
def test_covariance_equals_its_twins(case):
    p = problem(case, min(shapes(case), key=lambda s: s[0] * s[2] ** s[1]), seed=2)
    backward = twin(CASES[case].name)

    class Twin(type(p.estimator)):
        def backward(self, draw, cost, dcodes=None, state=None):
            return backward(self, draw, cost, p.cost.gradient(draw.codes), state)

    slow = Twin.__new__(Twin)
    slow.__dict__.update(p.estimator.__dict__)
    mine, theirs = moments(p), moments(p._replace(estimator=slow))
    scale = np.abs(theirs.covariance).max() + rounding(p, theirs) ** 2
    assert np.abs(mine.covariance - theirs.covariance).max() <= EXACT * scale
    assert np.abs(mine.mean - theirs.mean).max() <= EXACT * rounding(p, theirs)


class Permuted:
    """A cost of permuted latents and categories: code k' of latent d' stands for k = categories[k'] of latents[d']."""

    def __init__(self, cost, latents, categories):
        self.cost, self.latents, self.categories = cost, latents, categories

    def original(self, codes):
        latents = np.argsort(self.latents)
        if codes.ndim == 3:
            return self.categories[codes[..., latents]]
        return codes[..., latents, :][..., np.argsort(self.categories)]

    def __call__(self, codes):
        return self.cost(self.original(codes))

    def gradient(self, codes):
        return self.cost.gradient(self.original(codes))[..., self.latents, :][..., self.categories]


@among(FINITE)
def test_permuting_latents_and_categories_permutes_the_mean(case):
    @given(problems(case), st.randoms(use_true_random=False))
    @settings(max_examples=4)
    def check(p, random):
        _, D, K = p.logits.shape
        latents, categories = (np.array(random.sample(range(n), n)) for n in (D, K))
        moved = p._replace(logits=p.logits[:, latents][..., categories],
                           cost=Permuted(p.cost, latents, categories))
        found, after = moments(p), moments(moved)
        assert np.abs(found.mean[:, latents][..., categories] - after.mean).max() <= EXACT * rounding(p, found)
    check()


@among(CASES, lambda estimator: estimator.noise in ("gumbel", "second_argmax") and estimator.name != "relax")
def test_permuting_the_noise_with_the_categories_permutes_the_estimate(case):
    """Path by path, for estimators whose forward is a function of one uniform per category.

    Not relax: its learned surrogate tells the categories apart.
    """
    p = problem(case, shapes(case)[0])
    B, D, K = p.logits.shape
    categories = np.roll(np.arange(K), 1)
    S, k = getattr(p.estimator, "samples", 1), getattr(p.estimator, "conditional_draws", 1)
    u, v = Generator(0).uniform((S, B, D, K)), Generator(1).uniform((S, B, D, k * K)).reshape(S, B, D, k, K)
    moved = p._replace(logits=p.logits[..., categories], cost=Permuted(p.cost, np.arange(D), categories))
    found = p.backward(p.estimator.from_noise(p.logits, u, v.reshape(S, B, D, -1), p.state, p.context))
    after = moved.backward(p.estimator.from_noise(moved.logits, u[..., categories],
                                                  v[..., categories].reshape(S, B, D, -1), p.state, p.context))
    assert np.abs(found[..., categories] - after).max() <= EXACT * np.abs(found).max()


class Raised:
    """A cost plus a constant."""

    def __init__(self, cost, constant):
        self.cost, self.constant, self.gradient = cost, constant, cost.gradient

    def __call__(self, codes):
        return self.cost(codes) + self.constant


@among(FINITE)
def test_a_constant_added_to_the_cost_changes_no_mean(case):
    @given(problems(case), st.floats(-100, 100))
    @settings(max_examples=4)
    def check(p, constant):
        found = moments(p)
        raised = p._replace(cost=Raised(p.cost, constant))
        after = moments(raised)
        assert np.abs(found.mean - after.mean).max() <= EXACT * (rounding(p, found) + rounding(raised, after))
    check()


@among(FINITE)
def test_rows_of_the_mean_sum_to_zero(case):
    @given(problems(case, spreads=(0.5, 2.0, *EXTREMES)))
    @settings(max_examples=4)
    def check(p):
        found = moments(p)
        assert np.abs(found.mean.sum(-1)).max() <= EXACT * rounding(p, found)
    check()


@among(CONTINUOUS)
def test_rows_of_every_estimate_sum_to_zero_where_noise_is_continuous(case):
    @given(problems(case, spreads=(0.5, 2.0, *EXTREMES)), st.integers(0, 2 ** 16))
    @settings(max_examples=4)
    def check(p, seed):
        draw = p.draw(Generator(seed))
        scale = np.abs(p.cost(draw.codes)).max() + np.abs(p.cost.gradient(draw.codes)).max()
        assert np.abs(p.backward(draw).sum(-1)).max() <= EXACT * scale / getattr(p.estimator, "temperature", 1)
    check()


class Beside:
    """A cost that differs from another for all examples but the first."""

    def __init__(self, cost, batch):
        self.cost, self.scale = cost, 1 + 5.0 * (np.arange(batch) > 0)

    def __call__(self, codes):
        return self.cost(codes) * self.scale

    def gradient(self, codes):
        return self.cost.gradient(codes) * self.scale[:, None, None]


@among(CASES, lambda estimator: not estimator.couples_batch)
def test_examples_do_not_leak_into_each_other(case):
    """An example's estimate is the same whatever stands beside it, where the estimator does not couple the batch."""
    shape = next(s for s in shapes(case) if s[0] > 1)
    p = problem(case, shape)
    other = p._replace(logits=np.concatenate([p.logits[:1], 3 - 2 * p.logits[1:]]), cost=Beside(p.cost, shape[0]))
    for seed in range(3):
        alone, beside = (q.backward(q.draw(Generator(seed)))[0] for q in (p, other))
        assert (alone == beside).all()


@among(CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_in_is_dtype_out_and_finite(case, dtype):
    for spread in (0.0, 1.0, *EXTREMES):
        p = problem(case, shapes(case)[-1], spread=spread, dtype=dtype)
        draw = p.draw()
        cost = p.cost(draw.codes)
        dlogits, weights = p.backward(draw), p.estimator.weigh(draw, cost)
        assert draw.codes.dtype == dtype or draw.codes.dtype.kind == "i"
        assert dlogits.dtype == dtype and np.isfinite(dlogits).all()
        assert weights.dtype == dtype and np.isfinite(weights).all()


@among(CASES, lambda estimator: estimator.init(Generator(0), 2, 2, 3) is not None)
def test_state_is_never_changed_in_place(case):
    p = problem(case, shapes(case)[0])
    before = {k: np.array(v) for k, v in p.state.items()}
    draw = p.draw()
    f, g = p.cost(draw.codes), p.cost.gradient(draw.codes)
    p.estimator.backward(draw, f, g, p.state)
    learned = p.estimator.learn(draw, f, g, p.state)
    after = p.estimator.advance(draw, f, p.state)
    first, _ = prepared(p.estimator, p.logits)
    assert set(after) == set(before) == set(first) and set(learned) <= set(before)
    for key, value in before.items():
        assert (p.state[key] == value).all()
        for now in (after[key], value):
            assert np.asarray(now).dtype == first[key].dtype and np.shape(now) == first[key].shape
    for key, gradient in learned.items():
        assert np.shape(gradient) == before[key].shape and np.isfinite(gradient).all()


def test_every_name_has_an_enumeration_or_is_continuous():
    assert set(itertools.chain(FINITE, CONTINUOUS)) == set(CASES)
    assert {CASES[case].name for case in CASES} == set(estimators.names())
