"""Schedules of the step number: learning rate and KL weight."""
import math

NAMES = ("constant", "cosine", "exponential")
OVER_THE_RUN = ("cosine",)                      # those that depend on the length of the run


def learning_rate(name, lr, step, total, decay=0.9, interval=1000):
    """Learning rate of the 0-based step.

    cosine falls from lr to 0 over `total` steps; exponential multiplies by `decay` every `interval` steps (smoothly).
    """
    if name == "constant":
        return lr
    if name == "cosine":
        return lr * 0.5 * (1 + math.cos(math.pi * min(step / max(total, 1), 1.0)))
    if name == "exponential":
        return lr * decay ** (step / interval)
    raise ValueError(f"unknown learning-rate schedule {name!r}: expected one of {', '.join(NAMES)}")


def kl_weight(weight, warmup, step):
    """Weight of the KL term at the 0-based step: linear from 0 over `warmup` steps, then `weight`."""
    return weight * min(1.0, step / warmup) if warmup else weight
