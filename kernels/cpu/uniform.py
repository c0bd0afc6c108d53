"""Uniforms of npdvae.rng, bit for bit, LANES blocks of four at once."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, kernel
from npdvae.kernels.cpu.philox_vectors import blocks
from npdvae.kernels.cpu.target import LANES

f4, i8 = np.float32, np.int64


@kernel(CONTRACT)
def uniform(seed, stream, step, example, draw, out):
    """Uniforms of npdvae.rng.uniform into out [S, B, D, N] of either float type."""
    S, B, D, N = out.shape
    length = (S * N + 3) // 4                   # blocks of an example's latent
    n = -(-D * length // LANES) * LANES
    ints = np.zeros(6 * n, np.int32)            # latents, draws, and the top 23 bits of four words each
    for d in range(D):
        for i in range(length):
            ints[d * length + i], ints[n + d * length + i] = d, draw + i
    for b in range(B):
        for i in range(0, n, LANES):
            blocks(ints, i, n + i, 2 * n + 4 * i, step, example + b, seed, stream)
        for s in range(S):
            if N == 1:                          # no loop of one turn for each latent
                row, here = out[s, b, :, 0], ints[2 * n + s:]
                for d in range(D):
                    row[d] = (f4(here[4 * d * length]) + f4(0.5)) * f4(2.0 ** -23)
                continue
            for d in range(D):
                at = 2 * n + 4 * d * length + s * N
                here, row = ints[at:at + N], out[s, b, d]
                for k in range(N):
                    row[k] = (f4(here[k]) + f4(0.5)) * f4(2.0 ** -23)
