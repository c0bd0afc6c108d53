"""Tiles as their LLVM code stands, without Numba, against their plain twins. Each runs in a process of its own, which a
fault may end: so faults can be planted in this code too (`python -m tests.mutation --fused`). Share: 4 s.
"""
import ctypes
import inspect
import mmap
import os
import resource
import signal
import traceback

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import types

from npdvae.kernels.cpu import (
    bfloat16,
    bfloat16_words,
    gradient_sums,
    jobs,
    philox_vectors,
    subset_sums,
    target,
    vectors,
)
from npdvae.kernels.cpu import llvm as code
from npdvae.kernels.cpu.llvm import I64, call_apart
from npdvae.kernels.cpu.target import GRADIENT_ROWS, LANES, PANEL, PICK_PANEL
from tests import test_numba_bfloat16
from tests.kernels import from_python

pytestmark = pytest.mark.skipif(target.reason_unfit() is not None, reason=str(target.reason_unfit()))
tiled = pytest.mark.skipif(not bfloat16.NEEDED <= target.features() or not target.WIDE, reason="no AMX-BF16")
PATIENCE = 5.0                                  # seconds, for a loop that a fault left without an end
TOLERANCE = 2e-5                                # sums of at most 40 products of numbers below 4, rounded in another way
f4 = np.float32


def text(write, count):
    """A module with a function of `count` integers, whose code write(builder, *arguments) writes."""
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * count), "call")
    b = ir.IRBuilder(function.append_basic_block())
    write(b, *function.args)
    b.ret_void()
    return str(module)


