"""Kernels of estimators' formulas against the formulas in float64, on float32 numbers. Share: 25 s to compile.

Shapes are small, so that the same file passes as plain Python (NUMBA_DISABLE_JIT=1), which the last test does.
"""
import os
import subprocess
import sys

import numpy as np
import pytest

from npdvae import backends
from npdvae.backends import numba_formulas
from npdvae.estimators import aimle, arsm, darn, gapped_straight_through, reinmax_rao, smoothing, unordered_set
from npdvae.estimators.parts import (
    binary_tree,
    copula,
    distinct_codes,
    gumbel_noise,
    hard_codes,
    relaxation,
    score,
    second_argmax,
    surrogate,
)
from npdvae.latents import gamma, location_scale
from npdvae.priors import uniform as uniform_prior

f4, f8 = np.float32, np.float64
NUMPY, NUMBA = backends.load("numpy"), backends.load("numba")
EPS = float(np.finfo(f4).eps)
draw = np.random.default_rng(5)
MODULES = (gumbel_noise, relaxation, uniform_prior, binary_tree, distinct_codes, unordered_set, surrogate, score,
           copula, arsm, hard_codes, second_argmax, aimle, darn, gapped_straight_through, reinmax_rao, smoothing,
           location_scale, gamma)


def normal(*shape):
    return draw.normal(0, 2, shape)


def uniform(*shape):
    return draw.uniform(0.001, 0.999, shape)


def codes(*shape, K=3):
    return draw.integers(0, K, shape)


def log_p(*shape, scale=1.0):
    return NUMPY.log_softmax(scale * normal(*shape))


def coupled(K, sticks):
    """Arguments of `leaf_pair_backward` for a tree, and those of the functions before it."""
    x = normal(3, 2, K)
    left, right = binary_tree.stick_breaking(NUMPY, x) if sticks else binary_tree.balanced(np, K)
    a, slope = binary_tree.node_logits(NUMPY, x, left, right)
    return dict(stick_breaking=(np.round(x),), node_logits=(x, left, right),
                leaf_pair=(a, left, right, uniform(3, 2, K - 1)),
                leaf_pair_backward=(normal(3), codes(2, 3, 2, K=K), a, slope, left, right))


