"""Gumbel noise from given uniforms, float32."""
from npdvae.kernels.cpu.compiler import CONTRACT, kernel
from npdvae.kernels.cpu.elementary import log


@kernel(CONTRACT)
def gumbel(u, g):
    for i in range(u.size):
        g[i] = -log(-log(u[i]))
