"""Binarization with Philox, bit-equal to npdvae.data.binarize: pixel j is 1 where u < p."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, kernel
from npdvae.kernels.cpu.philox import philox, to_float

u8, f4 = np.uint64, np.float32


@kernel(CONTRACT)
def draw_ones(p, seed, stream, step, example, draw, ones):
    """p float32 [B, P] -> ones bool [B, P]; only blocks of four that hold a grey pixel need random numbers."""
    B, P = p.shape
    for b in range(B):
        for i in range((P + 3) // 4):
            grey = False
            for j in range(4 * i, min(P, 4 * i + 4)):
                ones[b, j] = p[b, j] >= f4(1)
                grey |= f4(0) < p[b, j] < f4(1)
            if grey:
                words = philox(u8(step), u8(example + b), u8(i), u8(draw), u8(seed), u8(stream))
                for j in range(4 * i, min(P, 4 * i + 4)):
                    ones[b, j] = to_float(words[j - 4 * i]) < p[b, j]