far = np.array([[[0, -80, -81, 1], [-200, 3, -120, 2.5]]])         # sides that underflow beside the largest
TREES = [coupled(K, sticks) for K, sticks in ((2, False), (5, False), (6, True))]
BEST = [log_p(2, 3, 3), log_p(2, 4, 2, scale=5.0)]
TIED = np.log(np.array([[[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]]))   # codes by twos and fours
SETS = [(p, distinct_codes.most_probable(NUMPY, p, n)[0]) for p in BEST for n in (1, 4, 7)]
SETS.append((BEST[0], np.concatenate([SETS[1][1][::-1], SETS[1][1][:1] * 0 + 2])))  # in another order
SETS.append((log_p(2, 1, 3), np.zeros((1, 2, 1), int)))             # the first category is gone
NET = normal(2, 5), normal(5), normal(5, 2), normal(2)

# name -> arguments behind ops; codes that are drawn must be equal
CASES = {
    "perturbed": [(normal(n, 2, K), uniform(S, n, 2, K)) for n, S, K in ((3, 1, 3), (70, 2, 5), (3, 1, 1))]
    + [(np.zeros((3, 2, 4)), np.full((1, 3, 2, 4), 0.5))],          # the first of equals
    "relaxed": [(normal(3, 2, 4), normal(S, 3, 2, 4), tau) for S, tau in ((1, 0.5), (3, np.array(1.3)))]
    + [(100 * np.round(normal(3, 2, 4)), np.round(normal(1, 3, 2, 4)), 0.5)],       # exp would overflow
    "relaxed_backward": [(normal(S, 3, 2, 4), NUMPY.softmax(normal(S, 3, 2, 4)), 0.7) for S in (1, 3)],
    "drawn": [(normal(n, 2, K), uniform(S, n, 2)) for n, K, S in ((3, 4, 1), (70, 2, 2), (3, 1, 2))]
    + [(np.zeros((3, 2, 2)), np.full((1, 3, 2), 0.5)),              # at an edge; beyond the last possible code
       (np.concatenate([normal(70, 2, 5), np.full((70, 2, 2), -300.0)], -1), np.full((1, 70, 2), 1 - 2 ** -24))],
    "taylor": [(NUMPY.softmax(normal(3, 2, 4)), codes(S, B, 2, K=4), normal(S, 3, 2, 4), uniform)
               for S, B, uniform in ((1, 3, True), (3, 3, False), (2, 1, True))],
    "gapped": [(normal(3, 2, K), codes(S, B, 2, K=K), gap, 0.7) for K, S, B, gap in (
        (4, 1, 3, 1.0), (4, 2, 1, 0.0), (4, 3, 3, 0.5), (1, 1, 3, 1.0))],
    "second_step": [(x * normal(3, 2, 4), x * normal(S, 3, 2, 4), x * normal(S, 3, 2, 4), codes(S, 3, 2, K=4))
                    for S, x in ((1, 1), (3, 1), (2, 0))],          # all equal: the first
    "log_midpoint": [(log_p(3, 2, 4, scale=scale), codes(S, B, 2, K=4)) for S, B, scale in ((1, 3, 1.0), (2, 1, 40.0))],
    "sizes": [(normal(3, 2, 4), normal(2, 3, 2, 4)), (0 * normal(3, 2, 4), normal(2, 3, 2, 4)),
              (normal(3, 2, 4), 0 * normal(2, 3, 2, 4))],
    "power_rows": [(uniform(3, 2), uniform(S, 3, 2), beta) for S, beta in ((1, 2.0), (4, np.array(1.3)))]
    + [(np.full((3, 2), 0.5), np.full((1, 3, 2), 0.5), 2.0)],       # u = p
    "bits_backward": [(normal(S, 3, 2, 2), normal(S, 3, 2)) for S in (1, 4)],
    "analytic_kl": [(normal(3, 2), normal(3, 2), 5 / 3, 1.6)],
    "moved": [(normal(3, 2), normal(3, 2), normal(S, 3, 2)) for S in (1, 3)],
    "variates": [(np.exp(normal(n, 2) / 2), uniform(S, n, 2)) for n, S in ((3, 1), (5, 4), (40, 1))]    # by 32
    + [(np.full((2, 2), a), np.array([[[2.0 ** -24, 0.3], [0.9, 1 - 2.0 ** -24]]])) for a in (0.5, 60.0, 900.0)],
    "posterior": [(normal(3, 2, 4),), (normal(70, 2, 3),), (40 * normal(2, 2, 5),)],
    "plus_kl_backward": [(normal(3, 2, 4), 0.7, floor, p, NUMPY.kl_uniform(p)) for p in (log_p(3, 2, 4), log_p(
        3, 2, 4, scale=30.0)) for floor in (0.0, 0.6)]
    + [(normal(3, 2, 4), 0.7, 0.5, log_p(3, 2, 4), np.full((3, 2), 0.5))],          # at the floor
    "conditional_gumbels": [(log_p(4, 2, 3), codes(2, 4, 2), uniform(2, 4, 2, 15)),
                            (log_p(2, 4, 2, 3), codes(2, 4, 2), uniform(2, 4, 2, 3)),
                            (log_p(1, 2, 3), codes(1, 1, 2), uniform(1, 1, 2, 15)),
                            (log_p(2, 3, scale=40.0), codes(1, 4, 2), uniform(1, 4, 2, 6))],
    "conditional_gumbels_backward": [(normal(2, 4, 2, 5, 3), log_p(4, 2, 3), codes(2, 4, 2), uniform(2, 4, 2, 15)),
                                     (normal(2, 4, 2, 1, 3), log_p(4, 2, 3), codes(2, 4, 2), uniform(2, 4, 2, 3)),
                                     (normal(1, 1, 2, 5, 3), log_p(1, 2, 3), codes(1, 1, 2), uniform(1, 1, 2, 15))],
    "conditional_straight_through": [
        (log_p(4, 2, 3), codes(2, 4, 2), uniform(2, 4, 2, 15), normal(2, 4, 2, 3), 0.5),
        *((log_p(4, 2, 3), codes(2, 4, 2), uniform(2, 4, 2, 6), normal(2, 4, 2, 3), tau) for tau in (1.3, 1.5)),
        (log_p(50, 1, 3), codes(2, 50, 1), uniform(2, 50, 1, 6), normal(2, 50, 1, 3), 0.5),
        (log_p(2, 4, 2, 3, scale=40.0), codes(2, 4, 2), uniform(2, 4, 2, 6), normal(2, 4, 2, 3), 30.0)],
    **{name: [tree[name] for tree in TREES] for name in TREES[0]},
    "node_logits": [*(tree["node_logits"] for tree in TREES), (far, *binary_tree.stick_breaking(NUMPY, far)),
                    (-far, *binary_tree.balanced(np, 4)), (far, *binary_tree.balanced(np, 4))],
    "leaf_pair": [*(tree["leaf_pair"] for tree in TREES),
                  (np.zeros((3, 2, 4)), *binary_tree.balanced(np, 5), np.full((3, 2, 4), 0.5))],    # at the edge
    "leaf_pair_backward": [*(tree["leaf_pair_backward"] for tree in TREES), *(
        (half, z, 100 * a, *more) for half, z, a, *more in (tree["leaf_pair_backward"] for tree in TREES))],
    "most_probable": [*((p, n) for p in BEST for n in (0, 1, 5, 100)), (TIED, 3), (TIED, 8)],
    "without_replacement": [(p, uniform(k, *p.shape)) for p in BEST for k in (1, 4, 30)],
    "log_outside": [pair for pair in SETS],
    "draw_outside": [(p, z, distinct_codes.log_outside(NUMPY, p, z)[1], uniform(*z.shape[1:])) for p, z in SETS],
    "chances": [(NUMPY.log_prob(p, z), distinct_codes.log_outside(NUMPY, p, z)[0]) for p, z in SETS[1:5]],
    "weighted_score": [(normal(4, 3), codes(4, n, 2, K=5), NUMPY.softmax(normal(3, 2, 5))) for n in (3, 1)],
    "antithetic_codes": [(scale * np.round(normal(3, 2, K)), uniform(M, 3, 2, K - 1))       # ties, and far apart
                         for K, M, scale in ((2, 2, 0.7), (5, 3, 0.7), (4, 5, 0.7), (4, 3, 60.0))],
    "pair_ratio": [(normal(3, 2, K), codes(4, n, 2, K=K), codes(4, n, 2, K=K), M)
                   for K, M, n in ((1, 2, 1), (2, 2, 3), (5, 3, 1), (6, 5, 3))] + [
                       (scale * normal(3, 2, K), codes(9, 3, 2, K=K), codes(9, 3, 2, K=K), M)
                       for K, M, scale in ((6, 5, 0.05), (6, 5, 80.0), (4, 3, 0.05))],      # or far apart
    "swapped_winners": [(noise, np.round(normal(30, 2, 3)), np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]]))
                        for noise in (normal(30, 2, 3), np.round(normal(30, 2, 3)))],     # ties: the first of equals
    "surrogate": [(normal(2, 3, 1), normal(2, 3, 4), *NET)],
    "surrogate_backward": [(normal(2, 1, 4, 2), normal(2, 3, 1), normal(2, 3, 4), *NET[:3]),
                           (normal(300, 2) / 30, normal(300), normal(300), *NET[:3]),   # sums of order one
                           (normal(3, 2), np.zeros(3), np.zeros(3), NET[0], 0 * NET[1], NET[2])],   # at the kink
}
PAIRS = [(name, i) for name, cases in CASES.items() for i in range(len(cases))]


