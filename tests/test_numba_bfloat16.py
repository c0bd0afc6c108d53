"""--matmul-precision bfloat16: tiles against their twins to the bit, every product of a step against float64 on rounded
operands, and who is refused. Share: 25 s. Without AMX the twins alone run, as plain Python.
"""
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from npdvae import checkpoint, train
from npdvae.engine import Readable
from npdvae.fused import Fused, Segmented
from npdvae.fused.memory import view
from npdvae.kernels.cpu import bfloat16, bfloat16_words
from npdvae.kernels.cpu.bfloat16_words import bits
from tests.test_numba_fused import ORDER
from tests.test_numba_fused import engines as whole
from tests.test_numba_segments import NUMBA, NUMPY, make

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
served = pytest.mark.skipif(bfloat16.reason_unfit() is not None, reason=str(bfloat16.reason_unfit()))
f4 = np.float32


def rounded(x):
    """The nearest bfloat16, the even one of two: float32 has 16 more bits."""
    return bits(np.asarray(x, f4)).view(f4).astype(float)


def test_rounding_is_to_the_nearest_and_to_even_between_two():
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.normal(0, 1, 500), 2.0 ** draw.integers(-90, 90, 500) * draw.normal(0, 1, 500)]).astype(f4)
    x[:6] = 1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, -1 - 2.0 ** -8, 1 + 2.0 ** -8 + 2.0 ** -20, 0.0, 3.3e38     # ties first
    for value, found in zip(x.astype(float), rounded(x)):
        unit = 2.0 ** (math.frexp(value)[1] - 8)                    # of bfloat16's 8 bits
        below = math.floor(value / unit)
        part = value / unit - below
        up = part > 0.5 or part == 0.5 and below % 2
        assert found == (below + up) * unit
    special = bits(np.array([np.nan, np.inf, -np.inf, -0.0], f4)).view(f4)
    assert np.isnan(special[0]) and special[1] == -special[2] == np.inf and np.signbit(special[3])


class Linux:
    """Answers a system call and keeps what it was asked."""

    def __init__(self, answer):
        self.answer = answer

    def syscall(self, *asked):
        self.asked = asked
        return self.answer


@pytest.mark.parametrize("change, reason", [
    ({}, None), (dict(wide=False), "needs the AVX-512 tile"), (dict(plain=1, has=set()), None),
    (dict(has=bfloat16.NEEDED | {"avx2"}), None), (dict(wide=False, plain=1), "needs the AVX-512 tile"),
    (dict(has={"amx-tile", "amx-bf16"}), "Linux on a processor with AMX"), (dict(system="darwin"), "Linux"),
    (dict(machine="aarch64"), "Linux"), (dict(answer=-1), "the system does not give out")])
def test_who_can_multiply_in_bfloat16(change, reason, monkeypatch):
    """Tile registers are asked for by arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA) of Linux."""
    is_ = dict(wide=True, plain=0, has=set(bfloat16.NEEDED), system="linux", machine="x86_64", answer=0) | change
    linux = Linux(is_["answer"])
    for name, value in (("WIDE", is_["wide"]), ("config.DISABLE_JIT", is_["plain"]), ("features", lambda: is_["has"]),
                        ("sys.platform", is_["system"]), ("platform.machine", lambda: is_["machine"]),
                        ("ctypes.CDLL", lambda name: linux)):
        monkeypatch.setattr(f"{bfloat16.__name__}.{name}", value)
    found = bfloat16.reason_unfit()
    assert (reason in found if reason else found is None) and getattr(linux, "asked", (158, 0x1023, 18)) == (
        158, 0x1023, 18)


def memory():
    """Numbers, every other of the first a tie between two of bfloat16, then words."""
    draw = np.random.default_rng(1)
    mem = draw.normal(0, 1, 40_000).astype(f4)
    ties = mem[:100:2].view(np.uint32)
    ties[:] = ties & 0xffff0000 | 0x8000
    mem[10_000:30_000].view(np.uint32)[:] = bits(mem[10_000:30_000]) | bits(mem[:20_000]) >> 16
    return mem


TILES = {
    "neighbours": [(3, 9000)], "couple": [(3, 70, 9000)], "keep_active": [(3, 70)],
    "multiply": [(10_000, 80, 20_000, start, row, 32_000, 48, n, rows)
                 for start, row, n, rows in ((0, 0, 1, 16), (7, 40, 5, 32), (0, 0, 0, 32))]}


@served
@pytest.mark.parametrize("name, i", [(n, i) for n, c in TILES.items() for i in range(len(c))])
def test_tile_equals_its_twin_to_the_bit(name, i):
    module = bfloat16_words if hasattr(bfloat16_words, name) else bfloat16
    tile, twin = getattr(module, name), getattr(module, f"{name}_twin")
    take, leave, count = bfloat16.take_tiles, bfloat16.leave_tiles, len(TILES[name][i])
    places = ", ".join(f"a[{j}]" for j in range(count))
    scope = dict(take=take, leave=leave, tile=tile)
    exec(f"def call(mem, a):\n    take(mem)\n    tile(mem, {places})\n    leave(mem)", scope)
    found, expected = memory(), memory()
    njit(scope["call"])(found, np.array(TILES[name][i]))
    twin(expected, *TILES[name][i])
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))
    assert not np.array_equal(found, memory())


