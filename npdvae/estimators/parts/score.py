"""The score of hard codes, d log q / d logits = z - p, as score-function estimators sum it."""
from npdvae.ops.kernelled import kernelled


@kernelled
def weighted_score(ops, coefficient, codes, p):
    """sum_s c_s (z_s - p): coefficient [S, B], codes int [S, B or 1, D], p [B, D, K] -> [B, D, K]."""
    z = ops.one_hot(codes, p.shape[-1], p.dtype)                    # [S, B or 1, D, K]
    return (coefficient[..., None, None] * (z - p)).sum(0)          # [B, D, K]
