"""What the captured engine can run, decided from the description of a step."""
from __future__ import annotations

from typing import NamedTuple

from npdvae.backends.cupy_backend import NUMBERS
from npdvae.describe import StepSpec

LATENTS, PRIORS, LIKELIHOODS = ("categorical",), ("uniform", "learned"), ("bernoulli",)
CONSTANT, LEAVE_ONE_OUT, MEAN = range(3)        # as reinforce.cu numbers them
RUNNING, BATCH = "running", "batch"
ACTIVATIONS = {"relu": 0, "leaky_relu": 1, "tanh": 2}
MODES = {"none": 0, "dynamic": 1, "static": 1, "threshold": 2}


class CapturedGradient(NamedTuple):
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


def captured_gradient(spec: StepSpec) -> CapturedGradient | None:
    """The estimator as the kernels know it, or None."""
    s, samples = spec.settings, spec.settings.get("samples", 1)
    match spec.estimator:
        case "reinforce":
            return reinforce(s, samples)
        case "exact":
            return CapturedGradient("exact", 1, needs_dcodes=False, shared=True)
        case "rloo":
            return CapturedGradient("reinforce", samples, LEAVE_ONE_OUT, needs_dcodes=False)
        case "straight_through":
            return CapturedGradient("straight_through", samples, int(s["divide"]))
        case "reinmax" | "zgr":                                     # ZGR is ReinMax at tau = 1
            return CapturedGradient("reinmax", samples)
        case "darn":
            return CapturedGradient("darn", samples, int(s["centre"] == "probabilities"))
        case "straight_through_gumbel":
            return CapturedGradient("gumbel_softmax", samples, gumbel=True)
        case "gumbel_softmax" if s["anneal"] != "learned":
            return CapturedGradient("gumbel_softmax", samples, gumbel=True, relaxed=True)
    return None


def reinforce(settings, samples) -> CapturedGradient | None:
    """REINFORCE with a baseline that a kernel knows."""
    match settings["baseline"]:
        case "none":
            return CapturedGradient("reinforce", samples, CONSTANT, needs_dcodes=False)
        case "constant":
            return CapturedGradient("reinforce", samples, CONSTANT, needs_dcodes=False,
                                    value=settings["baseline_value"])
        case "running_mean":
            return CapturedGradient("reinforce", samples, MEAN, needs_dcodes=False, mean=RUNNING,
                                    decay=settings["decay"])
        case "batch_leave_one_out":
            return CapturedGradient("reinforce", samples, MEAN, needs_dcodes=False, mean=BATCH)
    return None


def unsupported(spec: StepSpec) -> str | None:
    """Why the step must run op by op, in a few words, or None where it can be captured."""
    for part, name, known in (("latent", spec.latent, LATENTS), ("prior", spec.prior, PRIORS),
                              ("likelihood", spec.likelihood, LIKELIHOODS), ("optimizer", spec.optimizer, NUMBERS),
                              ("activation", spec.activation, ACTIVATIONS), ("binarize", spec.binarize, MODES)):
        if name not in known:
            return f"{part} {name} has no captured kernel"
    if captured_gradient(spec) is None:
        return f"estimator {spec.estimator} has no fused kernel for these options"
    if spec.microbatch is not None:
        return "microbatches are added up one by one"
    return None
