"""Sums over outcomes and blocks of estimates, against loops over one outcome or one copy at a time. Share: 0.3 s."""
import importlib
import math
from unittest import mock

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.base import Draw
from npdvae.estimators.rloo import RLOO
from npdvae.rng import Generator
from npdvae.verify import costs
from npdvae.verify.moments import Sums, enumerate_moments, exact_sum, prepared, wanted_gradient
from npdvae.verify.sampling import blocks_of, estimate, leaks, repeat, tiled

LOGITS = np.random.default_rng(1).normal(size=(2, 2, 3))            # [B, D, K]
COST = costs.make("decoder", 2, 2, 2, 3)
MODULE = importlib.import_module("npdvae.verify.moments")            # of the package's attributes it is the function


@pytest.mark.parametrize("chunk, impossible", [(1, 4), (4, 4), (1024, 4), (4, 0)])
def test_sums_are_the_moments_of_a_table(chunk, impossible):
    rng = np.random.default_rng(0)
    p, g = rng.dirichlet(np.ones(9), size=2).T, rng.normal(size=(9, 2, 3)) + 50        # [N, B], [N, B, D K]
    p[impossible, 1], g[impossible, 1] = 0, np.inf                  # cannot happen for the second example
    p /= p.sum(0)
    sums = Sums(2, 3)
    with mock.patch.object(MODULE, "CHUNK", chunk):
        for probability, value in zip(p, g):
            sums.add(probability, value)
        assert len(sums.parts) == 9 // chunk                        # summed as they fill, so that memory is bounded
        found = sums.finish((2, 1, 3), "some")
    for b in range(2):
        rows = [n for n in range(9) if p[n, b] > 0]
        mean = sum(p[n, b] * g[n, b] for n in rows)
        covariance = sum(p[n, b] * np.outer(g[n, b] - mean, g[n, b] - mean) for n in rows)
        assert abs(found.total[b] - math.fsum(p[rows, b])) <= 1e-15
        assert np.abs(found.mean[b, 0] - mean).max() <= 1e-13
        assert np.abs(found.scale[b, 0] - sum(p[n, b] * abs(g[n, b]) for n in rows)).max() <= 1e-13
        # values are centred by the first outcome; where that one cannot happen, squares of 50 are summed
        assert np.abs(found.covariance[b] - covariance).max() <= (1e-12 if impossible else 1e-11)
        assert np.array_equal(found.variance()[b, 0], np.diagonal(found.covariance[b]))
        assert np.array_equal(found.low[b, 0], g[rows, b].min(0))
        assert np.array_equal(found.high[b, 0], g[rows, b].max(0))
    assert found.outcomes == 9


def test_scale_is_that_of_the_absolute_values():
    sums = Sums(1, 1)
    for value in (-3.0, 1.0):
        sums.add(np.array([0.5]), np.array([[value]]))
    found = sums.finish((1, 1, 1), "some")
    assert (found.mean, found.scale, found.covariance, found.low, found.high) == (-1, 2, 4, -3, 1)


def test_a_small_variance_about_a_large_mean_is_not_lost():
    """Squares of 1e8 hold no digit of 1e-4: the values are centred first."""
    sums = Sums(1, 1)
    for value in (1e8, 1e8 + 2e-2):
        sums.add(np.array([0.5]), np.array([[value]]))
    assert abs(sums.finish((1, 1, 1), "some").covariance[0, 0, 0] / 1e-4 - 1) <= 1e-5   # 1e8 is known to 1.5e-8


def test_nothing_to_sum_is_said():
    with pytest.raises(ValueError, match="estimator some: outcomes.. yielded nothing of positive probability"):
        Sums(1, 2).finish((1, 1, 2), "some")


def test_exact_sums_lose_no_term():
    arrays = [np.array([[1e16, 2.0]]), np.array([[1.0, -0.5]]), np.array([[-1e16, 0.25]])]
    assert np.array_equal(exact_sum(arrays), [[1.0, 1.75]])


