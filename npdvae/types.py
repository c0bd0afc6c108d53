"""What annotations are made of; nothing is imported but NumPy, so every module may use it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]             # of NumPy; with the cupy table, of CuPy
DType: TypeAlias = npt.DTypeLike
Params: TypeAlias = dict[str, Any]             # parameters or their gradients: arrays by name
State: TypeAlias = dict[str, Any]               # what an estimator learns or remembers: arrays by name
Cost: TypeAlias = Callable[[Array], Array]      # codes -> cost [S, B], or its gradient [S, B, D, K]
Estimate: TypeAlias = Callable[..., Any]        # (logits, rng) -> dlogits, of any framework