def formula(name):
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


def cast(arguments, dtype):
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]


def parts(y):
    return list(y.values()) if isinstance(y, dict) else list(y) if isinstance(y, tuple) else [y]


def test_every_kernel_is_compared_under_the_name_of_a_formula():
    assert set(CASES) == set(numba_formulas.FORMULAS)


@pytest.mark.parametrize("name, i", PAIRS)
def test_numba_formula_agrees_with_numpy(name, i):
    """Both on the same float32 numbers; sums of at most 300 terms of a few functions, each off by 2 ulp."""
    single = cast(CASES[name][i], f4)
    assert NUMBA.kernel(name, single) is not None
    found, expected = (parts(formula(name)(ops, *arguments))
                       for ops, arguments in ((NUMBA, single), (NUMPY, cast(single, f8))))
    assert len(found) == len(expected)
    if name == "log_outside":                   # logs of zero are -1e30
        found, expected = map(np.exp, found), map(np.exp, expected)
    for y, x in zip(found, expected, strict=True):
        assert y.shape == x.shape and y.dtype == (f4 if x.dtype.kind == "f" else x.dtype)
        gap, largest = (np.abs(a).max(initial=0) for a in (1.0 * y - x, x))
        assert gap <= (60 * EPS * max(1.0, largest) if x.dtype.kind == "f" else 0), f"{name}: {gap:.2e}"


