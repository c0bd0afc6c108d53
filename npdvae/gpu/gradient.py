"""Which kernel forms the gradient of a latent layer: the estimators that the captured step knows."""
from __future__ import annotations

from typing import NamedTuple

from npdvae.estimators.darn import DARN
from npdvae.estimators.exact import Exact
from npdvae.estimators.gumbel_softmax import GumbelSoftmax
from npdvae.estimators.parts import baselines
from npdvae.estimators.reinforce import Reinforce
from npdvae.estimators.reinmax import ReinMax
from npdvae.estimators.rloo import RLOO
from npdvae.estimators.straight_through import StraightThrough
from npdvae.estimators.straight_through_gumbel import StraightThroughGumbel
from npdvae.estimators.zgr import ZGR

CONSTANT, LEAVE_ONE_OUT, MEAN = range(3)        # as reinforce.cu numbers them
RUNNING, BATCH = "running", "batch"


class Gradient(NamedTuple):
    """An estimator as the kernels know it."""

    kernel: str                                 # of the backward
    samples: int
    option: int | None = None                   # what the kernel takes besides: kind, divide, probabilities
    needs_dcodes: bool = True
    gumbel: bool = False                        # codes by Gumbel noise, kept for the backward
    relaxed: bool = False                       # the decoder sees rows, not indices
    shared: bool = False                        # all K**D codes, the same for the whole batch
    mean: str | None = None                     # of the cost, for MEAN
    value: float = 0.0                          # the constant baseline
    decay: float = 0.0                          # of the running mean


def gradient_of(estimator) -> Gradient | None:
    """The estimator's Gradient, or None. A subclass may differ in anything, so only these very classes."""
    kind, samples = type(estimator), getattr(estimator, "samples", 1)
    if kind is Reinforce:
        return reinforce(estimator.baseline, samples)
    if kind is Exact:
        return Gradient("exact", 1, needs_dcodes=False, shared=True)
    if kind is RLOO:
        return Gradient("reinforce", samples, LEAVE_ONE_OUT, needs_dcodes=False)
    if kind is StraightThrough:
        return Gradient("straight_through", samples, int(estimator.divide))
    if kind is ReinMax or kind is ZGR:                              # ZGR is ReinMax at tau = 1
        return Gradient("reinmax", samples)
    if kind is DARN:
        return Gradient("darn", samples, int(estimator.centre == "probabilities"))
    if kind is StraightThroughGumbel:
        return Gradient("gumbel_softmax", samples, gumbel=True)
    if kind is GumbelSoftmax and estimator.anneal != "learned":
        return Gradient("gumbel_softmax", samples, gumbel=True, relaxed=True)
    return None


def reinforce(baseline, samples) -> Gradient | None:
    """REINFORCE with a baseline that a kernel knows."""
    kind = type(baseline)
    if kind is baselines.NoBaseline:
        return Gradient("reinforce", samples, CONSTANT, needs_dcodes=False)
    if kind is baselines.Constant:
        return Gradient("reinforce", samples, CONSTANT, needs_dcodes=False, value=baseline.baseline_value)
    if kind is baselines.RunningMean:
        return Gradient("reinforce", samples, MEAN, needs_dcodes=False, mean=RUNNING, decay=baseline.decay)
    if kind is baselines.BatchLeaveOneOut:
        return Gradient("reinforce", samples, MEAN, needs_dcodes=False, mean=BATCH)
    return None
