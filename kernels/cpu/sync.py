"""How workers share a step: atomic counters, waits, and the handling of denormal numbers; twins for one worker."""
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from npdvae.kernels.cpu.clocks import wall
from npdvae.kernels.cpu.compiler import helper
from npdvae.kernels.cpu.llvm import I32, I64, POINTER, data, external, in_bytes

SPIN = 100_000                                  # nanoseconds of a busy wait before naps: longer than most chunks
GATE = 2 * SPIN                                 # the same at a gate: longer than most of what stands between segments
NAP = 20                                        # microseconds, to which the kernel adds some 60 of its own
NAPS = 20                                       # before a worker at a gate is sent to sleep
FLUSH = 0x8040                                  # MXCSR: denormal results and operands count as zero


def address(context, b, signature, arguments):
    """Of entry i of an int64 array, for arguments (array, i, ...)."""
    at = in_bytes(b, data(context, b, signature.args[0], arguments[0]), b.mul(arguments[1], ir.Constant(I64, 2)))
    return b.inttoptr(at, POINTER)


@intrinsic
def _atomic_add(typing, array, i, x):
    def codegen(context, b, signature, arguments):
        return b.atomic_rmw("add", address(context, b, signature, arguments), arguments[2], "acq_rel")
    return types.int64(array, types.int64, types.int64), codegen


def atomic_add_twin(array, i, x):
    """array[i] += x; returns the value before."""
    before = int(array[i])
    array[i] += x
    return before


@intrinsic
def _atomic_load(typing, array, i):
    def codegen(context, b, signature, arguments):
        return b.load_atomic(address(context, b, signature, arguments), "acquire", 8, typ=I64)
    return types.int64(array, types.int64), codegen


def atomic_load_twin(array, i):
    """array[i] as the other workers see it."""
    return int(array[i])


@intrinsic
def _pause(typing):
    def codegen(context, b, signature, arguments):
        b.call(external(b, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        return context.get_dummy_value()
    return types.void(), codegen


@intrinsic
def _set_float_mode(typing, mode):
    def codegen(context, b, signature, arguments):
        slot = b.alloca(I32)
        b.call(external(b, "llvm.x86.sse.stmxcsr", ir.VoidType(), [POINTER]), [slot])
        before = b.load(slot, typ=I32)
        slot = b.alloca(I32)
        b.store(arguments[0], slot)
        b.call(external(b, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [POINTER]), [slot])
        return before
    return types.int32(types.int32), codegen


@intrinsic
def _float_mode(typing):
    def codegen(context, b, signature, arguments):
        slot = b.alloca(I32)
        b.call(external(b, "llvm.x86.sse.stmxcsr", ir.VoidType(), [POINTER]), [slot])
        return b.load(slot, typ=I32)
    return types.int32(), codegen


if config.DISABLE_JIT:
    atomic_add, atomic_load = atomic_add_twin, atomic_load_twin

    def pause():
        """One worker never waits."""

    def nap(microseconds):
        """One worker never waits."""

    def float_mode():
        """Python leaves the processor's mode alone."""
        return 0

    def set_float_mode(mode):
        """Python leaves the processor's mode alone."""
        return 0
else:
    atomic_add, atomic_load, pause, float_mode, set_float_mode = (
        _atomic_add, _atomic_load, _pause, _float_mode, _set_float_mode)
    nap = types.ExternalFunction("usleep", types.int32(types.uint32))


@helper
def wait_for(sync, i, target):
    """Wait until entry i of sync is at least `target`. A long wait sleeps: the core may be what the others lack.

    Returns the nanoseconds that it span.
    """
    if atomic_load(sync, i) >= target:
        return 0
    began = now = wall()
    while now - began < SPIN and atomic_load(sync, i) < target:
        pause()
        now = wall()
    while atomic_load(sync, i) < target:
        nap(NAP)
    return now - began


@helper
def passes(sync, opened, quit, turn):
    """Whether gate `turn` opens while its worker may be kept from sleep: entry `opened` of sync counts open gates,
    entry `quit` is 1 where no more will be opened."""
    began, naps = wall(), 0
    while atomic_load(sync, opened) <= turn:
        if atomic_load(sync, quit) or naps == NAPS:
            return False
        if wall() - began < GATE:
            pause()
        else:
            nap(NAP)
            naps += 1
    return True


@helper
def claim(sync, counter, worker, workers, n, mine):
    """The next of n chunks, or -1; two workers eat from both ends, which keeps their caches warm.

    `mine` is how many this worker has had; results never depend on who computes a chunk.
    """
    k = atomic_add(sync, counter, 1)
    if k >= n:
        return -1
    if workers != 2:
        return k
    return mine if worker == 0 else n - 1 - mine
