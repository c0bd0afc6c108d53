"""Scores of codes, weighted and summed over samples, float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, kernel

f4 = np.float32


@kernel(CONTRACT)
def weighted_score(coefficient, codes, p, dlogits):
    """sum_s c_s (z_s - p): coefficient [S, B], codes int64 [S, B, D], p and dlogits [B, D, K]."""
    S, B = coefficient.shape
    _, D, K = p.shape
    for b in range(B):
        total = f4(0)
        for s in range(S):
            total += coefficient[s, b]
        x, y = p[b].ravel(), dlogits[b].ravel()
        for i in range(x.size):
            y[i] = -total * x[i]
        for s in range(S):
            for d in range(D):
                y[d * K + codes[s, b, d]] += coefficient[s, b]
