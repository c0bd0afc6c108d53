"""The three-way sequential test: is E[estimate] the true gradient? For any estimator, in any framework."""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npdvae.rng import Generator
from npdvae.types import Array, Cost, State
from npdvae.verify import arguments
from npdvae.verify.betting import Bounded, Spread, Wealth, detectable
from npdvae.verify.enumeration import check_logits, exact_gradient
from npdvae.verify.interval import Interval
from npdvae.verify.knowledge import Known, declared, enumerated
from npdvae.verify.report import Report
from npdvae.verify.sampling import blocks_of

BUDGET = 2 ** 20
MISSING = ("no bound is known; give bounds=(low, high) of the estimate, or variance=, an upper bound on the variance "
           "of each entry")
OUTSIDE = "an estimate lay outside its bounds"
STILL = "; an entry did not vary, which samples alone cannot tell from a rare jump: give bounds that are equal there"


def check_unbiased(estimator: Any, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
                   bounds: Any = None, alpha: float = 1e-9, beta: float = 1e-6, delta: float = 0.03,
                   variance: Any = None, true: Array | None = None, objective: str | None = None,
                   samples: int | None = None, budget: int = BUDGET, tile: int | None = None, seed: int = 0,
                   state: State | None = None, context: Array | None = None) -> Report:
    """Test whether an estimator's expectation is the exact gradient; returns a `Report`.

    estimator: registered (name or instance), or any callable (logits [B, D, K], rng) -> dlogits [B, D, K]; with `tile`
    a callable is given the batch repeated that many times. FAIL is wrong with probability at most alpha; PASS, where
    any entry is biased by delta standard deviations, at most beta. bounds=(low, high) of the estimate or `variance`:
    numbers or [B, D, K]; finite noise needs neither. `true`: the gradient, where it cannot be enumerated.
    """
    logits, estimator = check_logits(logits), arguments.estimator_of(estimator)
    arguments.sequential(alpha, beta, delta, budget, samples, tile)
    if not (hasattr(estimator, "sample") or callable(estimator)):
        raise ValueError(f"estimator must be registered or a callable (logits, rng) -> dlogits, got {estimator!r}")
    source = "true"
    if true is None:
        source, objective = "cost_fn", str(objective or getattr(estimator, "objective", "expectation"))
        true = exact_gradient(logits, cost_fn, objective=objective,
                              samples=samples or getattr(estimator, "samples", None))
    true = arguments.gradient(true, logits.shape, source)
    setting: dict[str, Any] = dict(state=state, context=context)

    def blocks(stream):
        return blocks_of(estimator, logits, Generator(seed, stream), cost_fn, dcost_fn, tile=tile, **setting)

    known = declared(bounds, variance, true)
    if known is None and hasattr(estimator, "sample"):
        known = enumerated(estimator, logits, cost_fn, dcost_fn, true, **setting)
    if known is None:
        return guess(blocks(0), true)
    if known.method != "bounds enumerated":
        return run(blocks(0), true, known, alpha, beta, delta, budget)
    report = run(blocks(0), true, known, alpha / 2, beta, delta, budget)    # half of alpha for each of two tests
    if report.reason != OUTSIDE:
        return report
    known = known._replace(method="variance enumerated", low=None, high=None)   # outcomes() were nodes of a quadrature
    return run(blocks(1), true, known, alpha / 2, beta, delta, budget)


def guess(blocks: Iterator[Array], true: Array, count: int = 8) -> Report:
    """Without any bound: plain averages of a few blocks and no verdict."""
    x = np.concatenate(list(itertools.islice(blocks, count))) - true.ravel()    # [n, N]
    sigma = x.std(0)
    margin = 2.58 * sigma / math.sqrt(len(x))
    along = projection(x, true)                                     # [n]
    error = 2.58 * along.std() / math.sqrt(len(x))
    shape = lambda a: a.reshape(true.shape)                         # noqa: E731
    return Report("INCONCLUSIVE", MISSING, "none", len(x), 0.0, true, shape(true.ravel() + x.mean(0)),
                  shape(x.mean(0) - margin), shape(x.mean(0) + margin), shape(sigma), 1 + along.mean(),
                  (1 + along.mean() - error, 1 + along.mean() + error), math.inf, guaranteed=False)


def projection(x: Array, true: Array) -> Array:
    """Share of the true gradient in each error, <x, true> / <true, true>: [n, N] -> [n]."""
    return x @ (true.ravel() / max((true ** 2).sum(), 1e-300))


