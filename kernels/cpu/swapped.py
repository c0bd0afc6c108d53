"""Winners of exponential races in which two shares are exchanged, float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, kernel


@kernel(CONTRACT)
def swapped_winners(log_e, logits, orders, codes):
    """argmin_i log_e[order_i] - logits_i, the first of equals: [N, K] twice, int64 [S, K] -> int64 [S, N]."""
    S, K = orders.shape
    gap = np.empty((K, K), np.float32)
    for n in range(len(logits)):
        for k in range(K):
            for i in range(K):
                gap[i, k] = log_e[n, k] - logits[n, i]
        for s in range(S):
            best = 0
            for i in range(1, K):
                if gap[i, orders[s, i]] < gap[best, orders[s, best]]:
                    best = i
            codes[s, n] = best
