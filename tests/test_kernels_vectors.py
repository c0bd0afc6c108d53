"""Each matrix tile of explicit vectors against its plain twin, for both tile shapes. Share: 15 s, mostly compiling."""
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from npdvae.kernels.cpu import jobs, philox_vectors, subset_sums, sync, target, vectors
from npdvae.kernels.cpu.compiler import CONTRACT, kernel
from tests.kernels import from_python

SIZE = 20_000
TOLERANCE = 1e-6                                # sums of at most 40 products of numbers below 4, rounded in another way


def compiled(function, module=vectors):
    """A kernel that does nothing but call an intrinsic with the arguments of its twin."""
    names = ", ".join(function.__code__.co_varnames[:function.__code__.co_argcount])
    scope = {"tile": getattr(module, function.__name__.removesuffix("_twin"))}
    exec(f"def call({names}):\n    tile({names})", scope)
    return njit(scope["call"])


def memory(seed=0):
    draw = np.random.default_rng(seed)
    ints = draw.integers(0, 40, 64).astype(np.int32)
    return draw.normal(0, 1, SIZE).astype(np.float32), ints


CASES = {                                       # offsets keep operands apart; strides are odd on purpose
    "product": [(0, 51, 1, 1000, 40, 9000, 9100, 67, n, rectify) for n, rectify in ((40, 0), (1, 1), (0, 1))],
    "masked_product": [(0, 51, 1, 1000, 40, 9000, 9100, 67, 33, 12000, 61)],
    "transpose": [(0, 37, 9000, 41)],
}


@pytest.mark.parametrize("name, i", [(n, i) for n, c in CASES.items() for i in range(len(c))])
def test_tile_equals_its_twin(name, i):
    (mem, _), (expected, _) = memory(), memory()
    twin = getattr(vectors, f"{name}_twin")
    compiled(twin)(mem, *CASES[name][i])
    twin(expected, *CASES[name][i])
    assert not np.array_equal(expected, memory()[0])
    assert np.abs(mem - expected).max() <= TOLERANCE * 16


@pytest.mark.parametrize("n", [0, 1, 7])
def test_picked_tile_equals_its_twin(n):
    (mem, ints), (expected, _) = memory(), memory()
    arguments = (ints, 3, 0, target.PICK_PANEL, 15000, 16000, n)
    compiled(vectors.picked_twin)(mem, *arguments)
    vectors.picked_twin(expected, *arguments)
    assert np.abs(mem - expected).max() <= TOLERANCE * 16


def test_subset_sums_equal_their_twin():
    """To the bit: the same sums in the same order."""
    (mem, _), (expected, _) = memory(), memory()
    compiled(subset_sums.subset_sums_twin, subset_sums)(mem, 100, 9000)
    subset_sums.subset_sums_twin(expected, 100, 9000)
    assert np.array_equal(mem, expected) and not np.array_equal(mem, memory()[0])
    rows = mem[100:100 + 4 * target.PICK_PANEL].reshape(4, -1)
    for v in range(1, 16):
        at, ones = 9000 + v * target.PICK_PANEL, [j for j in range(4) if v >> j & 1]
        assert np.abs(mem[at:at + target.PICK_PANEL] - rows[ones].sum(0)).max() <= TOLERANCE


@pytest.mark.parametrize("kind, n", [("gradient", 40), ("gradient", 0), ("picked_gradient", 7)])
@pytest.mark.parametrize("way", ["adam", "momentum alone", "kept"])
def test_gradient_tile_updates_as_its_twin(kind, n, way):
    span, states, where = 1024, [], 12000 + 3 * 1024 * (way == "kept")
    for function in (compiled(getattr(vectors, f"{kind}_twin")), getattr(vectors, f"{kind}_twin")):
        mem, ints = memory()
        mem[12000 + 2 * span:12000 + 3 * span] = np.abs(mem[12000 + 2 * span:12000 + 3 * span])
        mem[11000:11005] = (0.01, 0.1, 0.001, 0, 1) if way == "momentum alone" else (0.01, 0.1, 0.001, 1.5, 1e-3)
        before = mem.copy()
        mem[11000 + jobs.GRADIENT] = jobs.KEPT if way == "kept" else jobs.AT_ONCE
        first = (ints, 2, 3000, 130) if kind == "picked_gradient" else (0, 51, 3000, 130)
        function(mem, *first, 12000, span, n, 11000)
        states.append(mem)
    assert np.abs(states[0] - states[1]).max() <= TOLERANCE * 16
    changed = states[1] != before
    assert changed[where:where + 32].any()
    assert not changed[12000:12000 + 3 * span].any() or where == 12000      # but parameters and moments stay


def test_philox_of_vectors_equals_its_twin_bit_for_bit(monkeypatch):
    monkeypatch.setattr(philox_vectors, "philox", from_python(philox_vectors.philox))

    @njit
    def call(ints, index, out, step, example, draw, seed, stream):
        philox_vectors.draws(ints, index, out, step, example, draw, seed, stream)

    @njit
    def some(ints, latents, draws, out, step, example, seed, stream):
        philox_vectors.blocks(ints, latents, draws, out, step, example, seed, stream)

    draw = np.random.default_rng(3)
    for _ in range(20):
        ints = draw.integers(0, 2 ** 31, 200).astype(np.int32)
        expected, words = ints.copy(), [int(x) for x in draw.integers(0, 2 ** 32, 5)]
        call(ints, 3, 50, *words)
        philox_vectors.draws_twin(expected, 3, 50, *words)
        assert np.array_equal(ints, expected) and not np.array_equal(ints[50:82], expected[0:32])
        some(ints, 3, 20, 50, *words[:4])
        philox_vectors.blocks_twin(expected, 3, 20, 50, *words[:4])
        assert np.array_equal(ints, expected)


def test_relu_of_a_tile_keeps_nan():
    mem, _ = memory()
    mem[0] = np.nan
    compiled(vectors.product_twin)(mem, 0, 51, 1, 1000, 40, 9000, 9100, 67, 4, 1)
    assert np.isnan(mem[9100:9100 + target.PANEL]).all()


def test_float_mode_is_restored_and_flushes():
    @kernel(CONTRACT)
    def flushed(x):
        before = sync.float_mode()
        sync.set_float_mode(np.int32(before | sync.FLUSH))
        inside = x[0] * x[1]
        sync.set_float_mode(np.int32(before))
        return inside, before == sync.float_mode()

    tiny = np.array([1e-30, 1e-12], np.float32)
    inside, same = flushed(tiny)
    assert inside == 0 and same and tiny[0] * tiny[1] > 0


if "NPDVAE_TILE" not in os.environ:             # the inner run takes the other shape
    def test_the_other_tile_shape_equals_its_twins_too():
        other = "avx2" if target.WIDE else "avx512"
        run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
                             env={**os.environ, "NPDVAE_TILE": other}, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-2000:]
