"""Two clocks in nanoseconds, of the C library: `wall`, and `used`, how long the calling thread has had a processor."""
import time

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from npdvae.kernels.cpu.llvm import I32, I64, POINTER


def clock(number):
    """A compiled reading of a clock, by its number."""
    @intrinsic
    def read(typing):
        def codegen(context, b, signature, arguments):
            slot = cgutils.alloca_once(b, ir.ArrayType(I64, 2))     # seconds, nanoseconds
            gettime = cgutils.get_or_insert_function(b.module, ir.FunctionType(I32, [I32, POINTER]), "clock_gettime")
            b.call(gettime, [ir.Constant(I32, number), slot])
            time = b.load(slot, typ=ir.ArrayType(I64, 2))
            return b.add(b.mul(b.extract_value(time, 0), ir.Constant(I64, 10 ** 9)), b.extract_value(time, 1))
        return types.int64(), codegen
    return read


if config.DISABLE_JIT:
    wall, used = time.monotonic_ns, time.thread_time_ns
else:
    wall, used = (clock(getattr(time, name, 0)) for name in ("CLOCK_MONOTONIC", "CLOCK_THREAD_CPUTIME_ID"))
