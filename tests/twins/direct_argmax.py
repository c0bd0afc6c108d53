"""Lorberbom et al. 2019: one more argmax with the costs added to the perturbed logits, latent by latent."""
import numpy as np

from tests.twins.local_expectation import changed_cost
from tests.twins.loops import code


def backward(estimator, draw, cost, dcodes=None, state=None):
    """(one-hot argmax_k (phi + G + eps f(z_d := k)) - one-hot z_d) / eps."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            noisy = [float(draw.logits[b, d, k]) + float(draw.kept["gumbels"][0, b, d, k]) for k in range(K)]
            z = code(draw, 0, b, d)
            assert noisy[z] == max(noisy)
            total = [noisy[k] + estimator.eps * changed_cost(draw, cost, b, d, k) for k in range(K)]
            out[b, d, max(range(K), key=total.__getitem__)] += 1 / estimator.eps
            out[b, d, z] -= 1 / estimator.eps
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(eps=0.5), 4, 10
