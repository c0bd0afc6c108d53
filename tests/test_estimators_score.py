"""What is special to each estimator of the score-function family. Share of the suite: 2 s."""
import collections
import importlib
import itertools

import numpy as np
import pytest

from npdvae import backends, estimators
from npdvae.estimators import unordered_set
from npdvae.estimators.parts import distinct_codes
from npdvae.rng import Generator
from npdvae.verify import costs, exact_gradient
from npdvae.verify.moments import enumerate_moments

# Float64 sums over at most some thousand outcomes: rounding is about 1e-15 of the scale E |dlogits|.
EXACT = 1e-12
OPS = backends.load("numpy")


def problem(kind="cubic", seed=0, B=2, D=2, K=3, spread=1.0):
    """Random logits [B, D, K] and a cost of one kind."""
    logits = spread * np.random.default_rng(seed).normal(size=(B, D, K))
    return logits, costs.make(kind, seed + 1, B, D, K)


def assert_unbiased(estimator, logits, cost, state=None, context=None, **objective):
    found = enumerate_moments(estimator, logits, cost, cost.gradient, state=state, context=context)
    true = exact_gradient(logits, cost, objective=estimator.objective, **objective)
    assert np.abs(found.total - 1).max() <= EXACT
    assert np.abs(found.mean - true).max() <= EXACT * found.scale.max()


def assert_twin(estimator, logits, cost, state=None, context=None, seed=3, batch_only=False):
    """One draw's dlogits against the loop-written twin."""
    draw = estimator.sample(logits, Generator(seed), state, context)
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    twin = importlib.import_module(f"tests.twins.{estimator.name}")
    mine = estimator.backward(draw, f, g, state)
    theirs = twin.backward(estimator, draw, f, g, state)
    assert mine.shape == logits.shape
    assert np.abs(mine - theirs).max() <= EXACT * (1 + np.abs(f).max() + np.abs(g).max())


def warm_state(estimator, logits, cost, context, steps=3):
    """A state that has seen some costs and whose learned entries are not at their start."""
    state = estimator.init(Generator(5), *logits.shape[1:], context.shape[1])
    if state is None:
        return None
    for i in range(steps):
        draw = estimator.sample(logits, Generator(10 + i), state, context)
        state = estimator.advance(draw, cost(draw.codes), state)
    learned = estimator.learn(draw, cost(draw.codes), cost.gradient(draw.codes), state)
    rng = np.random.default_rng(6)
    return {**state, **{key: state[key] + 0.3 * rng.normal(size=np.shape(state[key])) for key in learned}}


REINFORCE = [{"baseline": "none"}, {"baseline": "constant", "baseline_value": 7.0}, {"baseline": "running_mean"},
             {"baseline": "batch_leave_one_out"}, {"baseline": "nvil", "hidden": 4},
             {"baseline": "nvil", "hidden": 4, "normalise": True}]


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("options", REINFORCE, ids=lambda o: "-".join(map(str, o.values())))
def test_reinforce_is_unbiased_and_equals_its_twin(options, samples):
    estimator = estimators.get("reinforce", samples=samples, **options)
    logits, cost = problem(K=3 if samples == 1 else 2)
    context = np.random.default_rng(2).normal(size=(2, 3))
    state = warm_state(estimator, logits, cost, context)
    assert_twin(estimator, logits, cost, state, context)
    assert_twin(estimator, logits, cost, None, context)
    if options.get("normalise"):
        assert not estimator.unbiased and estimator.exact_for is None
    else:
        assert estimator.unbiased
        assert_unbiased(estimator, logits, cost, state, context)


def test_nvil_normalisation_divides_by_the_running_deviation():
    logits, cost = problem()
    context = np.random.default_rng(2).normal(size=(2, 3))
    plain, scaled = (estimators.get("reinforce", baseline="nvil", hidden=4, normalise=n) for n in (False, True))
    state = warm_state(plain, logits, cost, context)
    for sd, divisor in ((1.5, 1.5), (0.5, 1)):                      # never magnified
        state["square_sum"] = sd ** 2 * state["weight_sum"]
        mean = enumerate_moments(scaled, logits, cost, state=state, context=context).mean
        assert np.abs(divisor * mean - exact_gradient(logits, cost)).max() <= EXACT * 100


