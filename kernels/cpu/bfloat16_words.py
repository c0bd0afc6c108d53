"""Numbers rounded to bfloat16, two in a word, each operation beside its plain twin.

A word is a float32 entry of `mem` whose bits are two bfloat16 numbers, rounded to nearest, ties to even: the first in
its lower half.
"""
import numpy as np
from llvmlite import ir

from npdvae.kernels.cpu.llvm import I32, VECTOR, constant, in_bytes, load, pointer, written
from npdvae.kernels.cpu.target import LANES

WORDS, HALVES = ir.VectorType(I32, LANES), ir.VectorType(ir.IntType(16), 2 * LANES)


def rounded(b, x):
    """Floats with a bfloat16 in their upper halves, as integers: in half of the time that vcvtneps2bf16 takes."""
    u, last, below = b.bitcast(x, WORDS), *(ir.Constant(WORDS, [c] * LANES) for c in (1, 0x7fff))
    odd = b.and_(b.lshr(u, ir.Constant(WORDS, [16] * LANES)), last)
    return b.add(u, b.add(odd, below))          # a NaN that arithmetic gives stays one


def words(b, low, high, order):
    """The upper halves of 2 LANES rounded floats in this order, as LANES words."""
    halves = [b.bitcast(rounded(b, x), HALVES) for x in (low, high)]
    mask = ir.Constant(ir.VectorType(I32, 2 * LANES), [2 * i + 1 for i in order])
    return b.bitcast(b.shuffle_vector(*halves, mask), VECTOR)


IN_ORDER = list(range(2 * LANES))
IN_TURNS = [i // 2 + LANES * (i % 2) for i in range(2 * LANES)]


def bits(x):
    """Of float32 numbers rounded to bfloat16, as uint32 with zeros below: the twin of the conversion."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000


def neighbours_body(b, base, source, target):
    source, target = in_bytes(b, base, source), in_bytes(b, base, target)
    halves = load(b, source, constant(0)), load(b, source, constant(4 * LANES))
    b.store(words(b, *halves, IN_ORDER), pointer(b, target, constant(0)), align=4)


def neighbours_twin(mem, source, target):
    """Words (x[2 j], x[2 j + 1]) of the 2 LANES numbers at source."""
    u = bits(mem[source:source + 2 * LANES])
    mem[target:target + LANES] = (u[::2] >> 16 | u[1::2]).view(np.float32)


def couple_body(b, base, first, second, target):
    low, high = (load(b, in_bytes(b, base, x), constant(0)) for x in (first, second))
    b.store(words(b, low, high, IN_TURNS), pointer(b, in_bytes(b, base, target), constant(0)), align=4)


def couple_twin(mem, first, second, target):
    """Words (x[j], y[j]) of LANES numbers x at first and y at second."""
    low, high = bits(mem[first:first + LANES]), bits(mem[second:second + LANES])
    mem[target:target + LANES] = (low >> 16 | high).view(np.float32)


neighbours = written(neighbours_body, neighbours_twin)
couple = written(couple_body, couple_twin)
