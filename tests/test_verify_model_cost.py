"""The cost of a trained decoder: every code of every image, one at a time; its tables, its chunks. Share: 0.5 s."""
import functools
from unittest import mock

import numpy as np
import pytest

from npdvae import backends, rng
from npdvae.estimators.parts.outcomes import all_codes
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.verify import model_cost
from npdvae.verify.model_cost import ModelCost

OPS = backends.load("numpy")
B, D, K, S, P = 3, 2, 4, 5, 10


@functools.cache
def parts(dtype=np.float64, activation="relu"):
    """A model, its parameters (far from the symmetric start) and three images."""
    model = DiscreteVAE(P, (7, 6), Categorical(D, K, "exact", prior="learned"), activation=activation)
    noise = np.random.default_rng(4)
    params = {k: (2 * v + 0.5 * noise.normal(size=v.shape)).astype(dtype) for k, v in
              model.init(rng.Generator(3, rng.INIT), dtype).items()}
    return model, params, noise.integers(0, 2, (B, P)).astype(dtype)


def codes_of(kind):
    noise = np.random.default_rng(5)
    return {"hard": noise.integers(0, K, (S, B, D)), "shared": noise.integers(0, K, (S, 1, D)),
            "relaxed": noise.dirichlet(np.ones(K), size=(S, B, D))}[kind]


def rows_of(codes):
    return np.broadcast_to(np.eye(K)[codes], (S, B, D, K)) if codes.ndim == 3 else codes


def direct(rows, model, params, x):
    """-log p(x | rows) [S, B], through the decoder's layers one code and image at a time."""
    found = np.empty((len(rows), B))
    for s, b in np.ndindex(found.shape):
        logits = model.decode(params, rows[s, b])[0]
        found[s, b] = sum(np.logaddexp(0, -l if pixel else l) for l, pixel in zip(logits, x[b]))
    return found


@pytest.mark.parametrize("tabulate", [True, False])
@pytest.mark.parametrize("kind", ["hard", "shared", "relaxed"])
def test_model_cost_is_the_models(kind, tabulate):
    cost, codes = ModelCost(*parts(), tabulate), codes_of(kind)
    expected = direct(rows_of(codes), *parts())
    for _ in range(2):                                              # the second time from the table, where there is one
        got = cost(codes)
        assert got.shape == (S, B) and got.dtype == np.float64
        assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("tabulate", [True, False])
@pytest.mark.parametrize("kind", ["hard", "shared", "relaxed"])
def test_its_gradient_is_the_slope(kind, tabulate, activation):
    these = parts(activation=activation)
    cost, rows = ModelCost(*these, tabulate), rows_of(codes_of(kind))
    v, h = np.random.default_rng(6).normal(size=rows.shape), 1e-6   # no kink of a ReLU lies that near
    slope = (direct(rows + h * v, *these) - direct(rows - h * v, *these)) / (2 * h)
    for _ in range(2):
        got = cost.gradient(codes_of(kind))
        assert got.shape == (S, B, D, K) and got.dtype == np.float64
        assert np.abs((got * v).sum((2, 3)) - slope).max() <= 1e-7 * np.abs(slope).max()


@pytest.mark.parametrize("tabulate", [True, False])
def test_single_precision_models_are_served_in_theirs(tabulate):
    cost, exact = ModelCost(*parts(np.float32), tabulate), ModelCost(*parts(), tabulate)
    for kind in ("hard", "shared", "relaxed"):
        for got, expected in ((cost(codes_of(kind)), exact(codes_of(kind))),
                              (cost.gradient(codes_of(kind)), exact.gradient(codes_of(kind)))):
            assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
            if tabulate and kind != "relaxed":
                assert got.dtype == np.float64                      # of which many are to be summed
            if kind == "relaxed":
                assert got.dtype == np.float32


def test_the_prior_adds_its_log_probability():
    model, params, x = parts()
    log_prior = model.latent.prior.log_rows(params)                      # [D, K]
    plain = ModelCost(model, params, x)
    joint = plain.with_prior(log_prior)
    codes = all_codes(np, D, K)[:, None]                            # [16, 1, D]
    expected = np.array([-sum(log_prior[d, k] for d, k in enumerate(code[0])) for code in codes])
    assert np.abs(joint(codes) - plain(codes) - expected[:, None]).max() <= 1e-12
    assert abs(np.exp(-expected).sum() - 1) <= 1e-12
    rows = np.eye(K)[np.broadcast_to(codes, (16, B, D))]
    assert np.abs(joint(rows) - joint(codes)).max() <= 1e-10
    assert np.abs(joint.gradient(rows) - plain.gradient(rows) + log_prior).max() <= 1e-12
    assert np.abs(joint.gradient(rows) - joint.gradient(codes)).max() <= 1e-10


def test_tables_are_made_once_and_the_prior_shares_them():
    model, params, x = parts()
    plain = ModelCost(model, params, x)
    joint = plain.with_prior(model.latent.prior.log_rows(params))
    plain(codes_of("hard"))
    plain.gradient(codes_of("shared"))
    with mock.patch.object(model, "decode", None):                  # no decoder is asked again
        for cost in (plain, joint):
            for kind in ("hard", "shared"):
                cost(codes_of(kind)), cost.gradient(codes_of(kind))


@pytest.mark.parametrize("room, tabulated", [(0, True), (-1, False)])
def test_a_table_of_gradients_that_would_be_too_large_is_not_made(room, tabulated):
    cost = ModelCost(*parts())
    with mock.patch.object(model_cost, "MOST_BYTES", K ** D * B * D * K * 4 + room):    # in single precision
        expected = ModelCost(*parts(), tabulate=False).gradient(codes_of("hard"))
        assert np.abs(cost.gradient(codes_of("hard")) - expected).max() <= 1e-12 * np.abs(expected).max()
    assert (cost.gradients is not None) == tabulated


@pytest.mark.parametrize("limit, tabulate, kind, want, calls", [
    (48, True, "hard", "cost", [3, 3, 3, 3, 3, 1]), (47, True, "shared", "gradient", [2] * 8),
    (2, False, "shared", "cost", [2, 2, 1]), (6, False, "shared", "gradient", [2, 2, 1]),
    (7, False, "hard", "cost", [6, 6, 3]), (7, False, "relaxed", "gradient", [6, 6, 3]),
    (1, False, "hard", "gradient", [3] * 5), (1, False, "shared", "gradient", [1] * 5)])
def test_the_decoder_is_given_so_many_rows_at_a_time(limit, tabulate, kind, want, calls):
    """At most `limit`; a sixteenth of it for tables and a B-th for gradients of shared codes, which meet all images."""
    model, params, x = parts()
    whole, cost = ModelCost(model, params, x, tabulate), ModelCost(model, params, x, tabulate)
    evaluate = (lambda c: c(codes_of(kind))) if want == "cost" else (lambda c: c.gradient(codes_of(kind)))
    expected, seen, decode = evaluate(whole), [], model.decode

    def watched(params, codes):
        seen.append(codes.shape[0] * codes.shape[1])
        return decode(params, codes)

    with mock.patch.object(model_cost, "ROWS", limit), mock.patch.object(model, "decode", watched):
        assert np.abs(evaluate(cost) - expected).max() <= 1e-13 * np.abs(expected).max()
    assert seen == calls
