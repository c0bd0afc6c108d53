"""Two independent witnesses of a gradient, the adjoint test, and checks that hold a backward to them; float64."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from npdvae.types import Array
from npdvae.verify import arguments

Function = Callable[[Array], Array]


def complex_step(f: Function, x: Array, h: float = 1e-20) -> Array:
    """Jacobian of an analytic f by complex steps, exact to rounding: x any shape -> [*f(x).shape, *x.shape].

    f must let complex numbers through; its branches test real parts. Source: Squire & Trapp 1998.
    """
    x, columns = np.asarray(x, np.float64), []
    for i in np.ndindex(x.shape):
        step = x.astype(np.complex128)
        step[i] += 1j * h
        columns.append(np.imag(f(step)) / h)                        # f(x).shape
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)


def finite_differences(f: Function, x: Array, h: float = 1e-3) -> Array:
    """Jacobian by central differences of fourth order (5 points): x any shape -> [*f(x).shape, *x.shape].

    The step is h * max(1, |x|); keep kinks two steps away.
    """
    x, columns = np.asarray(x, np.float64), []
    for i in np.ndindex(x.shape):
        size = h * max(1.0, abs(float(x[i])))
        total: Array | float = 0.0
        for k, weight in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)):
            moved = x.copy()
            moved[i] += k * size
            total = total + weight * np.asarray(f(moved))           # f(x).shape
        columns.append(total / size)
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)


def dot_test(f: Function, backward: Function, x: Array, u: Array, v: Array, h: float = 1e-20) -> float:
    """Relative gap between <v, J u> and <J^T v, u>, zero for an exact adjoint: x, u alike, v like f(x) -> float.

    backward(v) is J^T v. The scale is the sum of the absolute products.
    """
    forward = np.imag(f(x + 1j * h * u)) / h                        # J u, like f(x)
    back = backward(v)                                              # J^T v, like x
    scale = max(np.abs(v * forward).sum(), np.abs(back * u).sum(), np.finfo(float).tiny)
    return float(abs((v * forward).sum() - (back * u).sum()) / scale)


def check_gradient(f: Function, gradient: Function, x: Array, *, analytic: bool = True, finite: bool = True,
                   tolerance: float = 1e-12) -> None:
    """Hold gradient(x), like x, to the derivative of the scalar f at x.

    analytic: by complex steps, to `tolerance` times the largest entry (f must let complex numbers through); finite: by
    central differences, to a thousand times that (no kink within two steps of x). AssertionError where they differ: in
    which entry most, both numbers, the tolerance. ValueError where neither is to be taken.
    """
    x = arguments.point(x)
    arguments.positive("tolerance", tolerance)
    for name, jacobian, factor in witnesses(f, x, analytic, finite):
        compare(gradient(x), jacobian, tolerance * factor, name, 0)


def check_adjoint(f: Function, backward: Function, x: Array, *, analytic: bool = True, finite: bool = True,
                  tolerance: float = 1e-12, directions: int = 20, seed: int = 0) -> None:
    """Hold backward(dy), like x, to J^T dy, J the Jacobian of f at x: every entry, then random cotangents.

    analytic, finite, tolerance and errors as in `check_gradient`. The cotangents, `directions` of them, find a backward
    that is not linear in dy; with complex steps each is a dot test too.
    """
    x = arguments.point(x)
    arguments.positive("tolerance", tolerance)
    arguments.count("directions", directions, 0)
    y = np.asarray(f(x))
    units = np.eye(y.size).reshape(-1, *y.shape)                    # [Y, *y.shape]
    rows = np.stack([backward(unit) for unit in units])             # [Y, *x.shape]
    rows = rows.reshape(*y.shape, *rows.shape[1:])                  # [*y.shape, *x.shape]
    for name, jacobian, factor in witnesses(f, x, analytic, finite):
        compare(rows, jacobian, tolerance * factor, name, y.ndim)
    rng = np.random.default_rng(seed)
    for _ in range(directions):
        u, v = rng.normal(size=x.shape), rng.normal(size=y.shape)
        linear = np.tensordot(v, rows, y.ndim)                      # x.shape
        gap = np.abs(backward(v) - linear).max() / max(np.abs(rows).sum(), np.finfo(float).tiny)
        if analytic:
            gap = max(gap, dot_test(f, backward, x, u, v))
        if not gap <= tolerance:
            raise AssertionError(f"a random dy: backward is not J^T dy: relative error {gap:.3g}, "
                                 f"tolerance {tolerance:.3g}")


def witnesses(f: Function, x: Array, analytic: bool, finite: bool) -> Iterator[tuple[str, Array, float]]:
    """(name, Jacobian [*f(x).shape, *x.shape], how much less sharp it is than rounding) of those that apply."""
    if not (analytic or finite):
        raise ValueError("nothing to check against: analytic and finite are both False")
    if analytic:
        yield "complex steps", complex_step(f, x), 1.0              # measured 5.5e-16
    if finite:
        yield "central differences", finite_differences(f, x), 1e3      # eps / h, and the fifth derivative times h^4


def compare(found: Array, jacobian: Array, tolerance: float, name: str, axes: int) -> None:
    """AssertionError at the largest error, or NaN; the first `axes` axes are those of f(x)."""
    found = np.asarray(found)
    if found.shape != jacobian.shape:
        raise AssertionError(f"expected the shape of x, {list(jacobian.shape[axes:])}, got {list(found.shape[axes:])}")
    error = np.abs(found - jacobian)
    bound = tolerance * np.abs(jacobian).max()
    if not (error <= bound).all():
        at = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))   # a NaN counts as the largest
        raise AssertionError(f"d f{list(at[:axes]) or ''} / d x{list(at[axes:]) or ''}: got {found[at]:.15g}, "
                             f"{name} give {jacobian[at]:.15g}: error {error[at]:.3g}, tolerance {bound:.3g}")
