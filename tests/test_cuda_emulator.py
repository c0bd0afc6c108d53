"""The emulator of CUDA on the CPU bites: planted faults show under its four schedules. Share: 12 s, most of it g++."""
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.cuda import cupy_stand_in, emulator

pytestmark = pytest.mark.skipif(bool(emulator.available()), reason=emulator.available() or "-")
FAULTS = (pathlib.Path(emulator.HERE) / "faults" / "faults.cu").read_text()
x = np.random.default_rng(0).random(256, np.float32)
SUMS = x.reshape(2, 128).sum(1)


def build(*faults, flags=None):
    return emulator.build("".join(f"#define {f}\n" for f in faults) + FAULTS, flags)


def block_sum(library, schedule):
    total = np.zeros(2, np.float32)
    library.run("block_sum", (2,), (128,), (x, total), schedule)
    return bool((np.abs(total - SUMS) < 1e-4).all())                # 128 terms of float32 below 1


def broadcast(library, schedule):
    y = np.zeros(128, np.float32)
    library.run("broadcast_twice", (1,), (128,), (x, y), schedule)
    return bool((np.abs(y - (x[0] + 10 * x[1])) < 1e-5).all())


def swap(library, schedule):
    y = np.zeros(128, np.float32)
    library.run("swap_halves", (1,), (128,), (x, y), schedule)
    return bool((y == np.roll(x[:128], 64)).all())


def warp_sum(library, schedule):
    total = np.zeros(1, np.float32)
    library.run("warp_sum", (1,), (32,), (x, total, np.int32(20)), schedule)
    return bool(abs(total[0] - x[:20].sum()) < 1e-4)


def count_up(library, schedule):
    y = np.zeros(256, np.float32)
    library.run("count_up", (2,), (128,), (y,), schedule)
    return bool((y == 1).all())


@pytest.mark.parametrize("schedule", emulator.SCHEDULES)
def test_sound_kernels_pass(schedule):
    library = build()
    assert all(run(library, schedule) for run in (block_sum, broadcast, swap, warp_sum, count_up))


@pytest.mark.parametrize("fault, run", [("NO_BARRIER", block_sum), ("WRITE_AFTER_READ", broadcast)])
def test_races_show_in_some_schedule(fault, run):
    library = build("NO_BARRIER", "WRITE_AFTER_READ", "UNSET")
    assert not all(run(library, schedule) for schedule in emulator.SCHEDULES), f"{fault} went unnoticed"


@pytest.mark.parametrize("schedule", emulator.SCHEDULES)
def test_shared_memory_starts_as_nonsense(schedule):
    assert not count_up(build("NO_BARRIER", "WRITE_AFTER_READ", "UNSET"), schedule)


@pytest.mark.parametrize("schedule", emulator.SCHEDULES)
def test_barriers_and_shuffles_that_not_all_reach_are_refused(schedule):
    library = build("EXITED_LANE", "DIVERGENT")
    with pytest.raises(emulator.Fault, match="names lane 20, which has exited"):
        warp_sum(library, schedule)
    with pytest.raises(emulator.Fault, match="different barriers"):
        swap(library, schedule)


def test_arguments_of_another_type_or_number_are_refused():
    library, y = build(), np.zeros(8, np.float32)
    for arguments, message in [((y,), "takes 2 arguments, got 1"), ((y, 8), "untyped int"),
                               ((y, np.int64(8)), "wants .i, got int64"),
                               ((y.astype(np.float64), np.int32(8)), r"wants \*f, got an array of float64"),
                               ((np.int32(8), y), "wants an address, got int32")]:
        with pytest.raises(TypeError, match=message):
            library.run("fill", (1,), (32,), arguments)


def test_a_block_of_more_than_1024_threads_is_refused():
    with pytest.raises(emulator.Fault, match="1 to 1024 threads"):
        build().run("fill", (1,), (1025,), (np.zeros(8, np.float32), np.int32(8)))


