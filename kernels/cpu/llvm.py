"""What code in explicit LLVM vectors is written with, and how kernels come to call it.

Addresses are integers, in bytes; offsets and strides of arrays are in elements until `in_bytes`.
"""
import inspect

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from npdvae.kernels.cpu.target import LANES

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()
VECTOR = ir.VectorType(F32, LANES)
WIDTH = 4 * LANES                               # bytes


def constant(x):
    return ir.Constant(I64, x)


def external(b, name, result, arguments):
    return cgutils.get_or_insert_function(b.module, ir.FunctionType(result, arguments), name)


def data(context, b, array_type, value):
    """Address of the first element of an array, as an integer."""
    return b.ptrtoint(context.make_array(array_type)(context, b, value).data, I64)


def pointer(b, base, offset):
    return b.inttoptr(b.add(base, offset), POINTER)


def load(b, base, offset, typ=VECTOR):
    return b.load(pointer(b, base, offset), align=4, typ=typ)


def fetch_line(b, base, offset, writes, level):
    """Ask for the line of an address, to read (writes 0) or write (1), into the first cache (level 3) or second (2)."""
    fetch = external(b, "llvm.prefetch.p0", ir.VoidType(), [POINTER, I32, I32, I32])
    b.call(fetch, [pointer(b, base, offset), *(ir.Constant(I32, x) for x in (writes, level, 1))])


def splat(b, x):
    u = ir.Constant(VECTOR, ir.Undefined)
    return b.shuffle_vector(b.insert_element(u, x, ir.Constant(I32, 0)), u,
                            ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def phi(b, typ, incoming):
    node = b.phi(typ)
    for value, block in incoming:
        node.add_incoming(value, block)
    return node


def in_bytes(b, base, offset):
    return b.add(base, b.mul(offset, constant(4)))


def inner_loop(b, count, start, advance, body):
    """Sums [rows][vectors] after `count` turns of body(pointers, sums); pointers advance by fixed strides."""
    before, loop, done = b.block, b.append_basic_block("inner"), b.append_basic_block("inner.done")
    b.cbranch(b.icmp_signed(">", count, constant(0)), loop, done)
    b.position_at_end(loop)
    turn = phi(b, I64, [(constant(0), before)])
    moving = [phi(b, I64, [(p, before)]) for p, _ in advance]
    sums = [[phi(b, VECTOR, [(x, before)]) for x in row] for row in start]
    new = body(moving, sums)
    following = b.add(turn, constant(1))
    turn.add_incoming(following, loop)
    for p, (_, stride) in zip(moving, advance):
        p.add_incoming(b.add(p, stride), loop)
    for row, new_row in zip(sums, new):
        for x, y in zip(row, new_row):
            x.add_incoming(y, loop)
    b.cbranch(b.icmp_signed("<", following, count), loop, done)
    b.position_at_end(done)
    return [[phi(b, VECTOR, [(x, before), (y, loop)]) for x, y in zip(*rows)] for rows in zip(start, new)]


def written(body, twin, arrays=1, apart=None):
    """What kernels call with arrays and integers: the code of body(builder, *addresses, *integers), or its plain twin.

    apart: the name of the code as a function of its own; without one it is written into every caller.
    """
    if config.DISABLE_JIT:
        return twin

    def called(typing, *kinds):
        def codegen(context, b, signature, arguments):
            addresses = [data(context, b, *pair) for pair in zip(signature.args[:arrays], arguments)]
            values = [*addresses, *arguments[arrays:]]
            call_apart(b, apart, body, values) if apart else body(b, *values)
            return context.get_dummy_value()
        return types.void(*kinds[:arrays], *[types.int64] * (len(kinds) - arrays)), codegen
    called.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]  # else *kinds is a tuple to Numba
    return intrinsic(called)


def call_apart(b, name, body, values):
    """Call body(builder, *values) as a function of its own: inlined, a tile would lose registers to its caller."""
    function = b.module.globals.get(name)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(ir.VoidType(), [I64] * len(values)), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        inside = ir.IRBuilder(function.append_basic_block())
        body(inside, *function.args)
        inside.ret_void()
    b.call(function, values)
