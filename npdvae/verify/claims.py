"""One estimator held to what it claims: bias and variance by the sharpest method that applies."""
from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npdvae import estimators
from npdvae.estimators.base import Estimator
from npdvae.estimators.parts.baselines import BASELINES
from npdvae.verify import costs
from npdvae.verify.continuous import METHODS, noise_moments, rule_of
from npdvae.verify.moments import Moments, enumerate_moments
from npdvae.verify.problems import BATCH, Problem, enumerable_size, random_problem
from npdvae.verify.quadrature import Quadrature
from npdvae.verify.sampling import leaks
from npdvae.verify.sequential import MISSING, OUTSIDE, check_unbiased

TOLERANCE = {"enumeration": 1e-12, "quadrature": 1e-8}              # of E |dlogits|: rounding, and the rule's error
VISIBLE = 1e-6                                                      # a bias that a negative control must exceed
WORDS = {True: "holds", False: "BROKEN", None: "not tried"}         # whether it is unbiased; None: not known
UNBOUNDED = ("no bound is known: give the class `outcomes`, `noise` or `bounds`, or call verify.check_unbiased(..., "
             "bounds=) or variance=")


class Finding(NamedTuple):
    """Bias and variance on one cost."""

    bias: float                                                     # largest |bias| / largest E |dlogits|
    relative_bias: float                                            # |bias| / |true gradient|
    variance: float                                                 # trace of the covariance, mean over the examples
    method: str                                                     # enumeration, quadrature or sequential
    unbiased: bool | None                                           # None where the test came to no verdict
    size: str                                                       # latents x categories
    note: str
    leaks: bool                                                     # examples read the costs of others


class Row(NamedTuple):
    """One line of the table."""

    estimator: str
    claim: str
    size: str
    relative_bias: float
    bias: float
    variance: float
    evaluations: int
    variance_times_evaluations: float
    method: str
    verdict: str                                                    # holds, BROKEN, no claim or not tried
    note: str


def variants(name: str, samples: int) -> Iterator[dict[str, Any]]:
    """Options to try a registered estimator with: `samples` where it has any, every baseline where it chooses one."""
    cls: Any = estimators.find(name)
    known = inspect.signature(cls).parameters
    options = {}
    if rule_of(cls) and "samples" in known:
        options["samples"] = 1                                      # its rule takes one
    elif "samples" in known:
        options["samples"] = samples if samples > 1 or fits(name, samples=samples) else 2
    choices = sorted(BASELINES) if known.get("baseline") and known["baseline"].default in BASELINES else [None]
    for baseline in choices:
        yield options if baseline is None else {**options, "baseline": baseline}


def fits(name: str, **options: Any) -> bool:
    """Whether an estimator takes these options."""
    try:
        estimators.get(name, **options)
    except ValueError:
        return False
    return True


def judge(name: str, options: dict[str, Any], latents: int, categories: int, kind: str, seed: int) -> Row:
    """Hold one estimator, built with `options`, to its claims: a `Row`."""
    estimator = estimators.get(name, **options)
    K = 2 if estimator.binary else categories
    found = measure(estimator, latents, K, kind, seed)
    claim = "unbiased" if estimator.unbiased else f"exact: {estimator.exact_for}" if estimator.exact_for else "-"
    verdict, note = ("no claim", found.note)
    if estimator.unbiased or estimator.exact_for == "any":
        verdict = WORDS[found.unbiased]
    elif estimator.exact_for:
        verdict, note = promise(estimator, latents, K, seed)
    if not estimator.couples_batch and found.leaks:
        verdict, note = "BROKEN", "reads the costs of other examples, and couples_batch is False"
    D, K = (int(n) for n in found.size.split("x"))
    evaluations = estimator.evaluations(D, K)
    label = name + (f" ({options['baseline']})" if "baseline" in options else "")
    return Row(label, claim, found.size, found.relative_bias, found.bias, found.variance, evaluations,
               found.variance * evaluations, found.method, verdict, note)


def promise(estimator: Estimator, latents: int, categories: int, seed: int) -> tuple[str, str]:
    """Exactness for a class of costs: no bias on any kind of that class, and a visible one on a kind outside it."""
    worst, outside = 0.0, 0.0
    for kind in costs.KINDS:
        found = measure(estimator, latents, categories, kind, seed)
        if costs.ORDER.index(costs.CLASS[kind]) <= costs.ORDER.index(estimator.exact_for):
            worst = max(worst, found.bias)
            if found.unbiased is None:
                return WORDS[None], found.note
            if not found.unbiased:
                return "BROKEN", f"bias {found.bias:.1e} on a {kind} cost"
        else:
            outside = max(outside, found.bias)
    if not outside > VISIBLE:
        return "BROKEN", f"claims too little: bias {outside:.1e} outside {estimator.exact_for} costs"
    return "holds", f"bias {worst:.1e} within {estimator.exact_for} costs, up to {outside:.2g} outside"


def measure(estimator: Estimator, latents: int, categories: int, kind: str, seed: int) -> Finding:
    """Bias and variance on a random problem with a random cost of this kind: a `Finding`."""
    size = enumerable_size(estimator, latents, categories)
    if size is not None:
        problem = random_problem(estimator, *size, kind, seed)
        return exactly(problem, enumerate_moments(*problem.arguments(), **problem.setting()), "enumeration")
    problem = random_problem(estimator, latents, categories, kind, seed)
    rule = rule_of(estimator)
    if rule is None:
        return sequentially(problem, seed)
    method = METHODS.get(rule, "quadrature")
    try:
        return exactly(problem, noise_moments(*problem.arguments(), **problem.setting()), method)
    except ValueError:                                              # more nodes than quadrature takes in seconds
        problem = random_problem(estimator, 1, min(categories, 3), kind, seed)
        return exactly(problem, noise_moments(*problem.arguments(), **problem.setting()), method)


def sequentially(problem: Problem, seed: int) -> Finding:
    """The sequential test where the noise is neither finite nor Gumbel: a `Finding`."""
    report = check_unbiased(*problem.arguments(), true=problem.true, seed=seed, **problem.setting())
    wrong = report.verdict == "FAIL" or report.reason == OUTSIDE    # of bounds that the class itself gives
    note = UNBOUNDED if report.reason == MISSING else f"{report.verdict}: {report.reason}"
    return Finding(float(np.abs(report.bias).max() / np.abs(problem.true).max()), report.relative_bias,
                   float((report.sigma ** 2).sum() / BATCH), "sequential", False if wrong else report.passed or None,
                   problem.size, note, leaks(*problem.arguments(), **problem.setting()))


def exactly(problem: Problem, found: Moments | Quadrature, method: str) -> Finding:
    """Moments against the true gradient: a `Finding`."""
    true, total = problem.true, getattr(found, "total", np.ones(1))
    bias = float(np.abs(found.mean - true).max() / max(found.scale.max(), 1e-300))
    relative = float(np.linalg.norm(found.mean - true) / max(float(np.linalg.norm(true)), 1e-300))
    variance = max(float(np.trace(found.covariance, axis1=1, axis2=2).mean()), 0.0)
    if not np.abs(total - 1).max() <= 1e-12:
        return Finding(bias, relative, variance, method, False, problem.size,
                       f"probabilities of outcomes() sum to {total[0]:.15g}", False)
    return Finding(bias, relative, variance, method, bias <= TOLERANCE[method], problem.size, "",
                   leaks(*problem.arguments(), **problem.setting()))
