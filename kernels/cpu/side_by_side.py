"""Rows of few categories, up to WIDE of them side by side: every loop is over whole vectors whatever K is; float32.

Columns are the first n of arrays [K, WIDE], whose rows the compiler then knows to be contiguous.
"""
import numpy as np

from npdvae.kernels.cpu.compiler import SUMS, helper, inner

f4 = np.float32
WIDE = 128


@helper
def columns(a, first, x, n):
    """Rows first.. of a [N, K] as columns x [K, n]."""
    some = a[first:first + n]
    for k in range(len(x)):
        row = x[k]
        for i in range(n):
            row[i] = some[i, k]


@helper
def rows(x, a, first, n):
    """Columns x [K, n] as rows first.. of a [N, K]."""
    K = len(x)
    for i in range(n):
        row = a[first + i]
        for k in range(K):
            row[k] = x[k, i]


@inner(SUMS)
def shifted(x, top, n):
    """Columns x [K, n] less their largest entries top [n], in place."""
    K = len(x)
    for i in range(n):
        top[i] = x[0, i]
    for k in range(1, K):
        row = x[k]
        for i in range(n):
            top[i] = row[i] if row[i] > top[i] else top[i]
    for k in range(K):
        row = x[k]
        for i in range(n):
            row[i] -= top[i]


@inner(SUMS)
def summed(x, total, n):
    """Sums of columns x [K, n]: total [n]."""
    K = len(x)
    for i in range(n):
        total[i] = f4(0)
    for k in range(K):
        row = x[k]
        for i in range(n):
            total[i] += row[i]


@inner(SUMS)
def products(x, y, total, n):
    """Inner products of columns x and y [K, n]: total [n]."""
    K = len(x)
    for i in range(n):
        total[i] = f4(0)
    for k in range(K):
        a, b = x[k], y[k]
        for i in range(n):
            total[i] += a[i] * b[i]