def test_kl_is_within_its_bounds():
    """Where rounding would lead out of them: near the uniform distribution, and at one category."""
    for scale, most in ((1e-4, 1e-6), (1e3, f4(np.log(3)))):
        _, kl = uniform_prior.posterior(NUMBA, (scale * normal(500, 2, 3)).astype(f4))
        assert 0 <= kl.min() and kl.max() <= most


def test_each_variate_is_as_near_as_its_own_size():
    """Shapes of seven orders at once; log g by its own size or 1, a slope by its own: some ulp."""
    alpha, u = np.exp(np.linspace(-7, 9, 66)).astype(f4).reshape(33, 2), uniform(2, 33, 2).astype(f4)
    found, expected = (gamma.variates(NUMBA, alpha, u), gamma.variates(NUMPY, alpha.astype(f8), u.astype(f8)))
    for y, x, least in zip(found, expected, (1, 0), strict=True):
        assert (np.abs(y - x) <= EPS * np.maximum(np.abs(x), least)).all()


@pytest.mark.parametrize("alpha", [60, 500])
def test_a_variate_far_below_its_mean_takes_the_terms_that_it_needs(alpha):
    """With none beside it that needs more."""
    alpha, u = np.full((1, 1), alpha, f4), np.full((1, 1, 1), 2.0 ** -24, f4)
    for y, x in zip(gamma.variates(NUMBA, alpha, u), gamma.variates(NUMPY, alpha.astype(f8), u), strict=True):
        assert abs(y - x) <= EPS * abs(x)


def test_variates_of_shapes_without_bound_are_nan_and_leave_the_others_alone():
    alpha, u = np.float32([[0.5, np.nan, np.inf, 1.01e8, 7]]), np.full((1, 1, 5), 0.3, f4)
    found = gamma.variates(NUMBA, alpha, u)
    alone = gamma.variates(NUMBA, alpha[:, [0, 4]], u[..., [0, 4]])
    for y, x in zip(found, alone, strict=True):
        assert np.isnan(y[..., 1:4]).all() and np.array_equal(y[..., [0, 4]], x)


@pytest.mark.parametrize("name", CASES)
def test_other_types_and_backends_take_the_formula(name):
    arguments = CASES[name][0]
    assert NUMPY.kernel(name, cast(arguments, f4)) is None and NUMBA.kernel(name, arguments) is None
    found, expected = (parts(formula(name)(ops, *arguments)) for ops in (NUMBA, NUMPY))
    for y, x in zip(found, expected, strict=True):
        assert np.abs(1.0 * y - x).max(initial=0) <= 1e-13 * max(1.0, np.abs(x).max(initial=0))


def test_kernels_of_formulas_pass_as_plain_python():
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        pytest.skip("this is the run without compiling")
    subprocess.run([sys.executable, "-m", "pytest", "-q", __file__], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
