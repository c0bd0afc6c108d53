"""A code and all codes that differ from it in one latent: rows of a draw, and their costs as a table."""


def neighbours(xp, codes, categories):
    """The code, then d outermost z_d := z_d + j mod K for j = 1..K-1: int [B, D] -> [1 + D (K-1), B, D]."""
    D = codes.shape[-1]
    shift = xp.eye(D, dtype=codes.dtype)[:, None] * xp.arange(1, categories)[:, None]   # [D, K-1, D]
    shifted = (codes + shift.reshape(-1, 1, D)) % categories        # [D (K-1), B, D]
    return xp.concatenate([codes[None], shifted])


def cost_table(xp, cost, codes, categories):
    """f(z_d := k) from the costs of `neighbours`: cost [1 + D (K-1), B], codes int [B or 1, D] -> [B, D, K]."""
    D, B = codes.shape[-1], cost.shape[1]
    shifted = cost[1:].reshape(D, categories - 1, B)                # [D, K-1, B]
    itself = xp.broadcast_to(cost[0], (D, 1, B))                    # [D, 1, B]
    by_shift = xp.concatenate([itself, shifted], 1).transpose(2, 0, 1)   # [B, D, K], entry j is z_d + j
    shift = (xp.arange(categories) - codes[..., None]) % categories   # [B or 1, D, K]
    return xp.take_along_axis(by_shift, xp.broadcast_to(shift, by_shift.shape), 2)


def row_weights(xp, p, codes):
    """Weights p_dk / D of the rows of `neighbours`: E[f given z_-d], mean over d; p [B, D, K] -> [1 + D (K-1), B].

    Unbiased for E f with less variance than the code alone.
    """
    B, D, K = p.shape
    category = (codes[..., None] + xp.arange(K)) % K                # [B or 1, D, K], z_d + j
    by_shift = xp.take_along_axis(p, xp.broadcast_to(category, p.shape), 2) / D   # [B, D, K]
    shifted = by_shift[..., 1:].transpose(1, 2, 0).reshape(-1, B)   # [D (K-1), B]
    return xp.concatenate([by_shift[..., 0].sum(-1)[None], shifted])