def test_moments_do_not_depend_on_the_chunks():
    whole = enumerate_moments(RLOO(samples=2), LOGITS, COST)
    with mock.patch.object(MODULE, "CHUNK", 10):
        parts = enumerate_moments(RLOO(samples=2), LOGITS, COST)
    assert whole.outcomes == parts.outcomes == 81
    for a, b in zip(whole, parts):
        assert np.abs(a - b).max() <= 1e-14 * np.abs(a).max()


class Stateful(RLOO):
    """Reads its state and context, counts an outcome that cannot happen, has probabilities in a list."""

    def init(self, rng, latents, categories, context_size=0):
        return {"size": np.array([context_size])}

    def outcomes(self, logits, state=None, context=None):
        assert logits.dtype == np.float64 and state["size"] == context.shape[1]
        for probability, draw in super().outcomes(logits):
            yield probability.tolist(), draw
            yield [0.0, 0.0], None


def test_what_is_enumerated_is_prepared_first():
    expected = enumerate_moments(RLOO(samples=2), LOGITS, COST)
    found = enumerate_moments(Stateful(samples=2), LOGITS.tolist(), COST)
    assert np.array_equal(found.mean, expected.mean) and found.outcomes == expected.outcomes == 81


def test_a_gradient_is_handed_over_where_it_is_read_and_asked_for_where_it_is_missing():
    assert wanted_gradient(RLOO(samples=2), COST.gradient) is None
    assert wanted_gradient(estimators.get("reinmax"), COST.gradient) == COST.gradient
    with pytest.raises(ValueError, match="reinmax reads the gradient of the cost"):
        wanted_gradient(estimators.get("reinmax"), None)


def test_state_and_context_are_the_callers_or_the_first_and_a_fixed_one():
    estimator = estimators.get("reinforce", baseline="nvil")
    state, context = prepared(estimator, LOGITS)
    again = prepared(estimator, LOGITS)[1]
    assert np.array_equal(context, again) and context.shape[0] == 2 and len(np.unique(context)) == context.size
    first = estimator.init(Generator(1), 2, 3, context.shape[1])
    assert all(np.array_equal(state[k], first[k]) for k in first)
    mine, other = {"a": 1}, np.zeros((2, 7))
    assert prepared(estimator, LOGITS, mine, other) == (mine, other)
    started, _ = prepared(estimator, LOGITS, None, other)
    assert all(started[k].shape == v.shape for k, v in estimator.init(Generator(1), 2, 3, 7).items())


def copies(draw, t):
    """The draw of copy t of a batch of two."""
    cut = slice(2 * t, 2 * t + 2)
    kept = {k: v[cut] if np.shape(v)[:1] == (6,) else v for k, v in draw.kept.items()}
    return Draw(draw.codes[:, cut], draw.logits[cut], kept)


@pytest.mark.parametrize("name", ["rloo", "reinmax", "muprop"])
def test_copies_of_a_batch_are_estimated_as_each_would_be(name):
    estimator = estimators.get(name)
    state, context = prepared(estimator, LOGITS)
    draw = estimator.sample(repeat(LOGITS, 3), Generator(5), state, repeat(context, 3))
    gradient = wanted_gradient(estimator, COST.gradient)
    found = estimate(estimator, draw, COST, gradient, 2, 3, state)  # [3 B, D, K]
    assert np.array_equal(repeat(LOGITS, 3)[2:4], LOGITS)
    for t in range(3):
        one = copies(draw, t)
        alone = estimator.backward(one, COST(one.codes), gradient and gradient(one.codes), state)
        assert np.abs(found[2 * t:2 * t + 2] - alone).max() <= 1e-13 * np.abs(alone).max()


def test_codes_shared_by_a_batch_are_evaluated_once():
    codes = np.array([[[0, 1]], [[2, 2]]])                          # [S, 1, D]
    assert np.array_equal(tiled(COST, codes, 2, 3), np.concatenate([COST(codes)] * 3, 1))
    assert np.array_equal(tiled(COST.gradient, codes, 2, 2), np.concatenate([COST.gradient(codes)] * 2, 1))