def test_nvil_remembers_the_moments_of_past_costs():
    estimator = estimators.get("reinforce", baseline="nvil", hidden=4, decay=0.75)
    logits, cost = problem()
    context = np.random.default_rng(2).normal(size=(2, 3))
    state = warm_state(estimator, logits, cost, context)
    draw = estimator.sample(logits, Generator(9), state, context)
    f = cost(draw.codes)
    residual = f - estimator.baseline.layers(context, state)[0]     # f - b(x)
    centred = residual - state["cost_sum"] / state["weight_sum"]
    after = estimator.advance(draw, f, state)
    for key, value in (("cost_sum", residual), ("square_sum", centred ** 2), ("weight_sum", np.ones(1))):
        assert np.abs(after[key] - (0.75 * state[key] + 0.25 * value.mean())).max() <= 1e-12
    for key in ("hidden_weight", "hidden_bias", "output_weight", "output_bias"):
        assert np.array_equal(after[key], state[key])               # the optimizer's, not ours


def test_running_mean_is_of_past_costs_only():
    estimator = estimators.get("reinforce", baseline="running_mean", decay=0.5, samples=2)
    logits, cost = problem()
    state = estimator.init(Generator(1), 2, 3)
    history = []
    for i in range(4):
        draw = estimator.sample(logits, Generator(i), state)
        f = cost(draw.codes)
        weights = [0.5 ** (len(history) - j) for j in range(len(history))]
        expected = np.average(history, weights=weights) if history else 0
        assert np.abs(estimator.baseline.coefficient(f, None, state) - (f - expected)).max() <= 1e-12
        before = {k: v.copy() for k, v in state.items()}
        state = estimator.advance(draw, f, state)
        assert set(state) == set(before) and all(v.shape == before[k].shape for k, v in state.items())
        history.append(f.mean())


def test_batch_leave_one_out_excludes_its_own_cost_only():
    estimator = estimators.get("reinforce", baseline="batch_leave_one_out", samples=2)
    f = np.random.default_rng(0).normal(size=(2, 3))
    coefficient = estimator.baseline.coefficient(f, None, None)
    for s, b in np.ndindex(2, 3):
        assert abs(coefficient[s, b] - (f[s, b] - (f.sum() - f[s, b]) / 5)) <= 1e-14
    assert np.array_equal(estimator.baseline.coefficient(f[:1, :1], None, None), f[:1, :1])
    assert estimator.couples_batch and not estimators.get("reinforce").couples_batch


@pytest.mark.parametrize("with_context", [True, False])
def test_nvil_learns_the_gradient_of_its_squared_error(with_context):
    estimator = estimators.get("reinforce", baseline="nvil", hidden=4, samples=2)
    logits, cost = problem(B=3)
    context = np.random.default_rng(2).normal(size=(3, 5 if with_context else 0))
    state = warm_state(estimator, logits, cost, context)
    draw = estimator.sample(logits, Generator(3), state, context if with_context else None)
    f = cost(draw.codes)

    def loss(state):
        return (estimator.baseline.coefficient(f, draw.kept["context"], state) ** 2).mean()

    assert_gradient(loss, estimator.learn(draw, f, None, state), state)


def assert_gradient(loss, dstate, state, h=1e-3):
    """Five-point differences of a loss of the state against the learned gradient: error about h^4."""
    assert dstate
    for key, gradient in dstate.items():
        assert gradient.shape == state[key].shape
        for index in np.ndindex(state[key].shape):
            shifted = []
            for step in (-2, -1, 1, 2):
                value = state[key].copy()
                value[index] += step * h
                shifted.append(loss({**state, key: value}))
            numeric = (shifted[0] - 8 * shifted[1] + 8 * shifted[2] - shifted[3]) / (12 * h)
            assert abs(gradient[index] - numeric) <= 1e-8 * (1 + abs(numeric)), (key, index)


