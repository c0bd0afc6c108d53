"""What the engines of this folder can run, decided from the description of a step."""
from __future__ import annotations

import functools
from typing import NamedTuple

from npdvae.backends.cupy_backend import MODES, NUMBERS
from npdvae.describe import StepSpec
from npdvae.kernels.cuda.constants import ACTIVATIONS, BASELINES

NETWORKS, LATENTS, PRIORS, LIKELIHOODS = ("mlp",), ("categorical",), ("uniform", "learned"), ("bernoulli",)
TEMPERED = {"temperature", "anneal", "anneal_rate", "anneal_min", "anneal_every"}
SETTINGS = {                                    # of each estimator that has kernels: another setting is another rule
    "exact": set(), "rloo": {"samples"}, "reinforce": {"samples", "baseline", "baseline_value", "decay"},
    "straight_through": {"samples", "divide", *TEMPERED}, "reinmax": {"samples", "alpha", *TEMPERED},
    "zgr": {"samples"}, "darn": {"samples", "centre"}, "straight_through_gumbel": {"samples", *TEMPERED},
    "gumbel_softmax": {"samples", "kl", "prior_temperature", *TEMPERED},
}
RUNNING, BATCH = "running", "batch"


class CapturedGradient(NamedTuple):
    """An estimator as the kernels know it."""

    kernel: str                                 # of the backward
    samples: int
    option: int | None = None                   # what the kernel takes besides: kind, divide, probabilities
    needs_dcodes: bool = True
    gumbel: bool = False                        # codes by Gumbel noise, kept for the backward
    relaxed: bool = False                       # the decoder sees rows, not indices
    shared: bool = False                        # all K**D codes, the same for the whole batch
    mean: str | None = None                     # of the cost, that the baseline is
    value: float = 0.0                          # the constant baseline
    decay: float = 0.0                          # of the running mean


def captured_gradient(spec: StepSpec) -> CapturedGradient | None:
    """The estimator as the kernels know it, or None."""
    s, samples = spec.settings, spec.settings.get("samples", 1)
    if spec.estimator not in SETTINGS or set(s) - SETTINGS[spec.estimator]:
        return None
    match spec.estimator:
        case "reinforce":
            return reinforce(s, samples)
        case "exact":
            return CapturedGradient("exact", 1, needs_dcodes=False, shared=True)
        case "rloo":
            return CapturedGradient("reinforce", samples, BASELINES["leave_one_out"], needs_dcodes=False)
        case "straight_through":
            return CapturedGradient("straight_through", samples, int(s["divide"]))
        case "reinmax" if s["alpha"] != 1:
            return None
        case "reinmax" | "zgr":                                     # ZGR is ReinMax at tau = 1
            return CapturedGradient("reinmax", samples)
        case "darn":
            return CapturedGradient("darn", samples, int(s["centre"] == "probabilities"))
        case "straight_through_gumbel":
            return CapturedGradient("gumbel_softmax", samples, gumbel=True)
        case "gumbel_softmax" if s["anneal"] != "learned" and s["kl"] == "analytic":
            return CapturedGradient("gumbel_softmax", samples, gumbel=True, relaxed=True)
    return None


def reinforce(settings, samples) -> CapturedGradient | None:
    """REINFORCE with a baseline that a kernel knows."""
    made = functools.partial(CapturedGradient, "reinforce", samples, needs_dcodes=False)
    match settings["baseline"]:
        case "none":
            return made(option=BASELINES["constant"])
        case "constant":
            return made(option=BASELINES["constant"], value=settings["baseline_value"])
        case "running_mean":
            return made(option=BASELINES["mean"], mean=RUNNING, decay=settings["decay"])
        case "batch_leave_one_out":
            return made(option=BASELINES["mean"], mean=BATCH)
    return None


def unfit(spec: StepSpec) -> str | None:
    """Why no step on graphs can run this, whatever its latent, in a few words, or None."""
    for part, name, known in (("network", spec.network, NETWORKS), ("optimizer", spec.optimizer, NUMBERS),
                              ("activation", spec.activation, ACTIVATIONS), ("binarize", spec.binarize, MODES)):
        if name not in known:
            return f"{part} {name} has no captured kernel"
    if spec.microbatch is not None:
        return "microbatches are added up one by one"
    return None


def unsegmented(spec: StepSpec) -> str | None:
    """Why the segmented engine cannot run this, in a few words, or None where it can."""
    return unfit(spec)


def unsupported(spec: StepSpec) -> str | None:
    """Why whole steps cannot be captured, in a few words, or None where they can."""
    for part, name, known in (("latent", spec.latent, LATENTS), ("prior", spec.prior, PRIORS),
                              ("likelihood", spec.likelihood, LIKELIHOODS)):
        if name not in known:
            return f"{part} {name} has no captured kernel"
    if reason := unfit(spec):
        return reason
    if captured_gradient(spec) is None:
        return f"estimator {spec.method} has no captured kernel"
    return None
