"""Vector quantisation: the nearest code of each vector."""
import numpy as np

from npdvae.types import Array


def nearest(h: Array, e: Array) -> Array:
    """argmin_k |h - e_k|^2 = argmax_k h.e_k - |e_k|^2 / 2, of equals the first.

    h [..., G, C], codebooks e [G, K, C] -> int [..., G].
    """
    vectors = np.moveaxis(h.reshape(-1, *h.shape[-2:]), 1, 0)       # [G, N, C]
    scores = vectors @ e.swapaxes(1, 2) - (e * e).sum(-1)[:, None] / 2      # [G, N, K]
    return scores.argmax(-1).T.reshape(h.shape[:-1])