@pytest.mark.parametrize("options, word", [
    ({"samples": 0}, "samples"), ({"baseline": "mean"}, "unknown baseline 'mean'"),
    ({"baseline": "none", "decay": 0.5}, "no setting decay"), ({"decay": 1.0}, "decay"),
    ({"baseline": "nvil", "hidden": 0}, "hidden"), ({"baseline": "running_mean", "baseline_value": 3.0}, "constant")])
def test_reinforce_refuses_senseless_options(options, word):
    with pytest.raises(ValueError, match=word):
        estimators.get("reinforce", **options)


def test_nvil_names_a_missing_context():
    estimator = estimators.get("reinforce", baseline="nvil")
    logits, cost = problem()
    state = estimator.init(Generator(0), 2, 3, 5)
    draw = estimator.sample(logits, Generator(0), state)
    with pytest.raises(ValueError, match="context of 5 numbers"):
        estimator.backward(draw, cost(draw.codes), None, state)


def test_exact_and_rloo_equal_their_twins():
    logits, cost = problem()
    for estimator in (estimators.get("exact"), estimators.get("rloo"), estimators.get("rloo", samples=2)):
        assert_twin(estimator, logits, cost)


def test_rloo_with_two_samples_has_its_closed_form():
    logits, cost = problem()
    estimator = estimators.get("rloo", samples=2)
    draw = estimator.sample(logits, Generator(4))
    f, z = cost(draw.codes), np.eye(3)[draw.codes]
    closed = ((f[0] - f[1]) / 2)[:, None, None] * (z[0] - z[1])     # (f - f')(z - z') / 2
    assert np.abs(estimator.backward(draw, f) - closed).max() <= 1e-12 * np.abs(f).max()


@pytest.mark.parametrize("entropy", ["sampled", "analytic"])
@pytest.mark.parametrize("options", REINFORCE[:1] + REINFORCE[2:5], ids=lambda o: o["baseline"])
def test_reinforce_sampled_kl_is_unbiased_and_equals_its_twin(options, entropy):
    estimator = estimators.get("reinforce_sampled_kl", entropy=entropy, **options)
    logits, cost = problem()
    context = np.random.default_rng(2).normal(size=(2, 3))
    state = warm_state(estimator, logits, cost, context)
    assert_twin(estimator, logits, cost, state, context)
    assert_unbiased(estimator, logits, cost, state, context)


def test_sampled_entropy_may_drop_its_one():
    logits, cost = problem()
    estimator = estimators.get("reinforce_sampled_kl", baseline="constant", baseline_value=1.0)
    assert_unbiased(estimator, logits, cost)                        # f + log q + 1 - 1


def test_sampled_kl_is_the_expectation_plus_the_entropy_in_closed_form():
    logits, cost = problem()
    estimator = estimators.get("reinforce_sampled_kl", baseline="none")
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    entropy = -(p * np.log(p)).sum(-1, keepdims=True)
    mean = enumerate_moments(estimator, logits, cost).mean
    expected = exact_gradient(logits, cost) + p * (np.log(p) + entropy)
    assert np.abs(mean - expected).max() <= EXACT * 100


@pytest.mark.parametrize("samples", [2, 3])
def test_vimco_is_unbiased_and_equals_its_twin(samples):
    estimator = estimators.get("vimco", samples=samples)
    logits, cost = problem(kind="decoder", K=3 if samples == 2 else 2)
    assert_twin(estimator, logits, cost)
    assert_unbiased(estimator, logits, cost, samples=samples)


def test_vimco_weights_are_normalised_importance_weights():
    estimator = estimators.get("vimco", samples=3)
    logits, cost = problem()
    draw = estimator.sample(logits, Generator(0))
    f = cost(draw.codes)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    q = np.array([[np.prod([p[b, d, draw.codes[s, b, d]] for d in range(2)]) for b in range(2)] for s in range(3)])
    w = np.exp(-f) / q
    assert np.abs(estimator.weigh(draw, f) - w / w.sum(0)).max() <= 1e-12
    far = estimator.weigh(draw, f + 1e4)                            # exp(-1e4) underflows; the weights must not
    assert np.abs(far - w / w.sum(0)).max() <= 1e-10


