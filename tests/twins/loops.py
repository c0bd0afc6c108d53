"""Scalar building blocks of the twins: Python floats in, Python floats out."""
import math


def softmax(row):
    """A list of K numbers -> a list of K probabilities."""
    top = max(row)
    e = [math.exp(v - top) for v in row]
    return [v / math.fsum(e) for v in e]


def jacobian_times(p, g):
    """sum_j dp_j/dphi_k g_j of p = softmax(phi), entry by entry."""
    return [math.fsum(p[j] * ((j == k) - p[k]) * g[j] for j in range(len(p))) for k in range(len(p))]


def code(draw, s, b, d):
    """The category that sample s gives latent d of example b (codes may be shared by the batch)."""
    return int(draw.codes[s, b if draw.codes.shape[1] > 1 else 0, d])
