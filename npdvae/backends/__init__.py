"""The op table: every function that steps, latents and estimators call, so that they never import a backend."""
from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

NAMES = ("numpy", "numba", "cupy")


class BackendError(RuntimeError):
    """A backend that cannot be used here; the message says why and what to install."""


class Ops(NamedTuple):
    """One backend. Arrays are those of `xp`; shapes and signatures are those of `npdvae.ops`."""

    name: str
    xp: Any                                     # the array module: numpy or cupy
    to_host: Callable[..., Any]                 # array -> numpy array
    linear: Callable[..., Any]
    linear_backward: Callable[..., Any]
    code_linear: Callable[..., Any]
    code_linear_backward: Callable[..., Any]
    relu: Callable[..., Any]
    relu_backward: Callable[..., Any]
    leaky_relu: Callable[..., Any]
    leaky_relu_backward: Callable[..., Any]
    tanh: Callable[..., Any]
    tanh_backward: Callable[..., Any]
    softmax: Callable[..., Any]
    softmax_backward: Callable[..., Any]
    log_softmax: Callable[..., Any]
    log_softmax_backward: Callable[..., Any]
    inverse_cdf: Callable[..., Any]
    gumbel_max: Callable[..., Any]
    one_hot: Callable[..., Any]
    log_prob: Callable[..., Any]
    log_prob_backward: Callable[..., Any]
    sigmoid: Callable[..., Any]
    softplus: Callable[..., Any]
    bce: Callable[..., Any]
    bce_backward: Callable[..., Any]
    bce_shared: Callable[..., Any]
    bce_shared_backward: Callable[..., Any]
    entropy: Callable[..., Any]
    entropy_backward: Callable[..., Any]
    kl_uniform: Callable[..., Any]
    kl_uniform_backward: Callable[..., Any]
    kl_categorical: Callable[..., Any]
    kl_categorical_backward: Callable[..., Any]
    gumbel: Callable[..., Any]
    sgd: Callable[..., Any]
    adam: Callable[..., Any]
    radam: Callable[..., Any]
    uniform: Callable[..., Any]                 # counter-based uniforms, see npdvae.rng.uniform


def load(name: str) -> Ops:
    """The op table of a backend: "numpy", "numba" or "cupy".

    Raises ValueError for an unknown name and BackendError where the backend cannot run.
    """
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}: expected one of {', '.join(NAMES)}")
    return importlib.import_module(f"npdvae.backends.{name}_backend").table()
