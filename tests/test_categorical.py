"""Categorical variables: sampling laws, one-hot rows, log-probability. Share: 3 s."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npdvae.ops.categorical import gumbel_max, inverse_cdf, log_prob, log_prob_backward, one_hot
from npdvae.ops.gumbel import gumbel
from npdvae.ops.softmax import log_softmax, softmax
from npdvae.verify import check_adjoint
from tests.checks import DTYPES, check_dtypes, close

RNG = np.random.default_rng(4)
SMALLEST, LARGEST = 2.0 ** -24, 1 - 2.0 ** -24  # of the uniforms of npdvae.rng


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_inverse_cdf_gives_each_category_its_share(dtype):
    p = np.array([[0.125, 0, 0.5, 0.375, 0], [0, 0.25, 0.25, 0, 0.5]], dtype)
    u = ((np.arange(800) + 0.5) / 800).astype(dtype)                # an even grid: counts are exact
    codes = inverse_cdf(p, np.stack([u, u], 1))                     # [800, 2]
    counts = np.stack([np.bincount(codes[:, i], minlength=5) for i in range(2)])
    assert (counts == 800 * p).all()


def test_inverse_cdf_compares_with_the_edges_below():
    p = np.array([0.25, 0.5, 0.25])
    u = np.array([0.25 - 1e-12, 0.25, 0.75 - 1e-12, 0.75])
    assert inverse_cdf(np.tile(p, (4, 1)), u).tolist() == [0, 1, 1, 2]


def test_inverse_cdf_where_rounded_sums_fall_below_the_largest_uniform():
    p = softmax(3 * RNG.normal(size=(20_000, 16)).astype(np.float32))
    short = np.cumsum(p, -1)[:, -1] <= np.float32(LARGEST)
    assert 0.2 < short.mean() < 0.6             # the trap is there: comparing with K edges would return K
    codes = inverse_cdf(p, np.full(len(p), LARGEST, np.float32))
    assert codes.max() == 15 and (p[np.arange(len(p)), codes] > 0).all()
    for last in (14, 13, 12):                   # and now last categories that cannot be drawn
        p[:, last + 1:] = 0
        p /= p.sum(-1, keepdims=True)
        codes = inverse_cdf(p, np.full(len(p), LARGEST, np.float32))
        assert codes.max() == last and (p[np.arange(len(p)), codes] > 0).all()


@given(st.data(), st.sampled_from(DTYPES[:2]))
def test_inverse_cdf_never_returns_a_category_of_probability_zero(data, dtype):
    K = data.draw(st.integers(1, 6))
    weights = data.draw(arrays(dtype, (4, K), elements=st.sampled_from([0, 1e-30, 1e-8, 0.1, 1, 3])))
    weights[:, data.draw(st.integers(0, K - 1))] += 1
    p = weights / weights.sum(-1, keepdims=True)
    edges = np.cumsum(p, -1)
    for u in (np.full(4, SMALLEST), np.full(4, LARGEST), *np.clip(edges, SMALLEST, LARGEST).T):
        codes = inverse_cdf(p, u.astype(dtype))
        assert (p[np.arange(4), codes] > 0).all()


def test_inverse_cdf_broadcasts_over_samples_and_takes_one_category():
    p, u = softmax(RNG.normal(size=(3, 2, 5))), RNG.random((4, 3, 2))
    codes = inverse_cdf(p, u)
    assert codes.shape == (4, 3, 2) and codes.dtype.kind == "i"
    for s, b, d in np.ndindex(codes.shape):
        assert codes[s, b, d] == inverse_cdf(p[b, d], u[s, b, d])
    assert not inverse_cdf(np.ones((3, 1)), u[:, :, 0]).any()


def test_gumbel_max_has_the_law_of_softmax():
    logits = np.array([0.5, -1.0, 0.0, -np.inf])
    g = gumbel((RNG.permuted(np.tile(np.arange(20_000), (4, 1)), axis=1).T + 0.5) / 20_000)   # stratified
    codes = gumbel_max(logits, g)
    share = np.bincount(codes, minlength=4) / 20_000
    p = np.exp(logits) / np.exp(logits).sum()
    close(share, p, 5 * np.sqrt(0.25 / 20_000), 1)                  # five standard deviations
    assert (codes == np.array([max(range(4), key=lambda k: logits[k] + row[k]) for row in g])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_marks_the_code(dtype):
    codes = np.array([[0, 2], [1, 1]])
    rows = one_hot(codes, 3, dtype)
    assert rows.dtype == dtype and rows.shape == (2, 2, 3)
    assert rows.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]]


def test_log_prob_sums_the_chosen_rows():
    log_p, codes = log_softmax(RNG.normal(size=(3, 2, 4))), RNG.integers(0, 4, (5, 3, 2))
    got = log_prob(log_p, codes)
    for s, b in np.ndindex(got.shape):
        close(got[s, b], sum(log_p[b, d, codes[s, b, d]] for d in range(2)), 1e-15)
    prior = log_p[0]                            # [D, K], shared by all examples
    close(log_prob(prior, codes)[1, 2], sum(prior[d, codes[1, 2, d]] for d in range(2)), 1e-15)


def test_log_prob_backward_is_the_adjoint():
    log_p, codes = log_softmax(RNG.normal(size=(3, 2, 4))), RNG.integers(0, 4, (5, 3, 2))
    check_adjoint(lambda lp: log_prob(lp, codes), lambda v: log_prob_backward(v, codes, 4).sum(0), log_p)
    v = RNG.normal(size=(5, 3))
    rows = log_prob_backward(v, codes, 4)       # [S, B, D, K]
    for s, b, d, k in np.ndindex(rows.shape):
        assert rows[s, b, d, k] == v[s, b] * (codes[s, b, d] == k)


def test_categorical_keeps_types():
    codes = RNG.integers(0, 4, (5, 3, 2))
    check_dtypes(lambda t: [log_prob(log_softmax(np.zeros((3, 2, 4), t)), codes),
                            log_prob_backward(np.ones((5, 3), t), codes, 4)])


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_log_prob_agrees_with_torch(torch, dtype, tolerance):
    logits, codes = RNG.normal(size=(3, 2, 4)).astype(dtype), RNG.integers(0, 4, (5, 3, 2))
    v = RNG.normal(size=(5, 3)).astype(dtype)
    t = torch.tensor(log_softmax(logits), requires_grad=True)
    expected = torch.gather(t.expand(5, 3, 2, 4), -1, torch.tensor(codes)[..., None])[..., 0].sum(-1)
    expected.backward(torch.tensor(v))
    close(log_prob(log_softmax(logits), codes), expected.detach().numpy(), tolerance)
    close(log_prob_backward(v, codes, 4).sum(0), t.grad.numpy(), tolerance)
