"""Checks that the tests of the operations share: types, distance from the truth."""
import mpmath
import numpy as np

DTYPES = (np.float32, np.float64, np.complex128)
# Logits at and around what float32 can do: exp overflows past 88.8, underflows past -104.
EXTREMES = [0.0, 1e-8, -1e-8, 17.0, -17.0, 88.8, -88.8, 104.0, -104.0, 1e4, -1e4]
HUGE = float(np.finfo(np.float32).max / 4)


def close(got, expected, tolerance, scale=None):
    """Fail where |got - expected| exceeds tolerance * scale (the largest expected entry), or is NaN."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    scale = np.abs(expected).max(initial=0) if scale is None else scale
    gap = np.abs(got - expected)
    assert (gap <= tolerance * scale + np.finfo(float).tiny).all(), f"gap {gap.max()} at scale {np.max(scale)}"


def check_dtypes(call):
    """call(dtype) -> arrays made from inputs of that type: all of that type."""
    for dtype in DTYPES:
        for a in call(dtype):
            assert a.dtype == dtype, f"{a.dtype} from {np.dtype(dtype)}"


def ulps(got, exact, scale):
    """Largest |got - exact| in units of the last place of `scale`; exact and scale are arrays of mpf."""
    eps, tiny = float(np.finfo(got.dtype).eps), float(np.finfo(got.dtype).tiny)
    worst = 0
    for index in np.ndindex(got.shape):
        assert np.isfinite(got[index]), f"{got[index]} at {index}, exact {exact[index]}"
        gap = abs(mpmath.mpf(float(got[index])) - exact[index])
        worst = max(worst, gap / (eps * max(abs(scale[index]), tiny)))
    return float(worst)


def exactly(x):
    """An array of floats as an object array of mpf."""
    return np.vectorize(lambda v: mpmath.mpf(float(v)), otypes=[object])(x)
