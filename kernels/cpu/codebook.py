"""The nearest code of each vector, float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import SUMS, kernel
from npdvae.kernels.cpu.side_by_side import WIDE, columns

f4 = np.float32


@kernel(SUMS)
def nearest(h, e, codes):
    """argmax_k h.e_k - |e_k|^2 / 2, of equals the first: h [N, G, C], e [G, K, C] -> codes int64 [N, G]."""
    (N, G, C), K = h.shape, e.shape[1]
    x, score = np.empty((C, WIDE), f4), np.empty(WIDE, f4)
    best, code = np.empty(WIDE, f4), np.empty(WIDE, f4)
    for g in range(G):
        for first in range(0, N, WIDE):
            n = min(WIDE, N - first)
            columns(h[:, g], first, x, n)
            for k in range(K):
                vector, half, category = e[g, k], f4(0), f4(k)
                for c in range(C):
                    half += vector[c] * vector[c]
                for i in range(n):
                    score[i] = f4(-0.5) * half
                for c in range(C):
                    row, weight = x[c], vector[c]
                    for i in range(n):
                        score[i] += weight * row[i]
                for i in range(n):
                    better = score[i] > best[i] or k == 0
                    best[i], code[i] = score[i] if better else best[i], category if better else code[i]
            for i in range(n):
                codes[first + i, g] = np.int64(code[i])
