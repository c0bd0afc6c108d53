"""Bernoulli likelihood on logits, float32: cost and gradient, each in one pass."""
import numpy as np

from npdvae.kernels.cpu import elementary
from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, inner, kernel
from npdvae.kernels.cpu.elementary import exp_minus, log1p_short

f4 = np.float32


@kernel(CONTRACT)
def sigmoid(x, y):
    for i in range(x.size):
        y[i] = elementary.sigmoid(x[i])


@kernel(CONTRACT)
def softplus(x, y):
    for i in range(x.size):
        y[i] = elementary.softplus(x[i])


@inner(SUMS)
def cost_row(logits, x):
    """sum softplus(l) - x l of one image [P], in nats."""
    total = f4(0)
    for j in range(logits.size):
        total += elementary.softplus(logits[j]) - x[j] * logits[j]
    return total


@inner(SUMS)
def cost_and_gradient_row(logits, x, scale):
    """As `cost_row`; logits [P] are overwritten by scale (sigmoid(l) - x), their gradient."""
    total = f4(0)
    for j in range(logits.size):
        l = logits[j]
        t = exp_minus(abs(l))                   # shared by softplus and sigmoid
        q = f4(1) / (f4(1) + t)
        total += f4(0.5) * (l + abs(l)) - l * x[j] + log1p_short(t)
        logits[j] = scale * ((q if l >= f4(0) else t * q) - x[j])
    return total


@kernel(CONTRACT)
def bce(logits, x, cost):
    """logits [N, P], x [M, P] -> cost [N], row n against row n % M."""
    for n in range(len(logits)):
        cost[n] = cost_row(logits[n], x[n % len(x)])


@kernel(CONTRACT)
def bce_backward(dcost, logits, x, dlogits):
    """dcost [N], logits [N, P], x [M, P] -> dlogits [N, P]."""
    N, P = logits.shape
    for n in range(N):
        l, target, out = logits[n], x[n % len(x)], dlogits[n]
        for j in range(P):
            out[j] = dcost[n] * (elementary.sigmoid(l[j]) - target[j])


@kernel(SUMS)
def softplus_sum(logits, total):
    """Row sums of softplus: [N, P] -> [N]."""
    for n in range(len(logits)):
        row, s = logits[n], f4(0)
        for j in range(row.size):
            s += elementary.softplus(row[j])
        total[n] = s


@kernel(CONTRACT)
def shared_backward(weight, logits, product):
    """product <- weight[:, None] sigmoid(logits) - product: [N], [N, P], [N, P]."""
    N, P = logits.shape
    for n in range(N):
        l, out = logits[n], product[n]
        for j in range(P):
            out[j] = weight[n] * elementary.sigmoid(l[j]) - out[j]
