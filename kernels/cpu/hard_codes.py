"""Hard codes of softmax(logits), and the gradients that read df/dz at them; rows [N, K] of S samples, float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, kernel
from npdvae.kernels.cpu.elementary import exp, log1p_unit
from npdvae.kernels.cpu.side_by_side import WIDE, columns, shifted, summed
from npdvae.kernels.cpu.softmax import exp_shares

f4 = np.float32
LOG2 = f4(0.6931471805599453)


@kernel(SUMS)
def drawn(logits, u, codes):
    """`categorical.invert` of softmax(logits [N, K]) at u [S N] -> int64 [S N]."""
    N, K = logits.shape
    p, edge, code, last = np.empty((K, WIDE), f4), np.empty(WIDE, f4), np.empty(WIDE, f4), np.empty(WIDE, f4)
    for first in range(0, N, WIDE):
        n = min(WIDE, N - first)
        columns(logits, first, p, n)
        shifted(p, edge, n)
        for k in range(K):
            row = p[k]
            for i in range(n):
                row[i] = exp(row[i])
        summed(p, edge, n)
        for i in range(n):
            last[i] = f4(0)
        for k in range(K):
            row, category = p[k], f4(k)
            for i in range(n):
                row[i] /= edge[i]
                last[i] = category if row[i] > f4(0) else last[i]
        for start in range(first, u.size, N):
            some = u[start:start + n]
            for i in range(n):
                edge[i], code[i] = f4(0), f4(0)
            for k in range(K - 1):
                row = p[k]
                for i in range(n):
                    edge[i] += row[i]
                    code[i] += f4(1) if edge[i] <= some[i] else f4(0)
            for i in range(n):
                codes[start + i] = np.int64(min(code[i], last[i]))


@kernel(SUMS)
def taylor(p, codes, dcodes, uniform, dlogits):
    """Mean over s of <g, z - c> (z - p), c = 1/K where `uniform`, else p: g [S N, K], codes int64 [S N] -> [N, K]."""
    (N, K), S = p.shape, f4(len(dcodes) // len(p))
    for n in range(N):
        for k in range(K):
            dlogits[n, k] = f4(0)
    for start in range(0, len(dcodes), N):
        for n in range(N):
            g, z, mean = dcodes[start + n], codes[start + n], f4(0)
            for k in range(K):
                mean += g[k] if uniform else g[k] * p[n, k]
            w = g[z] - (mean / f4(K) if uniform else mean)
            for k in range(K):
                dlogits[n, k] -= w * p[n, k]
            dlogits[n, z] += w
    x = dlogits.ravel()
    for i in range(x.size):
        x[i] /= S


@kernel(SUMS)
def gapped(logits, codes, gap, tau, y):
    """softmax((phi + m1 - m2) / tau) of logits [N, K], m1 and m2 of `gapped_straight_through`: y [S N, K]."""
    N, K = logits.shape
    for start in range(0, len(y), N):
        for n in range(N):
            phi, row, z = logits[n], y[start + n], codes[start + n]
            top = phi[0]
            for k in range(K):
                top = phi[k] if phi[k] > top else top
            for k in range(K):                  # less the drawn category's, which is the top
                above = phi[k] - top + gap
                row[k] = (phi[k] - (above if above > f4(0) else f4(0)) - top) / tau
            row[z] = f4(0)
    exp_shares(y)


@kernel(CONTRACT)
def second_step(logits, shift, gumbels, codes, step):
    """z' - z of z' = argmax(phi + shift + G): logits [N, K], the others of S N rows -> step [S N, K]."""
    N, K = logits.shape
    x = step.ravel()
    for i in range(x.size):
        x[i] = f4(0)
    for start in range(0, len(step), N):
        for n in range(N):
            phi, moved, noise, best = logits[n], shift[start + n], gumbels[start + n], 0
            top = phi[0] + moved[0] + noise[0]
            for k in range(1, K):
                value = phi[k] + moved[k] + noise[k]
                if value > top:
                    top, best = value, k
            step[start + n, best] = f4(1)
            step[start + n, codes[start + n]] -= f4(1)


@kernel(SUMS)
def log_midpoint(log_p, codes, log_pb):
    """log (p + z) / 2: log_p [N, K], codes int64 [S N] -> [S N, K]."""
    N, K = log_p.shape
    for start in range(0, len(log_pb), N):
        x, y = log_p.ravel(), log_pb[start:start + N].ravel()
        for i in range(x.size):
            y[i] = x[i] - LOG2
        for n in range(N):
            z = codes[start + n]
            log_pb[start + n, z] = log1p_unit(exp(log_p[n, z])) - LOG2


@kernel(SUMS)
def sizes(logits, dcodes, phi, g):
    """Norms: logits [B, D K] -> phi [B], 1 where it is 0; dcodes [S B, D K] -> g [S B], phi where it is 0."""
    B = len(logits)
    for b in range(B):
        total = f4(0)
        for x in logits[b]:
            total += x * x
        phi[b] = np.sqrt(total) if total != f4(0) else f4(1)
    for n in range(len(dcodes)):
        total = f4(0)
        for x in dcodes[n]:
            total += x * x
        g[n] = np.sqrt(total) if total != f4(0) else phi[n % B]
