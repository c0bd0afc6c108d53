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


def tiled(p, samples):
    """The problem of so many copies of example 0."""
    logits, context = (np.repeat(x[:1], samples, 0) for x in (p.logits, p.context))
    return p._replace(logits=logits, context=context, cost=Tiled(p.cost))


def draws(p, samples):
    """The names of draws for copies of example 0, all in one batch."""
    p = tiled(p, samples)
    draw = p.draw(Generator(11))
    return keys(draw, p.backward(draw), p.estimator.name)


def estimates(p, samples):
    """Estimates for copies of example 0, all in one batch: [N, D, K]."""
    p = tiled(p, samples)
    return p.backward(p.draw(Generator(12)))


def assert_mean(values, mean, name):
    """Fail where the mean of values [N, ...] is not their expectation [...].

    7 standard errors: the chance is below 3e-12 for each coordinate were the mean normal.
    """
    error, bound = np.abs(values.mean(0) - mean), 7 * values.std(0) / np.sqrt(len(values)) + 1e-12
    assert (error <= bound).all(), (f"sampler of {name}: the mean of {len(values)} draws is "
                                    f"{(error / bound).max():.1f} times as far off as chance allows")


def assert_hard_codes(p, samples):
    """Fail where the rows of positive weight are not hard codes from softmax(logits)."""
    categories, many = p.logits.shape[-1], tiled(p, samples)
    draw = many.draw(Generator(13))
    weights = many.estimator.weigh(draw, many.cost(draw.codes))     # [S, N or 1]
    table = code_table(p.logits[0])
    for row, weight in zip(draw.codes, weights):
        if not (weight > 0).any():
            continue
        codes = row if row.ndim == 2 else row.argmax(-1)            # [N, D]
        assert row.ndim == 2 or (row == np.eye(categories)[codes]).all(), "relaxed rows train the decoder"
        found = log_evidence(table, [tuple(code) for code in codes.tolist()])
        assert found < -math.log(ALPHA), f"sampler of {p.estimator.name}: log e-value {found:.1f}"


def code_table(logits):
    """Probability of every code: logits [D, K] -> {code: probability}."""
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)      # [D, K]
    return {code: float(np.prod([q[d, k] for d, k in enumerate(code)])) for code in np.ndindex(*[q.shape[1]] * len(q))}


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