@pytest.mark.parametrize("samples", [1, 2])
def test_muprop_is_unbiased_and_equals_its_twin(samples):
    estimator = estimators.get("muprop", samples=samples)
    logits, cost = problem()
    assert_twin(estimator, logits, cost)
    assert_unbiased(estimator, logits, cost)
    draw = estimator.sample(logits, Generator(0))
    assert draw.codes.shape == (samples + 1, 2, 2, 3)
    assert estimator.weigh(draw, cost(draw.codes)).ravel().tolist() == [1 / samples] * samples + [0]


def test_muprop_has_no_variance_on_a_linear_cost():
    logits, _ = problem()
    w = np.random.default_rng(8).normal(size=logits.shape)
    estimator = estimators.get("muprop")
    true = exact_gradient(logits, lambda c: (np.eye(3)[c] * w).sum((-2, -1)))
    for seed in range(3):
        draw = estimator.sample(logits, Generator(seed))
        got = estimator.backward(draw, (draw.codes * w).sum((-2, -1)), np.broadcast_to(w, draw.codes.shape))
        assert np.abs(got - true).max() <= 1e-13


@pytest.mark.parametrize("name", ["local_expectation", "measure_valued"])
@pytest.mark.parametrize("D, K", [(2, 3), (3, 2), (1, 4), (2, 1)])
def test_estimators_of_neighbouring_codes_are_unbiased_and_equal_their_twins(name, D, K):
    estimator = estimators.get(name)
    logits, cost = problem(D=D, K=K)
    assert_twin(estimator, logits, cost)
    assert_unbiased(estimator, logits, cost)
    draw = estimator.sample(logits, Generator(0))
    assert len(draw.codes) == estimator.evaluations(D, K) == D * (K - 1) + 1
    for b in range(2):
        assert len(np.unique(draw.codes[:, b], axis=0)) == len(draw.codes)      # no code is evaluated twice


@pytest.mark.parametrize("name", ["local_expectation", "measure_valued"])
def test_weights_of_neighbouring_codes_average_to_the_posterior(name):
    estimator = estimators.get(name)
    logits, cost = problem()
    codes, q = enumerate_codes(logits)                              # [C, D], [C, B]
    found = np.zeros_like(q)
    for probability, draw in estimator.outcomes(logits):
        weights = estimator.weigh(draw, cost(draw.codes))
        assert np.abs(weights.sum(0) - 1).max() <= 1e-14
        for row, weight in zip(draw.codes[:, 0], weights):
            found[(codes == row).all(1)] += probability * weight
    assert np.abs(found - q).max() <= 1e-14


def enumerate_codes(logits):
    """All codes [C, D] and their probabilities [C, B]."""
    B, D, K = logits.shape
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    codes = np.array(list(np.ndindex(*(K,) * D)))
    return codes, np.stack([p[:, np.arange(D), c].prod(-1) for c in codes])


def test_local_expectation_is_exact_at_one_latent():
    logits, cost = problem(D=1, K=5)
    estimator = estimators.get("local_expectation")
    for seed in range(4):
        draw = estimator.sample(logits, Generator(seed))
        assert np.abs(estimator.backward(draw, cost(draw.codes)) - exact_gradient(logits, cost)).max() <= 1e-12


def test_measure_valued_draws_its_second_category_from_the_rest():
    logits, _ = problem(B=1)
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    pairs = {}
    for probability, draw in estimators.get("measure_valued").outcomes(logits):
        key = (*draw.codes[0, 0], *draw.kept["second"][0])
        pairs[key] = probability[0]
    assert len(pairs) == (3 * 2) ** 2
    for (a0, a1, b0, b1), probability in pairs.items():
        expected = p[0, a0] * p[1, a1] * p[0, b0] / (1 - p[0, a0]) * p[1, b1] / (1 - p[1, a1])
        assert a0 != b0 and a1 != b1 and abs(probability - expected) <= 1e-14