CASES = {
    "sampled": dict(estimator="reinforce", baseline="none", samples=2), "grey": dict(binarize="none"),
    "to the codes": dict(estimator="straight_through", activation="tanh", hidden=(40, 70)),
    "leaky": dict(activation="leaky_relu", hidden=(70, 33, 9)),
    "single": dict(batch=1), "wide": dict(pixels=270, hidden=(150, 40), D=6, K=12, batch=27),
    "many rows": dict(estimator="rloo", samples=26, batch=27, pixels=240)}      # two blocks of a weight gradient


def fused(precision="bfloat16", threads=2, **options):
    """A first state and the engine of whole steps on it."""
    readable, exact = whole(**options, way="stages", threads=threads)
    recipe = readable.recipe._replace(matmul_precision=precision)
    engine = Fused(readable.model, recipe, readable.dataset, threads)
    engine.load(exact.save())
    return engine, readable.state


def segmented(precision="bfloat16", **options):
    """The same in segments."""
    exact = make(Segmented, "f4", NUMBA, **options)
    engine = Segmented(exact.model, exact.recipe._replace(matmul_precision=precision), exact.dataset, 2)
    engine.load(exact.save())
    return engine


def close(found, a, b, bias=0.0, through=lambda y: y):
    """Whether found is through(a b + bias): sums of n products in float32 are off by at most n + 2 units of their
    sizes, an elementwise function of slope 1 by two more. Operands that are not rounded are off by 2^-9."""
    n, sizes = a.shape[1], abs(a) @ abs(b) + abs(np.asarray(bias, float))
    assert np.abs(found - through(a @ b + bias)).max() <= ((n + 4) * 2.0 ** -24 * sizes + 1e-7).max()


def slope(kind, y):
    """Of an activation with output y."""
    return {"relu": y > 0, "leaky_relu": np.where(y > 0, 1, f4(0.01)), "tanh": 1 - y ** 2}[kind]


def function(kind):
    return {"relu": lambda y: np.maximum(y, 0), "leaky_relu": lambda y: np.where(y > 0, y, f4(0.01) * y),
            "tanh": np.tanh}[kind]


@served
@pytest.mark.parametrize("name", CASES)
def test_every_product_of_a_step_rounds_its_operands_alone(name):
    """Of what the workers left in memory: layers, gradients of activations, and first moments, (1 - b1) g."""
    engine, state = fused(**CASES[name])
    B = engine.plan.batch
    engine.run(ORDER[:B])
    kind, after = engine.model.encoder.activation, engine.save()
    for part, rows, listed in ((engine.plan.encoder, B, engine.plan.encoder.sparse),
                               (engine.plan.sampled, B * engine.plan.frame.S, True)):
        ys, dys = ([view(engine.mem, m, rows, l.outputs).astype(float) for m, l in zip(ms, part.layers)]
                   for ms in (part.h, part.dh))
        last = len(part.layers) - 1
        for i, layer in enumerate(part.layers):
            w, b = (np.asarray(state.params[f"{layer.name}.{p}"], float) for p in ("weight", "bias"))
            x = ys[i - 1] if i else None if listed else view(engine.mem, part.x, rows, layer.inputs).astype(float)
            if x is None:
                continue
            if i < last:                        # the decoder's last output has given its place to its gradient
                close(ys[i], rounded(x), rounded(w), b, function(kind))
            elif part is engine.plan.encoder:
                close(ys[i], rounded(x), rounded(w), b)
            if i:
                mask = slope(kind, x)
                assert np.abs(dys[i - 1] - (rounded(dys[i]) @ rounded(w).T) * mask).max() <= (
                    (layer.outputs + 4) * 2.0 ** -24 * (abs(dys[i]) @ abs(w).T)).max() * 1.01 + 1e-12
            g = after.moments[f"m.{layer.name}.weight"] / f4(1 - 0.9)
            close(g, rounded(x).T, rounded(dys[i]))
            m = after.moments[f"m.{layer.name}.bias"] / f4(1 - 0.9)
            assert np.abs(m - dys[i].sum(0)).max() <= (rows + 4) * 2.0 ** -24 * abs(dys[i]).sum(0).max()
    if name == "to the codes":
        decoder, l = engine.plan.sampled, engine.plan.sampled.layers[0]
        w = np.asarray(state.params["decoder.0.weight"], float)
        close(view(engine.mem, decoder.dcodes, B, l.inputs), rounded(view(engine.mem, decoder.dh[0], B, l.outputs)),
              rounded(w).T)