class Watched(RLOO):
    """Notes how many examples it is given."""

    def sample(self, logits, rng, state=None, context=None):
        assert len(context) == len(logits)
        self.seen.append(len(logits))
        return super().sample(logits, rng)


@pytest.mark.parametrize("tile, block, coupled, calls, rows", [
    (None, 5, False, [10], 5), (2, 5, False, [4, 4, 4], 6), (3, 6, False, [6, 6], 6), (4, 3, True, [2, 2, 2], 3)])
def test_a_block_is_drawn_a_tile_of_copies_at_a_time(tile, block, coupled, calls, rows):
    estimator = Watched(samples=2)
    estimator.couples_batch, estimator.seen = coupled, []
    blocks = blocks_of(estimator, LOGITS, Generator(3), COST, tile=tile, block=block)
    assert next(blocks).shape == (rows, 12)
    del estimator.seen[:-len(calls)]                                # the first draw asks whether the batch leaks
    assert estimator.seen == calls
    next(blocks)
    assert estimator.seen == 2 * calls


def test_blocks_are_estimates_of_the_batch_row_by_row():
    blocks = blocks_of(RLOO(samples=2), LOGITS, Generator(3), COST, tile=4, block=4)
    draw = RLOO(samples=2).sample(repeat(LOGITS, 4), Generator(3))
    expected = estimate(RLOO(samples=2), draw, COST, None, 2, 4, None).reshape(4, 12)
    assert np.array_equal(next(blocks), expected)


@pytest.mark.parametrize("tile, block, calls", [(None, 3, [2, 2, 2]), (2, 3, [4, 4])])
def test_a_callable_is_given_one_batch_or_the_tile_that_was_asked_for(tile, block, calls):
    seen = []

    def mine(logits, rng):
        seen.append(len(logits))
        return 10 * len(seen) + logits

    found = next(blocks_of(mine, LOGITS, Generator(0), tile=tile, block=block))
    assert seen == calls and found.shape == (len(calls) * (tile or 1), 12)
    for i, row in enumerate(found):
        assert np.array_equal(row, (10 * (i // (tile or 1) + 1) + LOGITS).ravel())


class Leaky(RLOO):
    """One entry reads the cost of the example after it, or its gradient."""

    needs_dcodes = True
    by_gradient = False

    def backward(self, draw, cost, dcodes=None, state=None):
        other = np.roll(dcodes, -1, 1).sum((0, 2, 3)) if self.by_gradient else np.roll(cost, -1, 1).sum(0)
        estimate = super().backward(draw, cost)
        estimate[:, 0, 0] += 1e-9 * other
        return estimate


@pytest.mark.parametrize("by_gradient", [True, False])
def test_an_example_that_reads_the_next_one_leaks(by_gradient):
    estimator = Leaky(samples=2)
    estimator.by_gradient = by_gradient
    assert leaks(estimator, LOGITS, COST, COST.gradient) is True
    alone = costs.make("decoder", 2, 1, 2, 3)                       # a copy of a single example is another example
    assert leaks(estimators.get("reinforce", baseline="batch_leave_one_out"), LOGITS[:1], alone)


class Rounding(RLOO):
    """Multiplies by a mean over the batch and divides by it again; one entry is always zero."""

    sign = 1

    def backward(self, draw, cost, dcodes=None, state=None):
        mean, estimate = 1 + cost.mean(), self.sign * abs(super().backward(draw, cost))
        estimate[:, 0, 0] = 0
        return estimate * mean / mean


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_in_another_order_are_no_leak(scale, sign):
    estimator = Rounding(samples=4)
    estimator.sign = sign
    assert leaks(estimator, LOGITS, lambda codes: scale * COST(codes)) is False
    assert leaks(estimators.get("muprop"), LOGITS, COST, COST.gradient) is False