@pytest.mark.parametrize("baseline", ["summed", "none"])
@pytest.mark.parametrize("k, D, K", [(1, 2, 3), (2, 2, 3), (4, 2, 3), (8, 2, 3), (9, 2, 3), (3, 3, 2), (2, 2, 1)])
def test_sum_and_sample_is_unbiased_and_equals_its_twin(k, D, K, baseline):
    estimator = estimators.get("sum_and_sample", k=k, baseline=baseline)
    logits, cost = problem(D=D, K=K)
    assert_twin(estimator, logits, cost)
    assert_unbiased(estimator, logits, cost)
    draw = estimator.sample(logits, Generator(0))
    assert len(draw.codes) == estimator.evaluations(D, K) == min(k, K ** D)
    assert np.abs(estimator.weigh(draw, cost(draw.codes)).sum(0) - 1).max() <= 1e-14


def test_sum_and_sample_is_the_gradient_itself_where_it_sums_everything():
    logits, cost = problem()
    estimator = estimators.get("sum_and_sample", k=20)
    draw = estimator.sample(logits, Generator(0))
    assert np.abs(estimator.backward(draw, cost(draw.codes)) - exact_gradient(logits, cost)).max() <= 1e-12


def test_most_probable_codes_are_found_without_enumeration():
    logits, _ = problem(D=4, K=3)
    codes, q = enumerate_codes(logits)
    for count in (1, 5, 40, 81):
        found, log_q = distinct_codes.most_probable(OPS, np.log(softmax(logits)), count)
        assert found.shape == (count, 2, 4)
        for b in range(2):
            best = np.sort(q[:, b])[::-1][:count]
            assert np.abs(np.exp(log_q[:, b]) - best).max() <= 1e-15
            assert len(np.unique(found[:, b], axis=0)) == count
    wide = np.random.default_rng(0).normal(size=(2, 40, 10))        # 10**40 codes
    found, log_q = distinct_codes.most_probable(OPS, np.log(softmax(wide)), 5)
    assert (found[0] == wide.argmax(-1)).all() and (np.diff(log_q, axis=0) <= 0).all()


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_probability_outside_a_set_does_not_cancel():
    logits = np.random.default_rng(0).normal(size=(2, 3, 3))
    logits[:, :, 0] += 14                                           # the best code holds all but about 1e-5
    log_p = np.log(softmax(logits))
    codes, log_q = distinct_codes.most_probable(OPS, log_p, 5)
    log_rest, _ = distinct_codes.log_outside(OPS, log_p, codes)
    _, every = distinct_codes.most_probable(OPS, log_p, 27)          # [27, B], best first
    rest = np.exp(every[5:][::-1]).sum(0)                           # [B], smallest terms first
    assert (1 - np.exp(log_q).sum(0) < 1e-5).all()
    assert np.abs(np.exp(log_rest) / rest - 1).max() <= 1e-12


@pytest.mark.parametrize("k, D, K", [(2, 2, 3), (3, 3, 2), (4, 2, 2), (5, 1, 5), (2, 2, 1)])
def test_unordered_set_is_unbiased_and_equals_its_twin(k, D, K):
    estimator = estimators.get("unordered_set", k=k)
    logits, cost = problem(D=D, K=K)
    if K > 1 and k < K ** D:
        assert_twin(estimator, logits, cost)
    assert_unbiased(estimator, logits, cost)
    draw = estimator.sample(logits, Generator(0))
    assert len(draw.codes) == estimator.evaluations(D, K) == min(k, K ** D)
    assert np.abs(estimator.weigh(draw, cost(draw.codes)).sum(0) - 1).max() <= 1e-14
    for b in range(2):
        assert len(np.unique(draw.codes[:, b], axis=0)) == len(draw.codes)


def test_unordered_set_is_the_gradient_itself_where_it_holds_every_code():
    logits, cost = problem(D=2, K=2)
    draw = (estimator := estimators.get("unordered_set", k=5)).sample(logits, Generator(0))
    assert np.abs(estimator.backward(draw, cost(draw.codes)) - exact_gradient(logits, cost)).max() <= 1e-12