@served
def test_the_gradient_is_that_of_float64_but_for_the_rounding():
    """First moments of one step at the same pixels and codes. Both operands of its eleven products are off by at most
    2^-9 each, together by 2^-5 where all errors add up; float32 alone would be below 1e-5."""
    options = dict(estimator="straight_through", activation="tanh", hidden=(40, 24), batch=10)   # no slope that jumps
    readable = make(Readable, "f8", NUMPY, **options)
    rough = segmented(**options)
    sums, expected = rough.run(ORDER[:10]), readable.run(ORDER[:10])
    assert np.abs(sums / expected - 1).max() <= 2.0 ** -8
    found, exact = rough.save().moments, readable.save().moments
    errors = {k: np.abs(found[k] - v).max() / np.abs(v).max() for k, v in exact.items() if k.startswith("m.")}
    assert all(error <= 2.0 ** -5 for error in errors.values()) and max(errors.values()) >= 1e-4, errors


@served
@pytest.mark.skipif(PLAIN, reason="one worker")
@pytest.mark.parametrize("name", ["sampled", "wide", "many rows"])
def test_results_do_not_depend_on_threads_nor_on_grouping(name):
    states = []
    for threads, cut in ((1, 27), (2, 27), (3, 0)):
        engine, _ = fused(**CASES[name], threads=threads)
        sums = [engine.run(ORDER[:cut]), engine.run(ORDER[cut:])]
        states.append((np.concatenate(sums), engine.save()))
    for sums, state in states[1:]:
        assert np.array_equal(sums, states[0][0])
        for k, p in {**state.params, **state.moments}.items():
            assert np.array_equal(p, {**states[0][1].params, **states[0][1].moments}[k]), k


@served
@pytest.mark.parametrize("kind", [Fused, Segmented])
def test_evaluation_is_that_of_float32(kind):
    """To the bit, of the same parameters; after steps that differ."""
    options = dict(estimator="reinforce", baseline="none", batch=10)
    rough = fused(**options)[0] if kind is Fused else segmented(**options)
    exact = kind(rough.model, rough.recipe._replace(matmul_precision="float32"), rough.dataset, 2)
    exact.load(rough.save())
    assert not np.array_equal(rough.run(ORDER), exact.run(ORDER))
    exact.load(rough.save())
    assert np.array_equal(rough.evaluate(rough.dataset.test, step=3), exact.evaluate(exact.dataset.test, step=3))


SMALL = ["--hidden", "8", "--no-figures", "--batch-size", "500", "--matmul-precision"]


@served
def test_a_run_resumes_to_the_same_bits(tmp_path):
    for name, epochs in (("whole", ["2"]), ("parts", ["1", "2"])):
        assert train.main([*SMALL, "bfloat16", "--epochs", epochs[0], "--out", str(tmp_path / name)]) == 0
        for more in epochs[1:]:
            assert train.main(["--resume", str(tmp_path / name), "--epochs", more]) == 0
    a, b = (checkpoint.latest(tmp_path / name).arrays for name in ("whole", "parts"))
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    assert train.main(["--resume", str(tmp_path / "parts"), "--matmul-precision", "float32"]) == 2


@pytest.mark.parametrize("arguments, reason", [
    (["bfloat16", "--backend", "numpy"], "the readable engine on numpy has float32"),
    (["bfloat16", "--engine", "readable"], "the readable engine on numba has float32 (as asked for)"),
    (["bfloat16", "--dtype", "float64"], "float64 arithmetic"),
    (["bfloat16", "--estimator", "exact", "--latents", "2"], "codes that the batch shares"),
    (["tf32", "--backend", "numba"], "the fused engine on numba has float32 and bfloat16"),
    (["bfloat16", "--backend", "numba"], "needs Linux on a processor with AMX-BF16")])
def test_what_cannot_multiply_so_is_refused_in_one_line(arguments, reason, tmp_path, capsys, monkeypatch):
    if "AMX" in reason:
        monkeypatch.setattr(bfloat16, "WIDE", True)
        monkeypatch.setattr(bfloat16.config, "DISABLE_JIT", 0)
        monkeypatch.setattr(bfloat16, "features", lambda: {"avx512f", "avx512bw", "avx512bf16"})
    elif (unfit := bfloat16.reason_unfit()) and "numba" in arguments:
        pytest.skip(unfit)
    assert train.main([*SMALL, *arguments, "--epochs", "1", "--out", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert reason in error and f"--matmul-precision {arguments[0]}: " in error
    assert error.startswith("npdvae: error: ") and error.count("\n") == 1 and not (tmp_path / "r").exists()


if not PLAIN:                                   # the inner run
    def test_twins_pass_as_plain_python():
        some = "alone and (single or leaky) or the_gradient"
        command = [sys.executable, "-m", "pytest", "-q", "-x", __file__, "-k", some]
        done = subprocess.run(command, env={**os.environ, "NUMBA_DISABLE_JIT": "1", "NPDVAE_TILE": "avx512"},
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:]
        assert done.stdout.startswith("...  "), done.stdout[:300]        # none of three was skipped
