"""Finite noise, enumerated: the codes of D latents, tuples of them, and their exact probabilities."""
import itertools
from typing import Any

MOST_CODES = 2 ** 20                            # K**D: more are never enumerated


def all_codes(xp, latents, categories):
    """Every code, last latent fastest: int [K**D, D]."""
    grid = xp.indices((categories,) * latents)                      # [D, K, ..., K]
    return grid.reshape(latents, -1).T                              # [K**D, D]


def codes_log_prob(ops, logits, codes):
    """log q of shared codes: logits [B, D, K], codes int [C, D] -> [C, B], in nats."""
    log_p = ops.log_softmax(logits)                                 # [B, D, K]
    total: Any = 0
    for d in range(codes.shape[1]):
        total = total + log_p[:, d, codes[:, d]]                    # [B, C]
    return total.T                                                  # [C, B]


def code_tuples(ops, logits, samples):
    """Independent samples: (probability [B], codes int [S, 1, D]) for all K**(D S) tuples, the same codes for all b."""
    _, D, K = logits.shape
    codes = all_codes(ops.xp, D, K)                                 # [C, D]
    p = ops.xp.exp(codes_log_prob(ops, logits, codes))              # [C, B]
    for index in itertools.product(range(len(codes)), repeat=samples):
        yield p[list(index)].prod(0), codes[list(index)][:, None]   # [B], [S, 1, D]


def joint_code_tuples(ops, logits, samples):
    """The same with different codes for each example: (probability [B], all equal; codes int [S, B, D])."""
    B, D, K = logits.shape
    codes = all_codes(ops.xp, D, K)                                 # [C, D]
    p = ops.xp.exp(codes_log_prob(ops, logits, codes))              # [C, B]
    for index in itertools.product(range(len(codes)), repeat=samples * B):
        index = ops.xp.asarray(index).reshape(samples, B)
        joint = ops.xp.take_along_axis(p, index, 0).prod()          # ()
        yield ops.xp.broadcast_to(joint, (B,)), codes[index]        # [B], [S, B, D]


def coupled_tuples(xp, joint):
    """Samples coupled within each latent: joint [B, D, K, ..., K] (S axes of K) -> (probability [B], codes [S, 1, D]).

    Tuples of probability zero for the whole batch are left out.
    """
    B, D, *axes = joint.shape
    flat = joint.reshape(B, D, -1)                                  # [B, D, K**S]
    digits = all_codes(xp, len(axes), axes[0])                      # [K**S, S]
    possible = [[i for i in range(len(digits)) if (flat[:, d, i] > 0).any()] for d in range(D)]
    for index in itertools.product(*possible):
        probability = flat[:, xp.arange(D), xp.asarray(index)].prod(-1)     # [B]
        if (probability > 0).any():
            yield probability, digits[list(index)].T[:, None]       # [B], [S, 1, D]


def draw_log_prob(ops, draw):
    """log q of the hard codes of a draw: codes int [S, B or 1, D] -> [S, B], in nats."""
    S, _, D = draw.codes.shape
    codes = ops.xp.broadcast_to(draw.codes, (S, len(draw.logits), D))
    return ops.log_prob(ops.log_softmax(draw.logits), codes)
