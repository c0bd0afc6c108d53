"""What a check is given, refused in one line where no right verdict could follow from it."""
from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from npdvae import estimators
from npdvae.types import Array


def probability(name: str, value: Any) -> None:
    """ValueError unless 0 < value < 1."""
    real = isinstance(value, numbers.Real)
    if not (real and 0 < value < 1):
        raise ValueError(f"{name} must be a number between 0 and 1, got {value!r}")


def positive(name: str, value: Any) -> None:
    """ValueError unless 0 < value < infinity."""
    real = isinstance(value, numbers.Real)
    if not (real and 0 < value < math.inf):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")


def count(name: str, value: Any, least: int = 1) -> None:
    """ValueError unless value is a whole number, at least so large."""
    whole = isinstance(value, numbers.Integral)
    if not (whole and value >= least):
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")


def sequential(alpha: Any, beta: Any, delta: Any, budget: Any, samples: Any, tile: Any) -> None:
    """ValueError unless the sequential test can be run at these error rates, to this bias, so many at a time."""
    probability("alpha", alpha)
    probability("beta", beta)
    positive("delta", delta)
    real = isinstance(budget, numbers.Real)
    if not (real and budget >= 1):
        raise ValueError(f"budget must be a number, at least 1, got {budget!r}")
    for name, value in (("samples", samples), ("tile", tile)):
        if value is not None:
            count(name, value)


def point(x: Any) -> Array:
    """Where a derivative is taken, float64 of any shape; ValueError where it is empty or not finite."""
    x = np.asarray(x, np.float64)
    if not (x.size and np.isfinite(x).all()):
        raise ValueError(f"x must have entries, all finite, got shape {list(x.shape)}" + (
            f" with {int((~np.isfinite(x)).sum())} that are not" if x.size else ""))
    return x


def gradient(true: Any, shape: tuple[int, ...], source: str) -> Array:
    """The gradient to compare with, a number or an array, as float64 [B, D, K]; ValueError unless all is finite."""
    true = np.asarray(true, np.float64)
    if not np.isfinite(true).all():
        raise ValueError(f"{source}: the gradient to compare with is not finite")
    try:
        return np.broadcast_to(true, shape)
    except ValueError:
        raise ValueError(f"{source} must be a number or an array of shape {shape}, got shape {true.shape}") from None


def estimator_of(given: Any) -> Any:
    """An estimator, from its registered name too; ValueError for a class in place of an object of it."""
    if isinstance(given, type):
        raise ValueError(f"estimator must be an object, got the class {given.__name__}: give {given.__name__}(...)")
    return estimators.get(given) if isinstance(given, str) else given
