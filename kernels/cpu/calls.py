"""Jobs called by their address: a worker holds no job's code, and only the kinds that a plan uses are compiled.

Every argument of a job has one name and one type throughout; a job takes those that it names.
"""
import functools
import inspect

import numpy as np
from numba import config, types
from numba.core import cgutils
from numba.core.compiler import CompileResult
from numba.core.errors import TypingError
from numba.extending import intrinsic

from npdvae.kernels.cpu.compiler import UNCOUNTED, UNWRAPPED, kernel
from npdvae.kernels.cpu.jobs import KINDS
from npdvae.kernels.cpu.llvm import I64, constant, data, load

i8, i4, f4, f8, u1 = types.int64, types.int32, types.float32, types.float64, types.uint8
TYPES = {                                       # of all that jobs and workers take
    "worker": i8, "turn": i8, "end": i8, "workers": i8, "table": i8[:, ::1], "stages": i8[:, ::1],
    "segments": i8[:, ::1], "mem": f4[::1], "ints": i4[::1], "images": u1[:, ::1], "grey_images": f4[:, ::1],
    "order": i8[::1], "batch": i8, "first_step": i8, "trains": i8, "start": i8, "keys": i8[::1], "scalars": i8,
    "scratch": i8, "scratch_size": i8, "i_scratch": i8, "i_scratch_size": i8, "running": f8[::1], "out": f8[:, ::1],
    "sync": i8[::1], "pace": i8[::1], "addresses": i8[::1]}
OF_JOB = {"c": i8, "a": i8[::1], "mem": f4[::1], "ints": i4[::1], "images": u1[:, ::1], "grey_images": f4[:, ::1],
          "order": i8[::1], "first": i8, "examples": i8, "step": i8, "example": i8, "keys": i8[::1], "scalars": i8,
          "scratch": i8, "i_scratch": i8, "running": f8[::1], "out": f8[::1]}   # in the order of `do`
JOBS: dict = {}                                 # kind: its kernel


def names(function):
    """Of the arguments of a kernel."""
    return tuple(inspect.signature(getattr(function, "py_func", function)).parameters)


def job(fastmath):
    """Decorator: the kernel of the kind of job that has its name."""
    def decorate(function):
        JOBS[function.__name__] = made = kernel(fastmath, **UNWRAPPED, **UNCOUNTED)(function)
        return made
    return decorate


def signature(function, among, result=types.void):
    """Of a kernel, by the names of its arguments."""
    return result(*(among[name] for name in names(function)))


@functools.cache
def address(kind):
    """Of the machine code of a kind of job, which is compiled or loaded where it must be."""
    made, types_ = JOBS[kind], signature(JOBS[kind], OF_JOB)
    made.compile(types_)
    match made.overloads[types_.args]:
        case CompileResult(library=code, fndesc=function):
            return code.get_pointer_to_function(function.llvm_func_name)


def alike():
    """Kinds by the names of their arguments, [(names, numbers)]."""
    found: dict = {}
    for kind, number in KINDS.items():
        found.setdefault(names(JOBS[kind]), []).append(number)
    return list(found.items())


@intrinsic
def _do(typing, addresses, c, a, mem, ints, images, grey_images, order, first, examples, step, example, keys, scalars,
        scratch, i_scratch, running, out):
    given = (c, a, mem, ints, images, grey_images, order, first, examples, step, example, keys, scalars, scratch,
             i_scratch, running, out)
    for name, is_, wanted in zip(OF_JOB, given, OF_JOB.values()):
        if is_ != wanted:
            raise TypingError(f"job argument {name}: got {is_}, expected {wanted}")

    def codegen(context, b, signature, arguments):
        values = dict(zip(OF_JOB, arguments[1:]))
        kind = load(b, data(context, b, OF_JOB["a"], values["a"]), constant(0), I64)
        table = data(context, b, signature.args[0], arguments[0])
        at, end = load(b, table, b.mul(kind, constant(8)), I64), b.append_basic_block("done")
        none = b.append_basic_block("none")
        switch = b.switch(kind, none)
        for wanted, numbers in alike():
            block = b.append_basic_block()
            for number in numbers:
                switch.add_case(constant(number), block)
            b.position_at_end(block)
            kinds = [OF_JOB[name] for name in wanted]
            function = b.inttoptr(at, context.call_conv.get_function_type(types.none, kinds).as_pointer())
            status, _ = context.call_conv.call_function(b, function, types.none, kinds, [values[n] for n in wanted])
            with cgutils.if_unlikely(b, status.is_error):
                context.call_conv.return_status_propagate(b, status)
            b.branch(end)
        b.position_at_end(none)
        b.branch(end)
        b.position_at_end(end)
        return context.get_dummy_value()
    return types.void(addresses, *given), codegen


def do_twin(addresses, *given):
    """Chunk c of job a, by the kernel of its kind."""
    values = dict(zip(OF_JOB, given))
    made = JOBS[list(KINDS)[values["a"][0]]]
    made(*(values[name] for name in names(made)))


do = do_twin if config.DISABLE_JIT else _do


def addresses(kinds):
    """int64, one for each kind of job: where those of the given kinds begin, and 0 elsewhere."""
    return np.array([0 if config.DISABLE_JIT or kind not in kinds else address(kind) for kind in KINDS], np.int64)
