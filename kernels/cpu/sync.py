"""How workers share a step: atomic counters, a barrier, and the handling of denormal numbers; twins for one worker."""
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from npdvae.kernels.cpu.compiler import helper
from npdvae.kernels.cpu.vectors import I32, I64, POINTER, data, external, in_bytes

SPINS = 2000                                    # turns of a busy wait before the core is given away
YIELDS = 500                                    # times that it is given away before a worker sleeps
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

    def give_way():
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
    give_way = types.ExternalFunction("sched_yield", types.int32())


@helper
def wait_for(sync, i, target):
    """Wait until entry i of sync is at least `target`."""
    spins = 0
    while atomic_load(sync, i) < target:
        if spins < SPINS:
            pause()
            spins += 1
        else:
            give_way()


@helper
def barrier(sync, target):
    """Wait until all workers have come: entry 0 of sync counts arrivals, `target` of them in all."""
    if atomic_add(sync, 0, 1) + 1 < target:
        wait_for(sync, 0, target)


@helper
def passes(sync, opened, quit, turn):
    """Whether gate `turn` opens while its worker may be kept from sleep: entry `opened` of sync counts open gates,
    entry `quit` is 1 where no more will be opened."""
    turns = 0
    while atomic_load(sync, opened) <= turn:
        if atomic_load(sync, quit) or turns == SPINS + YIELDS:
            return False
        if turns < SPINS:
            pause()
        else:
            give_way()
        turns += 1
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