def test_unordered_set_chances_are_those_of_enumerated_orders():
    q = softmax(np.random.default_rng(3).normal(size=7))            # four of seven codes
    kept = unordered_set.chances(OPS, np.log(q[:4, None]), np.log(q[4:].sum(keepdims=True)))
    first, second = np.zeros(4), np.zeros((4, 4))
    for order in itertools.permutations(range(4)):
        chance = np.prod([q[i] / (1 - q[list(order[:n])].sum()) for n, i in enumerate(order)])
        first[order[0]] += chance
        second[order[0], order[1]] += chance
    assert np.abs(kept["first"][:, 0] - first / first.sum()).max() <= 1e-14
    assert np.abs(kept["second"][..., 0] - second / first[:, None]).max() <= 1e-14
    assert np.abs(kept["left"][:, 0] - (1 - q[:4])).max() <= 1e-14


@pytest.mark.parametrize("name, options", [("unordered_set", {"k": 2}), ("sum_and_sample", {"k": 5}),
                                           ("measure_valued", {})])
def test_draws_are_as_frequent_as_outcomes_says(name, options):
    logits, _ = problem(B=1)
    estimator, n = estimators.get(name, **options), 40000
    counts = collections.Counter(draw_keys(estimator.sample(np.repeat(logits, n, 0), Generator(1))))
    for probability, draw in estimator.outcomes(logits):
        expected, deviation = n * probability[0], np.sqrt(n * probability[0] * (1 - probability[0]))
        found = counts.pop(draw_keys(draw)[0], 0)
        assert abs(found - expected) <= 5 * deviation + 1, (found, expected)    # chance of an alarm below 1e-4 in all
    assert not counts                                               # nothing that outcomes() does not know


def draw_keys(draw):
    """All that was drawn for each example, as tuples."""
    codes = draw.codes.swapaxes(0, 1).reshape(draw.codes.shape[1], -1)      # [B, S D]
    second = draw.kept.get("second")                                # measure_valued's second category [B, D]
    if second is not None and second.ndim == 2:
        codes = np.concatenate([codes, second], 1)
    return [tuple(row) for row in codes.tolist()]


@pytest.mark.parametrize("name, options, D, K, samples", [
    ("double_cv", {}, 2, 3, 2), ("double_cv", {}, 2, 2, 3), ("double_cv", {}, 1, 3, 4),
    ("rodeo", {"hidden": 3}, 2, 3, 2), ("rodeo", {"hidden": 3}, 2, 2, 3), ("rodeo", {"hidden": 3}, 1, 3, 3),
    ("rodeo", {"hidden": 3}, 3, 1, 2)])
def test_double_control_variates_are_unbiased_and_equal_their_twins(name, options, D, K, samples):
    estimator = estimators.get(name, samples=samples, **options)
    logits, cost = problem(D=D, K=K)
    state = warm_state(estimator, logits, cost, np.zeros((2, 0)))
    for given in (state, None):
        assert_twin(estimator, logits, cost, given)
        assert_unbiased(estimator, logits, cost, given)


@pytest.mark.parametrize("name, options", [("double_cv", {"samples": 3}), ("rodeo", {"samples": 3, "hidden": 3})])
def test_double_control_variates_learn_the_gradient_of_the_squared_norm(name, options):
    estimator = estimators.get(name, **options)
    logits, cost = problem(kind="quadratic", spread=0.5)
    state = warm_state(estimator, logits, cost, np.zeros((2, 0)))
    draw = estimator.sample(logits, Generator(3))
    f, g = cost(draw.codes), cost.gradient(draw.codes)

    def loss(state):
        return (estimator.backward(draw, f, g, state) ** 2).sum((1, 2)).mean()

    assert_gradient(loss, estimator.learn(draw, f, g, state), state)


