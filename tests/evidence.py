"""Frequencies of `sample()` against `outcomes()`: one e-value, evidence that multiplies whatever one looks at first."""
import collections
import math

import numpy as np

from npdvae.rng import Generator

ALPHA = 1e-9                                                        # chance that a right sampler fails
CELLS = ("arm", "arsm")     # backward varies within an outcome's cell: only codes can be compared, means elsewhere


def assert_frequencies(p, samples):
    """Fail where the draws of example 0 do not have the probabilities that the outcomes say.

    A draw is known by its codes, in their order, and by the dlogits that it gives; by the codes alone if backward
    varies within the cells of the estimator's enumeration (CELLS).
    """
    name, table = p.estimator.name, collections.Counter()
    for probability, draw in p.outcomes():
        if probability[0] > 0:
            table[keys(draw, p.backward(draw)[:1], name)[0]] += float(probability[0])
    seen = coupled_draws(p, samples // 10) if p.estimator.couples_batch else draws(p, samples)
    missing = set(seen) - set(table)
    assert not missing, f"sampler of {name} drew {len(missing)} outcomes that outcomes() does not list"
    found = log_evidence(table, seen)
    assert found < -math.log(ALPHA), f"sampler of {name} contradicts its outcomes(): log e-value {found:.1f}"


def keys(draw, dlogits, name):
    """A name of what each of the first B examples drew: dlogits [B, D, K] -> B strings of bytes."""
    B = len(dlogits)
    rows = draw.codes[:, :B] if draw.codes.shape[1] > 1 else np.broadcast_to(
        draw.codes, (len(draw.codes), B, *draw.codes.shape[2:]))    # [S, B, ...]
    codes = np.moveaxis(rows, 1, 0).reshape(B, -1).astype(np.float64)
    values = codes if name in CELLS else np.concatenate([codes, dlogits.reshape(B, -1)], 1)
    return [row.tobytes() for row in rounded(values)]


def rounded(x):
    """Six decimals, no negative zero: equal for values from different orders of summation."""
    return np.round(x, 6) + 0.0


class Tiled:
    """The cost of example 0 for any number of examples."""

    def __init__(self, cost):
        self.cost = cost

    def __call__(self, codes):
        S, B = codes.shape[:2]
        return self.cost(codes.reshape(S * B, 1, *codes.shape[2:]))[:, 0].reshape(S, B)

    def gradient(self, codes):
        S, B = codes.shape[:2]
        g = self.cost.gradient(codes.reshape(S * B, 1, *codes.shape[2:]))[:, 0]
        return g.reshape(S, B, *g.shape[1:])                        # [S, B, D, K]


def draws(p, samples):
    """The names of draws for copies of example 0, all in one batch."""
    logits, context = (np.repeat(x[:1], samples, 0) for x in (p.logits, p.context))
    p = p._replace(logits=logits, context=context, cost=Tiled(p.cost))
    draw = p.draw(Generator(11))
    return keys(draw, p.backward(draw), p.estimator.name)


def coupled_draws(p, samples):
    """The names of example 0's draws beside the others of its batch, one batch after the other."""
    drawn = (p.draw(Generator(seed)) for seed in range(samples))
    return [keys(draw, p.backward(draw)[:1], p.estimator.name)[0] for draw in drawn]


def log_evidence(table, seen):
    """log of prod_t q_t(x_t) / p(x_t), q_t the Jeffreys estimate from the draws before t: an e-value for p."""
    counts, total = collections.Counter(), 0.0
    for t, key in enumerate(seen):
        total += math.log((counts[key] + 0.5) / (t + 0.5 * len(table))) - math.log(table[key])
        counts[key] += 1
    return total