class Frame(NamedTuple):
    """The test's fixed quantities, arrays [N]."""

    sigma: np.ndarray
    low: np.ndarray | None
    high: Any                                   # as low
    free: np.ndarray                            # bool: the entry varies
    rounding: float


def framed(known: Known, true: Array, pilot: Array) -> Frame:
    """Scales for the bets: from what is known, and from a pilot block [n, N] that is used for nothing else."""
    largest = max(np.abs(true).max(), np.abs(pilot).max(initial=0, where=np.isfinite(pilot)))
    rounding = 64 * np.finfo(pilot.dtype).eps * largest
    sigma = np.nan_to_num(pilot.std(0)) if known.sigma is None else known.sigma
    if known.low is None:
        return Frame(sigma, None, None, sigma > rounding, rounding)
    free = known.high - known.low > rounding                        # [N]
    return Frame(np.maximum(sigma, rounding), known.low - rounding, known.high + rounding, free, rounding)


def interval_for(known: Known, frame: Frame, true: Array) -> Interval:
    """The running interval of every entry and, as the last, of the shrink factor minus one."""
    along = np.abs(true.ravel()) / max((true ** 2).sum(), 1e-300)   # [N]
    total = (along * frame.sigma).sum() if known.sigma_shrink is None else known.sigma_shrink
    sigma = np.append(frame.sigma, total)
    if frame.low is None:
        return Interval(np.maximum(sigma, frame.rounding))
    signed = along * np.sign(true.ravel())
    ends = np.stack([frame.low * signed, frame.high * signed])      # [2, N]
    return Interval(sigma, np.append(frame.low, ends.min(0).sum()), np.append(frame.high, ends.max(0).sum()))


def run(blocks: Iterator[Array], true: Array, known: Known, alpha: float, beta: float, delta: float,
        budget: int) -> Report:
    """The test itself: bets, looks after every block, stops at the first verdict."""
    frame = framed(known, true, next(blocks))
    free, sigma = frame.free, frame.sigma[frame.free]
    bets = Spread(sigma, delta * sigma) if frame.low is None else Bounded(
        frame.low[free], frame.high[free], sigma, delta * sigma)
    wealth, interval = Wealth(bets, free.sum()), interval_for(known, frame, true)
    still = STILL if (sigma <= frame.rounding).any() else ""
    verdict, reason = "INCONCLUSIVE", f"the budget of {budget} samples is spent{still}"
    while wealth.samples < budget:
        x = next(blocks) - true.ravel()                             # [n, N]
        found = impossible(x, frame)
        if found:
            verdict, reason = found
            break
        interval.add(np.c_[x, projection(x, true)])
        wealth.add(x[:, free])
        reached = wealth.verdict(alpha, beta) if free.any() else "PASS"
        if reached:
            verdict, reason = reached, (
                f"the estimate is biased (wrong with probability at most {alpha:.0e})" if reached == "FAIL" else
                f"no entry is off by {delta} standard deviations (wrong with probability at most {beta:.0e})")
            break
    return summary(verdict, reason, known.method, wealth, interval, true, frame, alpha)


def impossible(x: Array, frame: Frame) -> tuple[str, str] | None:
    """Verdict and reason where a block [n, N] holds what an unbiased estimate of these bounds cannot be, or None."""
    if not np.isfinite(x).all():
        return "FAIL", "an estimate is not finite"
    if frame.low is not None and not ((x >= frame.low) & (x <= frame.high)).all():
        return "INCONCLUSIVE", OUTSIDE
    if not (np.abs(x[:, ~frame.free]) <= 4 * frame.rounding).all():
        return "FAIL", "an entry that does not vary differs from the true gradient"
    return None


def summary(verdict: str, reason: str, method: str, wealth: Wealth, interval: Interval, true: Array, frame: Frame,
            alpha: float) -> Report:
    """All that was measured, as a `Report`."""
    shape = lambda a: np.asarray(a).reshape(true.shape)             # noqa: E731
    mean, (low, high) = interval.mean(), interval.ends()
    evidence = wealth.evidence() / math.log(10) if frame.free.any() else 0.0
    return Report(verdict, reason, method, interval.samples, float(evidence), true, true + shape(mean[:-1]),
                  shape(low[:-1]), shape(high[:-1]), shape(frame.sigma), float(1 + mean[-1]),
                  (float(1 + low[-1]), float(1 + high[-1])), detectable(interval.samples, max(frame.free.sum(), 1),
                                                                        alpha))
