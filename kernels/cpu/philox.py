"""Philox4x32-10 (Salmon et al. 2011), bit-equal to npdvae.rng: the words of a counter."""
import numpy as np

from npdvae.kernels.cpu.compiler import helper

u8, f4 = np.uint64, np.float32
M0, M1, W0, W1 = u8(0xD2511F53), u8(0xCD9E8D57), u8(0x9E3779B9), u8(0xBB67AE85)
LOW, HALF, NINE = u8(0xFFFFFFFF), u8(32), u8(9)
TWO, FOUR, SIX, EIGHT = u8(2), u8(4), u8(6), u8(8)


@helper
def two_rounds(c0, c1, c2, c3, k0, k1):
    """Two of the ten rounds, with keys (k0, k1), of which bits above 32 are dropped later, and the next."""
    p0, p1 = M0 * c0, M1 * c2
    c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
    k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    p0, p1 = M0 * (c0 & LOW), M1 * (c2 & LOW)
    return (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW


@helper
def philox(c0, c1, c2, c3, k0, k1):
    """Four counter words and two key words -> four words, uint64 below 2**32. No loop, so that callers vectorise."""
    c0, c1, c2, c3 = two_rounds(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3 = two_rounds(c0, c1, c2, c3, k0 + TWO * W0, k1 + TWO * W1)
    c0, c1, c2, c3 = two_rounds(c0, c1, c2, c3, k0 + FOUR * W0, k1 + FOUR * W1)
    c0, c1, c2, c3 = two_rounds(c0, c1, c2, c3, k0 + SIX * W0, k1 + SIX * W1)
    return two_rounds(c0, c1, c2, c3, k0 + EIGHT * W0, k1 + EIGHT * W1)


@helper
def to_float(word):
    """(k + 1/2) 2**-23 with k the top 23 bits of a word: inside (0, 1), exact in float32."""
    return (f4(np.int32(word >> NINE)) + f4(0.5)) * f4(2.0 ** -23)
