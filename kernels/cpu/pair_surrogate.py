"""RODEO's surrogate at many points, float32: H(f, l) = l + W' leaky(W [f, l] + b) + b', and its gradients."""
import numpy as np

from npdvae.kernels.cpu.compiler import SUMS, kernel

f4 = np.float32
SLOPE = f4(0.3)
BLOCK = 256                                     # points whose gradients are summed before they join the total


@kernel(SUMS)
def forward(f, along, w, b, v, c, out):
    """f, along [N]; w [2, H], b [H], v [2, H] the output's weights turned, c [2] -> out [N, 2]."""
    H = b.size
    for n in range(f.size):
        y0, y1 = f4(0), f4(0)
        for h in range(H):
            pre = b[h] + w[0, h] * f[n] + w[1, h] * along[n]
            unit = pre if pre > f4(0) else SLOPE * pre
            y0 += unit * v[0, h]
            y1 += unit * v[1, h]
        out[n, 0] = along[n] + y0 + c[0]
        out[n, 1] = along[n] + y1 + c[1]


@kernel(SUMS)
def backward(dout, f, along, w, b, v, dw, db, dv, dc):
    """dout [N, 2] -> gradients in the shapes above, which start at 0."""
    H = b.size
    part = np.empty((5, H), f4)
    for start in range(0, f.size, BLOCK):
        part[:] = f4(0)
        for n in range(start, min(start + BLOCK, f.size)):
            d0, d1, f_n, l_n = dout[n, 0], dout[n, 1], f[n], along[n]
            dc[0] += d0
            dc[1] += d1
            for h in range(H):
                pre = b[h] + w[0, h] * f_n + w[1, h] * l_n
                unit = pre if pre > f4(0) else SLOPE * pre
                dpre = d0 * v[0, h] + d1 * v[1, h]
                dpre = dpre if pre > f4(0) else SLOPE * dpre
                part[0, h] += dpre * f_n
                part[1, h] += dpre * l_n
                part[2, h] += dpre
                part[3, h] += unit * d0
                part[4, h] += unit * d1
        for h in range(H):
            dw[0, h] += part[0, h]
            dw[1, h] += part[1, h]
            db[h] += part[2, h]
            dv[0, h] += part[3, h]
            dv[1, h] += part[4, h]