@pytest.mark.parametrize("name, zeros", [("double_cv", {"alpha": 0.0}), ("rodeo", {"alpha": 0.0, "beta": 0.0})])
def test_double_control_variates_without_coefficients_are_rloo(name, zeros):
    logits, cost = problem()
    estimator = estimators.get(name, samples=3, **zeros)
    draw = estimator.sample(logits, Generator(0))
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    rloo = estimators.get("rloo", samples=3).sample(logits, Generator(0))
    assert np.array_equal(draw.codes, rloo.codes)
    expected = estimators.get("rloo", samples=3).backward(rloo, f)
    assert np.abs(estimator.backward(draw, f, g) - expected).max() <= 1e-13 * np.abs(f).max()


def test_double_cv_of_bits_is_the_published_form_in_the_two_halves_of_the_logit():
    logits, cost = problem(K=2)
    estimator = estimators.get("double_cv", samples=2, alpha=-0.6)
    draw = estimator.sample(logits, Generator(2))
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    theta = softmax(logits)[..., 1]                                 # sigmoid of eta = phi_1 - phi_0
    x, slope = draw.codes, g[..., 1] - g[..., 0]                    # bits [S, B, D], d f / d x
    b = -0.6 * (slope[::-1] * (x - theta)).sum(-1)                  # [S, B], gradient at the other sample
    difference = (f + b)[0] - (f + b)[1]                            # [B]
    deta = difference[:, None] / 2 * (x[0] - x[1]) + 0.6 * slope.mean(0) * theta * (1 - theta)
    assert np.abs(estimator.backward(draw, f, g) - np.stack([-deta, deta], -1)).max() <= 1e-12 * np.abs(f).max()


def test_sampled_kl_has_the_gradient_of_the_surrogate_loss_for_autodiff():
    """End of Thickstun's notes: differentiate q {f} / {q} + q (1 + {log q}) / {q}, curly brackets held constant."""
    logits, cost = problem(B=1)
    estimator = estimators.get("reinforce_sampled_kl", baseline="none")
    draw = estimator.sample(logits, Generator(0))
    f, ops = cost(draw.codes)[0, 0], estimator.ops

    def log_q(logits):
        return ops.log_prob(ops.log_softmax(logits), draw.codes)[0, 0]

    held = log_q(logits)
    gradient = np.zeros_like(logits)
    for index in np.ndindex(logits.shape):                          # complex step: exact to rounding
        shifted = logits.astype(complex)
        shifted[index] += 1e-20j
        q = np.exp(log_q(shifted))
        surrogate = q * f / np.exp(held) + q * (1 + held) / np.exp(held)
        gradient[index] = surrogate.imag / 1e-20
    assert np.abs(estimator.backward(draw, np.full((1, 1), f)) - gradient).max() <= 1e-13 * (1 + abs(f))


NAMES = ["reinforce", "reinforce_sampled_kl", "vimco", "muprop", "local_expectation", "measure_valued",
         "sum_and_sample", "unordered_set", "double_cv", "rodeo", "exact", "rloo"]


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_float32_and_extreme_logits_stay_finite(name):
    estimator = estimators.get(name)
    extremes = np.array([0, 1e-8, -1e-8, 17, -17, 88.8, -104, 1e4, -1e4, 1e20, -1e20, np.finfo(np.float32).max / 4])
    logits = np.random.default_rng(0).choice(extremes, (50, 3, 4)).astype(np.float32)
    context = np.ones((50, 2), np.float32)
    state = estimator.init(Generator(0), 3, 4, 2)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        draw = estimator.sample(logits, Generator(1), state, context)
        rng = np.random.default_rng(2)
        f = rng.normal(size=(len(draw.codes), 50)).astype(np.float32)
        g = rng.normal(size=(*f.shape, 3, 4)).astype(np.float32)
        dlogits, weights = estimator.backward(draw, f, g, state), estimator.weigh(draw, f)
    assert dlogits.dtype == weights.dtype == np.float32
    assert np.isfinite(dlogits).all() and np.isfinite(weights).all()
    assert np.abs(np.broadcast_to(weights, f.shape).sum(0) - 1).max() <= 1e-5