def test_an_index_read_from_beyond_an_array_is_a_fault():
    """The bytes around the stand-in's arrays, read as an index, point nowhere; the process lives on."""
    library, y = build(), np.zeros(32, np.float32)
    order = np.arange(32)
    library.run("gather", (1,), (32,), (x, order, y))
    assert (y == x[:32]).all()
    order[20] = np.frombuffer(bytes([cupy_stand_in.PATTERN] * 8), np.int64)[0]
    with pytest.raises(emulator.Fault, match=r"gather: an address that is nobody's, block \(0, 0, 0\), thread \(20, 0"):
        library.run("gather", (1,), (32,), (x, order, y))
    library.run("gather", (1,), (32,), (x, np.arange(32), y))


@pytest.mark.parametrize("real, dtype, flushed", [("float", np.float32, True), ("double", np.float64, False)])
def test_denormal_floats_are_zeros_as_under_cupy(real, dtype, flushed):
    """CuPy compiles with -ftz=true: of results and of arguments, float32 only; the host keeps its own denormals."""
    library = emulator.build(f"#define REAL {real}\n" + """
extern "C" __global__ void __launch_bounds__(32) scale(const REAL* x, REAL* y, REAL by) {
    y[threadIdx.x] = x[threadIdx.x] * by;
}
""")
    tiny = np.finfo(dtype).tiny
    x, y = np.array([tiny, tiny / 2, 1], dtype), np.full(3, np.nan, dtype)
    library.run("scale", (1,), (3,), (x, y, dtype(0.5)))
    assert (y[:2] == (0 if flushed else x[:2] / 2)).all() and y[2] == 0.5
    library.run("scale", (1,), (3,), (x, y, dtype(4)))
    assert y[1] == (0 if flushed else tiny * 2)
    assert tiny / 2 > 0


OUT_OF_BOUNDS = """
import sys
import numpy as np
from tests.cuda import cupy_stand_in, emulator
x, y, n = np.ones(1000, np.float32), np.zeros(1000, np.float32), np.int32(1000)
text = "".join(f"#define {fault}\\n" for fault in sys.argv[1:]) + (emulator.HERE / "faults" / "faults.cu").read_text()
library = emulator.build(text)
library.run("shift", (32,), (32,), (x, y, n))
library.run("fill", (32,), (32,), (y, n))
print("finished")
"""
SANITISED = ("-O1", emulator.SANITISED, "-fno-omit-frame-pointer")


def sanitiser():
    """The AddressSanitizer library of g++, or nothing."""
    if emulator.available():
        return ""
    found = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    return found if os.path.isabs(found) else ""


def run_sanitised(*arguments):
    """Python in a process whose memory is watched."""
    environment = {**os.environ, "LD_PRELOAD": sanitiser(), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc",
                   "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NPDVAE_EMULATOR_FLAGS": " ".join(SANITISED)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True,
                          cwd=emulator.HERE.parent.parent)


@pytest.mark.skipif(not sanitiser(), reason="CUDA emulator: g++ has no AddressSanitizer here")
@pytest.mark.parametrize("fault, what", [(None, None), ("OUT_OF_BOUNDS", "READ of size 4"),
                                         ("WRITE_OUT_OF_BOUNDS", "WRITE of size 4")])
def test_out_of_bounds_is_named_by_the_sanitiser(fault, what):
    result = run_sanitised("-c", OUT_OF_BOUNDS, *filter(None, [fault]))
    if not fault:
        assert "finished" in result.stdout, result.stderr[-2000:]
        return
    assert "finished" not in result.stdout and "heap-buffer-overflow" in result.stderr, result.stderr[-2000:]
    assert what in result.stderr and f"in {'shift' if what.startswith('READ') else 'fill'} " in result.stderr


@pytest.mark.long
@pytest.mark.skipif(not sanitiser(), reason="CUDA emulator: g++ has no AddressSanitizer here")
@pytest.mark.parametrize("file", ["test_cuda_ops.py", "test_cuda_step.py"])
def test_no_kernel_reads_or_writes_out_of_bounds(file):
    """Every kernel test again, with the memory around every array forbidden."""
    result = run_sanitised("-m", "pytest", "-x", "-s", "-p", "no:cacheprovider", f"tests/{file}")
    assert result.returncode == 0 and "passed" in result.stdout, (result.stdout + result.stderr)[-3000:]
