"""Jointly antithetic categories: M sticks broken with uniforms that repel each other (Dirichlet copula).

d ~ Dirichlet(1, ..., 1) of M parts; u_m = (1 - d_m)^(M-1) are uniform, and for any n <= M of them
P(u_1 < c, ..., u_n < c) = max(0, 1 - n (1 - c^(1/(M-1))))^(M-1) (Dimitriev & Zhou 2021). Sample m stops at the
first stick i with u_mi < theta_i; sticks are in ascending order of the logits, so theta_i <= 1/2 but for
the last, which stops what is left. Every pair of different categories is then possible.
"""
from math import comb

from npdvae.ops.kernelled import kernelled


def sticks(ops, logits):
    """Categories in ascending order int [B, D, K], and the sticks theta [B, D, K-1], each <= 1/2."""
    xp = ops.xp
    order = xp.argsort(logits, -1, kind="stable")                   # [B, D, K]
    x = xp.take_along_axis(logits, order, -1)
    e = xp.exp(x - x[..., -1:])                                     # [B, D, K], the last is 1
    return order, (e / xp.cumsum(e[..., ::-1], -1)[..., ::-1])[..., :-1]


def repelling_uniforms(xp, u):
    """M independent uniforms to the copula's: u [M, ...] in (0, 1) -> [M, ...]."""
    e = -xp.log(u)                                                  # exponentials; d = e / their sum
    others = xp.stack([e[:m].sum(0) + e[m + 1:].sum(0) for m in range(len(u))])     # sum - e without cancellation
    return (others / e.sum(0)) ** (len(u) - 1)


@kernelled
def antithetic_codes(ops, logits, u):
    """Coupled categories: logits [B, D, K], u [M, B, D, K-1] in (0, 1) -> int [M, B, D]."""
    xp, (order, theta) = ops.xp, sticks(ops, logits)
    stops = repelling_uniforms(xp, u) < theta                       # [M, B, D, K-1]
    stops = xp.concatenate([stops, xp.ones((*stops.shape[:-1], 1), bool)], -1)
    return xp.stack([xp.take_along_axis(order, stop.argmax(-1)[..., None], -1)[..., 0] for stop in stops])


def all_below(xp, theta, n, samples):
    """P(u_1 < theta, ..., u_n < theta) for n of the M samples."""
    if n < 2:
        return theta ** n
    return xp.maximum(1 - n * (1 - theta ** (1 / (samples - 1))), 0) ** (samples - 1)


@kernelled
def pair_ratio(ops, logits, first, other, samples):
    """rho = q(z) q(z') / P(z, z') of pairs: logits [B, D, K], int [N, B or 1, D] twice -> [N, B, D]; 1 where z = z'.

    (1 - theta)^2 / P(both pass) for every stick that both pass, theta (1 - theta) / P(one stops) at the first stop.
    """
    xp, (order, theta) = ops.xp, sticks(ops, logits)                # theta [B, D, K-1]
    both = all_below(xp, theta, 2, samples)                         # P(both stop): [B, D, K-1]
    passing = ((1 - theta) ** 2)[..., :-1] / (1 - 2 * theta + both)[..., :-1]   # the last stick ends every pair
    stopping = (1 - theta) / (1 - both / xp.where(both > 0, theta, 1))
    one = xp.ones((*logits.shape[:2], 1), logits.dtype)
    table = xp.concatenate([one, xp.cumprod(passing, -1)], -1)[..., :theta.shape[-1]] * stopping
    table = xp.concatenate([table, one], -1)                        # by the earlier stick: [B, D, K]
    place = order.argsort(-1)                                       # stick of each category: [B, D, K]
    place, table = (xp.broadcast_to(x, (len(first), *x.shape)) for x in (place, table))     # [N, B, D, K]
    earlier = xp.minimum(*(xp.take_along_axis(place, k[..., None], -1) for k in (first, other)))    # [N, B, D, 1]
    return xp.take_along_axis(table, earlier, -1)[..., 0]


def joint(ops, logits, codes):
    """P(z_1, ..., z_M) of each latent: logits [B, D, K], int [M, N] -> [N, B, D]."""
    xp, (order, theta) = ops.xp, sticks(ops, logits)
    M = len(codes)
    place = order.argsort(-1)                                       # stick of each category: [B, D, K]
    stop = xp.moveaxis(place[..., codes], (2, 3), (0, 1))[..., None]        # [M, N, B, D, 1]
    stick = xp.arange(theta.shape[-1])                              # [K-1]
    ending, waiting = (stop == stick).sum(0), (stop >= stick).sum(0)        # [N, B, D, K-1]
    factor = xp.zeros(ending.shape, theta.dtype)
    for n in range(M + 1):                                          # n samples reach a stick, t stop there
        for t in range(n + 1):
            g = sum((-1) ** w * comb(n - t, w) * all_below(xp, theta, t + w, M) for w in range(n - t + 1))
            factor = xp.where((waiting == n) & (ending == t), xp.maximum(g, 0), factor)
    return factor.prod(-1)
