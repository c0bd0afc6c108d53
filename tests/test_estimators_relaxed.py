"""What is special to straight-through and the relaxations: temperatures, ReinMax's package. Share of the suite: 1 s."""
import numpy as np
import pytest

from npdvae import estimators
from npdvae.rng import Generator
from npdvae.verify import costs
from npdvae.verify.moments import prepared

TEMPERED = [name for name in estimators.names() if hasattr(estimators.find(name), "set_temperature")]


def temperatures(estimator, steps):
    """The temperature that each of so many steps uses."""
    logits, used = np.zeros((1, 2, 2)), []
    state, context = prepared(estimator, logits)
    for i in range(steps):
        draw = estimator.sample(logits, Generator(i), state, context)
        used.append(float(state["temperature"]))
        assert draw.kept["tau"] == used[-1]
        state = estimator.advance(draw, costs.make("cubic", 0, 1, 2, 2)(draw.codes), state)
    return np.array(used)


@pytest.mark.parametrize("name", TEMPERED)
def test_temperature_is_constant_unless_annealed(name):
    estimator = estimators.get(name, temperature=0.8)
    assert (temperatures(estimator, 5) == 0.8).all()


@pytest.mark.parametrize("name", TEMPERED)
def test_temperature_falls_exponentially_in_whole_intervals_to_its_minimum(name):
    used = temperatures(estimators.get(name, temperature=2.0, anneal="exponential", anneal_rate=0.1, anneal_min=1.2,
                                       anneal_every=3), 9)
    i = np.array([0, 0, 0, 3, 3, 3, 6, 6, 6])
    assert np.abs(used - np.maximum(2 * np.exp(-0.1 * i), 1.2)).max() <= 1e-15    # one rounding of exp
    assert used[-1] == 1.2


def test_temperature_falls_linearly_to_its_minimum():
    options = dict(temperature=1.0, anneal="linear", anneal_rate=0.25, anneal_min=0.3)
    used = temperatures(estimators.get("reinmax", **options), 5)
    assert (used == [1, 0.75, 0.5, 0.3, 0.3]).all()


def test_temperature_of_the_state_is_the_one_used():
    annealed = estimators.get("straight_through", temperature=2.0, anneal="linear", anneal_rate=0.5)
    logits, g = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    g = g[None]                                                     # [S, B, D, K]
    state = annealed.advance(None, None, annealed.init(Generator(0), 3, 4))
    draw = annealed.sample(logits, Generator(1), state)
    fixed = estimators.get("straight_through", temperature=1.5)
    expected = fixed.backward(fixed.sample(logits, Generator(1)), None, g)
    assert (annealed.backward(draw, None, g, state) == expected).all()


@pytest.mark.parametrize(("options", "message"), [
    (dict(temperature=0), "positive temperature"),
    (dict(temperature=float("nan")), "must be a finite number"),
    (dict(temperature=float("inf")), "must be a finite number"),
    (dict(anneal="cosine"), "anneal must be one of constant, exponential, linear"),
    (dict(anneal_rate=0.1), "does nothing when anneal is constant"),
    (dict(anneal="exponential"), "needs anneal_rate > 0"),
    (dict(anneal="linear", anneal_rate=-1), "needs anneal_rate > 0"),
    (dict(anneal="linear", anneal_rate=0.1, anneal_min=3.0), "below the temperature"),
    (dict(anneal="linear", anneal_rate=0.1, anneal_min=0), "must be positive"),
    (dict(anneal="linear", anneal_rate=0.1, anneal_every=0), "at least 1 step"),
    (dict(samples=0), "samples >= 1"),
])
@pytest.mark.parametrize("name", TEMPERED)
def test_temperature_options_without_sense_or_effect_are_refused(name, options, message):
    known = estimators.get(name)
    if "samples" in options and "samples" not in known.settings():
        pytest.skip("has no option samples")
    with pytest.raises(ValueError, match=message):
        estimators.get(name, **options)


@pytest.mark.parametrize("name", TEMPERED)
def test_temperature_interval_that_a_run_never_reaches_is_refused(name):
    annealed = estimators.get(name, temperature=2.0, anneal="exponential", anneal_rate=0.1, anneal_every=100)
    annealed.check_length(101)
    with pytest.raises(ValueError, match="annealing every 100 steps does nothing in a run of 100 steps"):
        annealed.check_length(100)
    estimators.get(name).check_length(1)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("darn", dict(centre="mean"), "centre must be one of uniform, probabilities"),
    ("gapped_straight_through", dict(gap=-1), "gap >= 0"),
    ("decoupled_straight_through", dict(forward_temperature=0), "positive forward_temperature"),
    ("reinmax_cv", dict(gumbel_temperature=0), "positive gumbel_temperature"),
    ("gr_mc", dict(conditional_draws=0), "conditional_draws >= 1"),
    ("reinmax_rao", dict(conditional_draws=0), "conditional_draws >= 1"),
    ("reinmax_cv", dict(conditional_draws=0), "conditional_draws >= 1"),
])
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        estimators.get(name, **options)


@pytest.mark.parametrize(("name", "exact_for"), [("straight_through", "multilinear"), ("reinmax", "quadratic"),
                                                 ("decoupled_straight_through", "multilinear")])
