"""What the property tests range over: every registered estimator, small problems, logits from 0 to extreme."""
import functools
import importlib
import inspect
import itertools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from npdvae import estimators
from npdvae.rng import Generator
from npdvae.verify import costs
from npdvae.verify.moments import prepared

SHAPES = ((2, 1, 3), (2, 2, 2), (2, 2, 3), (2, 1, 2), (1, 3, 2), (1, 1, 4), (3, 2, 2), (1, 2, 3))   # B, D, K
SPREADS = (0.0, 1e-8, 0.5, 2.0)                                     # of ordinary logits
EXTREMES = (17.0, 88.8, 104.0, 1e4)                                 # exp under- or overflows: float32 from 88.8 on

# Options beside the defaults that are another code path. An estimator that is not named here is tested as it is.
VARIANTS = {
    "straight_through": [dict(samples=2, temperature=1.3, divide=True)],
    "reinmax": [dict(samples=2), dict(temperature=0.7), dict(alpha=1.7)],
    "darn": [dict(centre="probabilities")],
    "decoupled_straight_through": [dict(forward_temperature=1.0)],
    "gumbel_softmax": [dict(anneal="learned")],
    "local_expectation": [dict(fresh=True)],
    "smoothing": [dict(samples=2, function="f3"), dict(function="f1"), dict(function="overlapping_exponential"),
                  dict(function="overlapping_power")],
    "redge": [dict(samples=2, cov=True), dict(steps=4, reinmax=True)],
    "imle": [dict(samples=2)],
    "aimle": [dict(samples=2)],
    "direct_argmax": [dict(eps=-0.3)],
    "gr_mc": [dict(samples=2, conditional_draws=1)],
    "carms": [dict(samples=3)],
    "rebar": [dict(samples=2)],
    "relax": [dict(samples=2)],
    "reinforce": [dict(baseline=b) for b in ("none", "constant", "running_mean", "batch_leave_one_out", "nvil")],
}


class Case(NamedTuple):
    """An estimator to test and the shapes at which its noise, if finite, can be enumerated."""

    name: str
    options: dict[str, Any]
    finite: bool

    def make(self):
        return estimators.get(self.name, **self.options)

    def __str__(self):
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])


def small_options(name):
    """The least number of samples that the estimator takes: few outcomes, the same code."""
    if "samples" not in inspect.signature(estimators.find(name).__init__).parameters:
        return {}
    for samples in (1, 2, 3, 4):
        try:
            estimators.get(name, samples=samples)
        except ValueError:
            continue
        return {"samples": samples}
    return {}


@functools.cache
def cases():
    """Every registered estimator, then the variants."""
    found = []
    for name in estimators.names():
        for options in [{}, *VARIANTS.get(name, [])]:
            options = {**small_options(name), **options}
            finite = first_outcome(estimators.get(name, **options)) is not None
            found.append(Case(name, options, finite))
    return tuple(found)


def first_outcome(estimator):
    logits = np.zeros((2, 2, 2))
    return estimator.outcomes(logits, *prepared(estimator, logits))


@functools.cache
def shapes(case, most=1000):
    """The shapes that the estimator serves with at most so many outcomes; all that it serves if they are not finite."""
    case, found = CASES[case], []
    for shape in SHAPES:
        estimator = case.make()
        try:
            estimator.check(*shape[1:])
        except ValueError:
            continue
        if case.finite:
            logits = np.random.default_rng(0).normal(size=shape)
            outcomes = estimator.outcomes(logits, *prepared(estimator, logits))
            if sum(1 for _ in itertools.islice(outcomes, most + 1)) > most:
                continue
        found.append(shape)
    assert found, f"no shape with at most {most} outcomes for {case}"
    return tuple(found)


CASES = {str(case): case for case in cases()}
FINITE = tuple(str(case) for case in cases() if case.finite)
CONTINUOUS = tuple(str(case) for case in cases() if not case.finite)


class Problem(NamedTuple):
    """Logits [B, D, K], a cost with its gradient, and the state and context that the estimator is judged in."""

    estimator: Any
    logits: np.ndarray
    cost: Any
    kind: str
    state: Any
    context: np.ndarray

    def draw(self, rng=None, logits=None):
        logits = self.logits if logits is None else logits
        return self.estimator.sample(logits, Generator(7) if rng is None else rng, self.state, self.context)

    def outcomes(self):
        return self.estimator.outcomes(self.logits, self.state, self.context)

    def backward(self, draw):
        return self.estimator.backward(draw, self.cost(draw.codes), self.cost.gradient(draw.codes), self.state)


def problem(case, shape, kind="cubic", spread=1.0, seed=0, dtype=np.float64):
    """A problem for one case: random logits of the given spread; extreme spreads are signs times the spread."""
    estimator, rng = CASES[case].make(), np.random.default_rng(seed)
    logits = rng.normal(size=shape)                                 # [B, D, K]
    if spread in EXTREMES:
        logits = np.sign(logits) * rng.integers(0, 2, shape) + 1e-3 * logits / spread
    logits = (spread * logits).astype(dtype)
    cost = costs.make(kind, seed + 1, *shape, dtype)
    state, context = prepared(estimator, logits)
    return Problem(estimator, logits, cost, kind, warmed(estimator, logits, cost, state, context), context)


def warmed(estimator, logits, cost, state, context):
    """A state that has seen a cost and whose learned entries have moved from where they started."""
    if state is None:
        return None
    draw = estimator.sample(logits, Generator(3), state, context)
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    learned = estimator.learn(draw, f, g, state)
    state = estimator.advance(draw, f, state)
    rng = np.random.default_rng(4)
    return {**state, **{k: state[k] + 0.1 * rng.normal(size=np.shape(state[k])) for k in learned}}


def problems(case, kinds=costs.KINDS, spreads=SPREADS, most=1000):
    """Hypothesis strategy: problems of one case."""
    return st.builds(problem, st.just(case), st.sampled_from(shapes(case, most)), st.sampled_from(kinds),
                     st.sampled_from(spreads), st.integers(0, 2 ** 16))


def twin(name):
    """The loop-written twin's backward; a registered estimator without one fails here."""
    try:
        return importlib.import_module(f"tests.twins.{name}").backward
    except ModuleNotFoundError as error:
        raise AssertionError(f"estimator {name} has no twin: write tests/twins/{name}.py") from error
