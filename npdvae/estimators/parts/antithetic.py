"""Antithetic pairs of bits: b' = [u < sigma(a)] and b = [1 - u < sigma(a)] from one uniform u per binary latent.

u is cut at sigma(-|a|) and sigma(|a|): below, the bits differ one way, above the other, between they agree.
"""
import itertools
from math import sqrt


def bit_logits(logits):
    """The logit of category 1 against category 0: [B, D, 2] -> [B, D]."""
    return logits[..., 1] - logits[..., 0]


def bit_logits_backward(ops, da):
    """Adjoint of `bit_logits`: [B, D] -> [B, D, 2]."""
    return ops.xp.stack([-da, da], -1)


def bit_pair(ops, a, u):
    """The pair (b, b'): a [B, D], u [B, D] in (0, 1) -> int [2, B, D]."""
    return ops.xp.stack([u > ops.sigmoid(-a), u < ops.sigmoid(a)]).astype(int)


def bit_cells(ops, a, nodes=1):
    """Every cell of the uniforms: yields (probability [B], codes int [2, B, D], centred u - 1/2 [B, D]).

    Two nodes per cell and latent (Gauss) integrate polynomials of degree 3 in each u_d, one of degree 1.
    Widths and codes are written down, not found by comparing: exact however thin a cell is.
    """
    xp = ops.xp
    thin, wide = ops.sigmoid(-abs(a)), xp.tanh(abs(a) / 2)          # [B, D]
    agree = (a > 0).astype(int)                                     # [B, D]
    cells = ((thin, (thin - 1) / 2, 0 * agree, 0 * agree + 1),      # width, midpoint - 1/2, b, b'
             (wide, 0 * thin, agree, agree),
             (thin, (1 - thin) / 2, 0 * agree + 1, 0 * agree))
    offsets = (0.0,) if nodes == 1 else (-0.5 / sqrt(3), 0.5 / sqrt(3))
    for index in itertools.product(itertools.product(range(3), offsets), repeat=a.shape[1]):
        chosen = [[part[:, d] for part in cells[cell]] for d, (cell, _) in enumerate(index)]
        width, middle, b, other = (xp.stack(parts, -1) for parts in zip(*chosen))       # 4 x [B, D]
        centred = middle + width * xp.asarray([offset for _, offset in index], a.dtype)
        yield (width / len(offsets)).prod(-1), xp.stack([b, other]), centred