def test_promises_hold_at_temperature_one_only(name, exact_for):
    plain = dict(forward_temperature=1.0) if name.startswith("decoupled") else {}
    assert estimators.get(name, temperature=1.0, **plain).exact_for == exact_for
    assert estimators.get(name, temperature=1.3, **plain).exact_for is None
    assert estimators.get(name, temperature=1.0, anneal="linear", anneal_rate=0.1, **plain).exact_for is None
    assert not estimators.get(name, **plain).relaxed


def test_decoupled_draws_from_its_forward_temperature_and_says_so():
    estimator = estimators.get("decoupled_straight_through", forward_temperature=0.5)
    assert estimator.relaxed and estimator.exact_for is None
    logits = np.random.default_rng(0).normal(size=(1, 1, 3))
    found = np.array([p[0] for p, _ in estimator.outcomes(logits)])
    e = np.exp(2 * logits[0, 0])
    assert np.abs(found - e / e.sum()).max() <= 1e-15


def test_straight_through_division_by_the_temperature_is_an_option():
    logits, g = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    g = g[None]                                                     # [S, B, D, K]
    kept, divided = (estimators.get("straight_through", temperature=2.0, divide=divide) for divide in (False, True))
    draw = kept.sample(logits, Generator(0))
    assert (kept.backward(draw, None, g) == 2 * divided.backward(draw, None, g)).all()


def test_gumbel_softmax_is_the_derivative_of_the_relaxed_cost_along_its_noise():
    estimator = estimators.get("gumbel_softmax", samples=2, temperature=0.7)
    cost, logits = costs.make("cubic", 0, 1, 2, 3), np.random.default_rng(1).normal(size=(1, 2, 3))
    u = Generator(2).uniform((2, 1, 2, 3))
    draw = estimator.from_noise(logits, u)
    found = estimator.backward(draw, cost(draw.codes), cost.gradient(draw.codes))
    for i in np.ndindex(logits.shape):
        moved = logits.astype(complex)
        moved[i] += 1e-20j                                          # complex step: rounding only
        assert abs(cost(estimator.from_noise(moved, u).codes).mean().imag / 1e-20 - found[i]) <= 1e-12 * np.abs(
            found).max()


def test_learned_temperature_follows_the_gradient_of_the_relaxed_cost():
    estimator = estimators.get("gumbel_softmax", samples=2, temperature=0.7, anneal="learned")
    cost = costs.make("cubic", 0, 3, 2, 4)
    logits, u = np.random.default_rng(1).normal(size=(3, 2, 4)), Generator(2).uniform((2, 3, 2, 4))
    state = estimator.init(Generator(0), 2, 4)
    assert float(state["temperature"]) == pytest.approx(0.7, rel=1e-15)

    def mean_cost(log_tau):
        draw = estimator.from_noise(logits, u, state={**state, "log_temperature": np.asarray(log_tau)})
        return cost(draw.codes).mean()

    draw = estimator.from_noise(logits, u, state=state)
    found = estimator.learn(draw, cost(draw.codes), cost.gradient(draw.codes), state)["log_temperature"]
    centre, h = float(state["log_temperature"]), 1e-3                # 5-point differences: error of order h^4
    true = (8 * (mean_cost(centre + h) - mean_cost(centre - h)) - mean_cost(centre + 2 * h) + mean_cost(centre - 2 * h))
    assert abs(found - true / (12 * h)) <= 1e-8 * abs(found)
    moved = {**state, "log_temperature": np.log(0.4)}
    assert estimator.from_noise(logits, u, state=moved).kept["tau"] == pytest.approx(0.4, rel=1e-15)
    assert float(estimator.advance(draw, None, moved)["temperature"]) == pytest.approx(0.4, rel=1e-15)


@pytest.mark.parametrize("tau", [1.0, 0.7, 1.3])
def test_reinmax_agrees_with_the_authors_package_for_the_same_draws(tau):
    torch, reinmax = pytest.importorskip("torch"), pytest.importorskip("reinmax")
    rng = np.random.default_rng(0)
    logits, g = 2 * rng.normal(size=(50, 1, 8)), rng.normal(size=(1, 50, 1, 8))
    torch.manual_seed(0)
    phi = torch.tensor(logits[:, 0], requires_grad=True)
    z, _ = reinmax.reinmax(phi, tau)
    (z * torch.tensor(g[0, :, 0])).sum().backward()
    estimator = estimators.get("reinmax", temperature=tau)
    sampled = estimator.sample(logits, Generator(0))
    draw = type(sampled)(z.detach().numpy().argmax(-1)[None, :, None], logits, sampled.kept)
    found = estimator.backward(draw, None, g)[:, 0]
    assert np.abs(found - phi.grad.numpy()).max() <= 1e-12           # both float64; the promise is 1e-6


def test_relax_prepares_what_backward_and_learn_share():
    estimator, logits = estimators.get("relax"), np.random.default_rng(0).normal(size=(2, 3, 4))
    state, context = prepared(estimator, logits)
    draw = estimator.sample(logits, Generator(0), state, context)
    cost = costs.make("cubic", 0, 2, 3, 4)(draw.codes)
    assert "parts" in estimator.prepare(draw, cost, None, state).kept
    assert estimator.prepare(draw, cost, None, None) is draw        # without a surrogate
