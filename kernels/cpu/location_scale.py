"""KL to N(0, 1) of location-scale families, and their z, float32, in nats."""
import math

import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, kernel
from npdvae.kernels.cpu.elementary import exp

f4 = np.float32
HALF_LOG_TAU = f4(math.log(2 * math.pi) / 2)


@kernel(CONTRACT)
def analytic_kl(loc, s, variance, entropy, kl):
    """(loc^2 + variance exp(2 s)) / 2 + log(2 pi) / 2 - entropy - s: all [N]."""
    for i in range(kl.size):
        sigma = exp(s[i])
        kl[i] = (loc[i] * loc[i] + variance * (sigma * sigma)) * f4(0.5) + HALF_LOG_TAU - entropy - s[i]


@kernel(CONTRACT)
def moved(loc, s, e, z):
    """loc + exp(s) e: loc, s [N], e [S N] -> [S N]."""
    N = loc.size
    for start in range(0, e.size, N):
        noise, out = e[start:start + N], z[start:start + N]
        for i in range(N):
            out[i] = loc[i] + exp(s[i]) * noise[i]