def call(module, values):
    """Compile a module and call its function."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=0)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(module), machine)
    engine.finalize_object()
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(values))(engine.get_function_address("call"))(*values)


def after(write, mem, ints, arguments):
    """(mem, ints) after write(builder, address of mem, address of ints, *arguments) has run on copies of them."""
    module = text(write, 2 + len(arguments))
    shared = mmap.mmap(-1, mem.nbytes + ints.nbytes)
    floats, numbers = np.frombuffer(shared, f4, mem.size), np.frombuffer(shared, np.int32, ints.size, mem.nbytes)
    floats[:], numbers[:] = mem, ints
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            ctypes.CDLL(None).syscall(*bfloat16.ASK)    # refused where there are none
            call(module, (floats.ctypes.data, numbers.ctypes.data, *map(int, arguments)))
            os._exit(0)
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    return floats.copy(), numbers.copy()


def memory():
    draw = np.random.default_rng(0)
    mem = draw.normal(0, 1, 40_000).astype(f4)
    mem[30_000:31_000] = abs(mem[30_000:31_000])                    # second moments
    return mem, draw.integers(0, 40, 64).astype(np.int32)


def compare(module, name, arguments, reads_ints=False, change=lambda mem: None):
    """A tile against its twin: what it writes, and that it leaves all else alone."""
    body, twin = getattr(module, f"{name}_body"), getattr(module, f"{name}_twin")
    mem, ints = memory()
    change(mem)
    found, _ = after(lambda b, m, n, *a: body(b, *((m, n) if reads_ints else (m,)), *a), mem, ints, arguments)
    expected = mem.copy()
    twin(expected, *((ints,) if reads_ints else ()), *arguments)
    off, zero = np.abs(found - expected), expected == 0
    assert np.array_equal(np.isnan(found), np.isnan(expected)) and not np.nanmax(off) > TOLERANCE
    assert np.array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))
    assert not np.array_equal(found[expected != mem], mem[expected != mem])
    return found


def one_nan(mem):
    mem[7 + 3 * 53 + 2 * 3] = np.nan            # A[3, 2]


@pytest.mark.parametrize("n, rectify, change", [(40, 0, one_nan), (40, 1, one_nan), (1, 1, one_nan),
                                                (0, 1, lambda mem: mem[29_000:29_008].fill(-0.0))])
def test_product_equals_its_twin(n, rectify, change):
    compare(vectors, "product", (7, 53, 3, 1000, 41, 29_000, 20_000, 67, n, rectify), change=change)


@pytest.mark.parametrize("n", [0, 7])
def test_masked_product_equals_its_twin(n):
    """Where a mask is 0 or NaN too."""
    def change(mem):
        mem[12_001], mem[12_002] = 0, np.nan
    compare(vectors, "masked_product", (7, 53, 3, 1000, 41, 29_000, 20_000, 67, n, 12_000, 61), change=change)


def test_sums_of_subsets_equal_their_twin_and_the_sums():
    found = compare(subset_sums, "subset_sums", (100, 9000))
    rows = found[100:100 + 4 * PICK_PANEL].reshape(4, -1)
    for v in range(1, 16):
        expected = sum(rows[j] for j in range(4) if v >> j & 1)
        assert np.abs(found[9000 + v * PICK_PANEL:][:PICK_PANEL] - expected).max() <= TOLERANCE


UPDATES = {"adam": (0.01, 0.1, 0.001, 1.5, 1e-3, jobs.AT_ONCE), "momentum": (0.01, 0.1, 0.001, 0, 1, jobs.AT_ONCE),
           "kept": (0.01, 0.1, 0.001, 1.5, 1e-3, jobs.KEPT)}


@pytest.mark.parametrize("name, first, n, picks", [
    ("gradient", (7, 51, 3000, 130), 40, False), ("gradient", (7, 51, 3000, 130), 0, False),
    ("picked_gradient", (2, 3000, 130), 7, True), ("picked_gradient", (2, 3000, 130), 0, True)])
@pytest.mark.parametrize("way", UPDATES)
def test_gradient_and_its_update_equal_their_twin(name, first, n, picks, way):
    *numbers, kept = UPDATES[way]

    def change(mem):
        mem[29_500:29_505], mem[29_500 + jobs.GRADIENT] = numbers, kept
    compare(vectors, name, (*first, 28_000 - 2 * 333, 1333, n, 29_500), picks, change)      # v is at 30_000


@pytest.mark.parametrize("n", [0, 1, 7])
def test_picked_rows_equal_their_twin(n):
    compare(vectors, "picked", (3, 1000, PICK_PANEL + 3, 29_000, 20_000, n), True)


def test_transpose_is_its_twin():
    assert np.array_equal(compare(vectors, "transpose", (5, 37, 20_000, 41))[20_000 + 41 * 3:][:LANES],
                          memory()[0][5 + 3::37][:LANES])


@pytest.mark.parametrize("n", [1, 13])
def test_gradient_sums_equal_their_twin(n):
    compare(gradient_sums, "gradient_sums", (7, 51, 3000, 130, 20_000, n))


@pytest.mark.parametrize("name, arguments", [("draws", (3, 29, *range(11, 16))),
                                             ("blocks", (3, 20, 40, *range(11, 15)))])
def test_philox_of_vectors_is_its_twin(name, arguments, monkeypatch):
    """Counters and keys of up to 32 bits."""
    module, (mem, _) = philox_vectors, memory()
    monkeypatch.setattr(module, "philox", from_python(philox_vectors.philox))
    ints = np.random.default_rng(1).integers(0, 2 ** 31, 120).astype(np.int32)
    arguments = *arguments[:3], *(x * 0x9E3779B1 % 2 ** 32 for x in arguments[3:])
    expected = ints.copy()
    with np.errstate(over="ignore"):            # as plain Python
        getattr(module, f"{name}_twin")(expected, *arguments)
    found = after(lambda b, m, n, *a: getattr(module, f"{name}_body")(b, n, *a), mem, ints, arguments)[1]
    assert np.array_equal(found, expected) and not np.array_equal(found, ints)


TILES = {**test_numba_bfloat16.TILES, "multiply": [
    *test_numba_bfloat16.TILES["multiply"], (10_000, 80, 20_000, 7, 40, 32_000, 48, 2, 17)]}


@tiled
@pytest.mark.parametrize("name, i", [(n, i) for n, c in TILES.items() for i in range(len(c))])
def test_tile_of_bfloat16_is_its_twin(name, i):
    module = bfloat16_words if hasattr(bfloat16_words, name) else bfloat16

    def write(b, mem, ints, *arguments):
        bfloat16.take_tiles_body(b, mem)
        getattr(module, f"{name}_body")(b, mem, *arguments)
        bfloat16.leave_tiles_body(b, mem)
    mem = test_numba_bfloat16.memory()
    mem[71] = 0                                 # of a ReLU
    found, _ = after(write, mem, np.zeros(1, np.int32), TILES[name][i])
    expected = mem.copy()
    getattr(module, f"{name}_twin")(expected, *TILES[name][i])
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32)) and not np.array_equal(found, mem)


@tiled
def test_tiles_are_given_back():
    assert text(bfloat16.leave_tiles_body, 1).count("call void @\"llvm.x86.tilerelease\"()") == 1


@pytest.mark.parametrize("body, arrays, size, how", [
    (vectors.gradient_body, 3, GRADIENT_ROWS * PANEL, "i32 1, i32 3, i32 1"),
    (vectors.picked_gradient_body, 3, PICK_PANEL, "i32 1, i32 3, i32 1"),
    (gradient_sums.fetch_body, 1, 1, "i32 0, i32 2, i32 1")])
def test_what_is_fetched_ahead(body, arrays, size, how):
    """Each line of 64 bytes once, for writing or for reading: no result shows it."""
    lines = text(body, len(inspect.signature(body).parameters) - 1).splitlines()
    calls = [i for i, line in enumerate(lines) if "call void @\"llvm.prefetch" in line]
    assert all(lines[i].endswith(f", {how})") for i in calls)
    offsets = [int(lines[i - 2].rpartition(" ")[2]) for i in calls]     # before: address + offset, as a pointer
    assert offsets == [*range(0, 4 * size, 64)] * arrays


def test_code_apart_is_one_function_however_often_it_is_called():
    """And stays one: its caller keeps its registers."""
    def write(b, mem, ints, at):
        for _ in range(2):
            call_apart(b, "tile", double, (mem, at))

    def double(b, mem, at):
        place = vectors.pointer(b, vectors.in_bytes(b, mem, at), vectors.constant(0))
        x = b.load(place, typ=vectors.F32)
        b.store(b.fadd(x, x), place)
    module, (mem, ints) = text(write, 3), memory()
    assert module.count("define internal void @\"tile\"") == 1 and module.count("noinline") == 1
    assert after(write, mem, ints, (5,))[0][5] == 4 * mem[5]


class Context:
    """As much of Numba's as `written` asks for: an array is a pointer to its first element."""

    def make_array(self, kind):
        return lambda context, b, value: type("Array", (), {"data": value})

    def get_dummy_value(self):
        return None


@pytest.mark.parametrize("arrays, name", [(1, None), (2, "apart")])
def test_what_numba_is_told_of_code(arrays, name, monkeypatch):
    """Arrays come as they are, integers as 64 bits; the code gets addresses."""
    seen = []

    def body(b, *values):
        seen.extend(values)

    monkeypatch.setattr(code.config, "DISABLE_JIT", 0)
    made = code.written(body, None, **({"arrays": arrays, "apart": name} if name else {}))
    given = [types.float32[::1], types.int32[::1]][:arrays]
    signature, write = made._defn(None, *given, types.int32, types.uint8)
    assert signature == types.void(*given, types.int64, types.int64)
    module = ir.Module()
    pointers = [code.POINTER] * arrays
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, I64, I64]), "caller")
    b = ir.IRBuilder(function.append_basic_block())
    write(Context(), b, signature, list(function.args))
    assert [x.type for x in seen] == [I64] * (arrays + 2)
    assert ("apart" in module.globals) == bool(name) and (name or seen[arrays:] == list(function.args[arrays:]))
    assert str(module).count("ptrtoint") == arrays
    monkeypatch.setattr(code.config, "DISABLE_JIT", 1)
    assert code.written(body, after) is after   # a twin
