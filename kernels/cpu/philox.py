"""Philox4x32-10 (Salmon et al. 2011), bit-equal to npdvae.rng: words and uniforms of a counter."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, helper, kernel

u8, f4 = np.uint64, np.float32
M0, M1, W0, W1 = u8(0xD2511F53), u8(0xCD9E8D57), u8(0x9E3779B9), u8(0xBB67AE85)
LOW, HALF, NINE = u8(0xFFFFFFFF), u8(32), u8(9)


@helper
def philox(c0, c1, c2, c3, k0, k1):
    """Four counter words and two key words -> four words; all uint64 below 2**32."""
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


@helper
def to_float(word):
    """(k + 1/2) 2**-23 with k the top 23 bits of a word: inside (0, 1), exact in float32."""
    return (f4(np.int32(word >> NINE)) + f4(0.5)) * f4(2.0 ** -23)


@kernel(CONTRACT)
def uniform(seed, stream, step, example, draw, out):
    """Uniforms of npdvae.rng.uniform into out [S, B, D, N] of either float type."""
    S, B, D, N = out.shape
    blocks = (S * N + 3) // 4
    for b in range(B):
        for d in range(D):
            for i in range(blocks):
                words = philox(u8(step), u8(example + b), u8(d), u8(draw + i), u8(seed), u8(stream))
                for w in range(4):
                    j = i * 4 + w
                    if j < S * N:
                        out[j // N, b, d, j % N] = to_float(words[w])
