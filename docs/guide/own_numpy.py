"""REINFORCE with a mean baseline, by hand."""
import numpy as np


def estimate(logits, rng, cost, leave_one_out=True, samples=4):
    """dlogits [B, D, 2] for binary latents."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)      # [B, D, 2]
    codes = (rng.uniform((samples, *logits.shape[:2])) > p[..., 0]).astype(int)     # [S, B, D]
    f = cost(codes)                                                 # [S, B]
    advantage = (f - f.mean(0)) / (samples - leave_one_out)         # [S, B]
    return (advantage[..., None, None] * (np.eye(2)[codes] - p)).sum(0)
