"""Antithetic pairs of leaves of a binary tree, float32.

Masks left and right [M, J, K] of row n % M, J = K - 1 nodes.
"""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, helper, kernel
from npdvae.kernels.cpu.elementary import exp, log, sigmoid

f4 = np.float32
LEAST = f4(1e-30)                               # of sums that have lost nothing to underflow


@kernel(CONTRACT)
def stick_breaking(logits, left, right):
    """One category after another in ascending order, the first of equals first: logits [N, K] -> masks [N, J, K]."""
    N, J, K = left.shape
    for n in range(N):
        for k in range(K):
            x, rank = logits[n, k], 0
            for i in range(K):
                rank += logits[n, i] < x or (logits[n, i] == x and i < k)
            for j in range(J):
                left[n, j, k] = rank == j
                right[n, j, k] = rank > j


@helper
def side(x, mask, share):
    """logsumexp of x [K] where mask, whose softmax goes to share [K], 0 elsewhere."""
    top, total = f4(-np.inf), f4(0)
    for k in range(x.size):
        if mask[k]:
            top = max(top, x[k])
    for k in range(x.size):
        share[k] = exp(x[k] - top) if mask[k] else f4(0)
        total += share[k]
    for k in range(x.size):
        share[k] /= total
    return top + log(total)


@kernel(SUMS)
def node_logits(logits, left, right, a, slope):
    """a [N, J] = logsumexp(left) - logsumexp(right) and da / dlogits [N, J, K]: logits [N, K]."""
    N, J, K = slope.shape
    e, share, total = np.empty(K, f4), np.empty((2, K), f4), np.empty((J, 2), f4)
    for n in range(N):
        x, l, r = logits[n], left[n % len(left)], right[n % len(right)]
        top = x[0]
        for k in range(K):
            top = max(top, x[k])
        for k in range(K):
            e[k] = exp(x[k] - top)
        for j in range(J):
            here, there, out, on, off = l[j], r[j], slope[n, j], f4(0), f4(0)
            for k in range(K):
                on += e[k] if here[k] else f4(0)
                off += e[k] if there[k] else f4(0)
            total[j, 0], total[j, 1] = on, off
            up, down = (f4(1) / on, f4(1) / off) if min(on, off) > LEAST else (f4(0), f4(0))
            for k in range(K):
                out[k] = e[k] * ((up if here[k] else f4(0)) - (down if there[k] else f4(0)))
        for j in range(J):
            a[n, j] = log(total[j, 0]) - log(total[j, 1])
        for j in range(J):
            if not min(total[j, 0], total[j, 1]) > LEAST:       # both sides far below the row's largest
                a[n, j] = side(x, l[j], share[0]) - side(x, r[j], share[1])
                for k in range(K):
                    slope[n, j, k] = share[0, k] - share[1, k]


@helper
def leaf(bits, left, right):
    """The first category whose path agrees with every bit: bits bool [J], masks [J, K]."""
    J, K = left.shape
    for k in range(K):
        agrees = True
        for j in range(J):
            if right[j, k] if bits[j] else left[j, k]:
                agrees = False
                break
        if agrees:
            return k
    return 0


@kernel(CONTRACT)
def leaf_pair(a, left, right, u, codes):
    """Leaves of the bits [u < sigma(a)] and [1 - u < sigma(a)]: a, u [N, J] -> codes int64 [2, N]."""
    N, J = a.shape
    bits = np.empty((2, J), np.bool_)
    for n in range(N):
        for j in range(J):
            theta = sigmoid(a[n, j])
            bits[0, j] = u[n, j] < theta
            bits[1, j] = f4(1) - u[n, j] < theta
        for i in range(2):
            codes[i, n] = leaf(bits[i], left[n % len(left)], right[n % len(right)])


@kernel(SUMS)
def leaf_pair_backward(half, codes, a, slope, left, right, dlogits):
    """DisARM where both paths meet a node, the score of the one that meets it elsewhere, times half [N]: [N, K].

    codes int64 [2, N], a [N, J], slope [N, J, K].
    """
    N, J, K = slope.shape
    for n in range(N):
        l, r, z, other, out = left[n % len(left)], right[n % len(right)], codes[0, n], codes[1, n], dlogits[n]
        for k in range(K):
            out[k] = f4(0)
        for j in range(J):
            met, met_other = l[j, z] or r[j, z], l[j, other] or r[j, other]
            b, b_other = f4(l[j, z]), f4(l[j, other])
            if met and met_other:
                da = (b - b_other) * sigmoid(abs(a[n, j]))
            elif met:
                da = b - sigmoid(a[n, j])
            elif met_other:
                da = sigmoid(a[n, j]) - b_other
            else:
                da = f4(0)
            if da != f4(0):
                for k in range(K):
                    out[k] += half[n] * da * slope[n, j, k]
