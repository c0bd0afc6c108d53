"""What the engines of this folder can run, decided from the description of a step."""
from __future__ import annotations

from npdvae.backends.numba_backend import NUMBERS
from npdvae.describe import StepSpec
from npdvae.fused.exact import MOST_ACTIVATIONS
from npdvae.fused.plan import FusedGradient
from npdvae.kernels.cpu import bfloat16, jobs

NETWORKS, LATENTS, PRIORS, LIKELIHOODS = ("mlp",), ("categorical",), ("uniform", "learned"), ("bernoulli",)
BFLOAT16 = "bfloat16"                           # --matmul-precision

TEMPERED = {"temperature", "anneal", "anneal_rate", "anneal_min", "anneal_every"}
SETTINGS = {                                    # of each estimator that has kernels: another setting is another rule
    "exact": set(), "rloo": {"samples"}, "reinforce": {"samples", "baseline", "baseline_value", "decay"},
    "straight_through": {"samples", "divide", *TEMPERED}, "reinmax": {"samples", "alpha", *TEMPERED},
}


def fused_gradient(spec: StepSpec) -> FusedGradient | None:
    """The estimator as the kernels know it, or None."""
    s = spec.settings
    if spec.estimator not in SETTINGS or set(s) - SETTINGS[spec.estimator]:
        return None
    match spec.estimator:
        case "reinforce" if s["baseline"] in jobs.BASELINES:
            kind = jobs.BASELINES[s["baseline"]]
            return FusedGradient(kind, s["samples"], tracks=int(s["baseline"] == "running_mean"))
        case "exact":
            return FusedGradient(jobs.EXACT, 1)     # of an evaluation; training decodes all codes
        case "reinmax" if s["alpha"] != 1:
            return None
        case name if name in jobs.ESTIMATORS:
            return FusedGradient(jobs.ESTIMATORS[name], s["samples"], int(s.get("divide", False)))
    return None


def unfit(spec: StepSpec) -> str | None:
    """What neither engine on panels can run, in a few words, or None."""
    if spec.dtype != "float32":
        return f"{spec.dtype} arithmetic"
    if spec.matmul_precision == BFLOAT16 and (reason := bfloat16.reason_unfit()):
        return f"products of bfloat16: {reason}"
    for part, name, known in (("network", spec.network, NETWORKS), ("activation", spec.activation, jobs.ACTIVATIONS),
                              ("binarize", spec.binarize, jobs.PIXEL_MODES)):
        if name not in known:
            return f"{part} {name}"
    return None


def whole_gradient(spec: StepSpec) -> str | None:
    """What needs the gradient of all parameters before the update of any, in a few words, or None."""
    if spec.optimizer not in NUMBERS:
        return f"optimizer {spec.optimizer}"
    if spec.clip_norm is not None:
        return "clipping needs the whole gradient"
    if spec.microbatch is not None:
        return "microbatches need the whole gradient"
    return None


def unsegmented(spec: StepSpec) -> str | None:
    """Why the segmented engine cannot run this, in a few words, or None where it can."""
    if spec.estimator == "exact":
        return "codes that the batch shares"
    return unfit(spec)


def unsupported(spec: StepSpec) -> str | None:
    """Why whole steps cannot be fused, in a few words, or None where they can."""
    if reason := unfit(spec) or whole_gradient(spec):
        return reason
    if len(spec.encoder) < 3:
        return "no hidden layer"
    for part, name, known in (("latent", spec.latent, LATENTS), ("prior", spec.prior, PRIORS),
                              ("likelihood", spec.likelihood, LIKELIHOODS)):
        if name not in known:
            return f"{part} {name}"
    if spec.estimator == "exact" and spec.matmul_precision == BFLOAT16:
        return "codes that the batch shares are decoded in float32"
    if fused_gradient(spec) is None:
        return f"estimator {spec.method}"
    if spec.estimator == "exact" and spec.codes > MOST_ACTIVATIONS:
        return f"activations of {spec.codes} codes, more than {MOST_ACTIVATIONS}"
    return None
