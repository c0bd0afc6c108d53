"""Philox4x32-10 on LANES counters at once in explicit LLVM vectors, beside a plain twin; bit-equal to npdvae.rng."""
import numpy as np
from llvmlite import ir

from npdvae.kernels.cpu.llvm import I32, I64, constant, in_bytes, load, pointer, written
from npdvae.kernels.cpu.philox import M0, M1, NINE, W0, W1, philox
from npdvae.kernels.cpu.target import LANES

HALF = LANES // 2                               # counters of one vector: a product of words needs 64 bits
WORDS = ir.VectorType(I64, HALF)
ROUNDS = 10


def same(x):
    """A vector of one constant."""
    return ir.Constant(WORDS, [int(x)] * HALF)


def spread(b, x):
    """A vector of one 64-bit value."""
    u = ir.Constant(WORDS, ir.Undefined)
    return b.shuffle_vector(b.insert_element(u, x, ir.Constant(I32, 0)), u, ir.Constant(ir.VectorType(I32, HALF),
                                                                                     [0] * HALF))


def rounds(b, counters, keys):
    """Four vectors of 32-bit words, with rubbish above the low half of each entry."""
    low, half = same(0xFFFFFFFF), same(32)
    c0, c1, c2, c3 = counters
    for i in range(ROUNDS):
        k0, k1 = (spread(b, b.add(k, constant(i * int(w)))) for k, w in zip(keys, (W0, W1)))
        p0, p1 = b.mul(b.and_(c0, low), same(M0)), b.mul(b.and_(c2, low), same(M1))
        c0, c1, c2, c3 = (b.xor(b.xor(b.lshr(p1, half), c1), k0), p1, b.xor(b.xor(b.lshr(p0, half), c3), k1), p0)
    return c0, c1, c2, c3


def tops(b, out, counters, seed, stream):
    """Top 23 bits of the words at LANES counters to integer address `out`; counters(bytes of a half): four vectors."""
    top = same(0x7FFFFF)
    for part in range(2):
        found = rounds(b, counters(constant(4 * HALF * part)), (seed, stream))
        a, c, e, g = (b.and_(b.lshr(x, same(int(NINE))), top) for x in found)
        first, second = b.or_(a, b.shl(c, same(32))), b.or_(e, b.shl(g, same(32)))      # words 0, 1 and 2, 3
        for side in range(2):
            pairs = [x for i in range(HALF // 2) for x in (side * HALF // 2 + i, HALF + side * HALF // 2 + i)]
            four = b.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, HALF), pairs))
            b.store(four, pointer(b, out, constant(16 * HALF * part + 8 * HALF * side)), align=4)


def some(b, at, part):
    """HALF integers as counters."""
    return b.zext(load(b, at, part, ir.VectorType(I32, HALF)), WORDS)


def draws_body(b, numbers, index, out, step, example, draw, seed, stream):
    at, (step, example, draw) = in_bytes(b, numbers, index), (spread(b, x) for x in (step, example, draw))
    tops(b, in_bytes(b, numbers, out), lambda part: (step, example, some(b, at, part), draw), seed, stream)


def blocks_body(b, numbers, latents, draws, out, step, example, seed, stream):
    at, then = in_bytes(b, numbers, latents), in_bytes(b, numbers, draws)
    step, example = spread(b, step), spread(b, example)
    tops(b, in_bytes(b, numbers, out), lambda part: (step, example, some(b, at, part), some(b, then, part)), seed,
         stream)


def draws_one(ints, index, out, step, example, draw, seed, stream):
    u8 = np.uint64
    words = philox(u8(step), u8(example), u8(ints[index]), u8(draw), u8(seed), u8(stream))
    for w in range(4):
        ints[out + w] = np.int32(words[w] >> NINE)


def draws_twin(ints, index, out, step, example, draw, seed, stream):
    """Top 23 bits of the words at counters (step, example, ints[index + i], draw), i < LANES, to ints[out + 4 i...]."""
    for i in range(LANES):
        draws_one(ints, index + i, out + 4 * i, step, example, draw, seed, stream)


def blocks_twin(ints, latents, draws, out, step, example, seed, stream):
    """The same at counters (step, example, ints[latents + i], ints[draws + i])."""
    for i in range(LANES):
        draws_one(ints, latents + i, out + 4 * i, step, example, ints[draws + i], seed, stream)


draws = written(draws_body, draws_twin, apart="npdvae_draws")
blocks = written(blocks_body, blocks_twin, apart="npdvae_blocks")
