"""Affine layers of one-hot codes, float32: a code picks rows of the weight.

y = b + sum of picked rows; the gradient of weight row i is the sum of the dy of the examples that picked it.
"""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, kernel

PANEL = 128                                     # columns at a time, so that a panel of the weight stays in L2


@kernel(CONTRACT)
def add_rows(index, count, weight, bias, y):
    """y [B, O] = bias + sum over i in index[b, :count[b]] of weight[i]."""
    B, O = y.shape
    for start in range(0, O, PANEL):
        stop = min(O, start + PANEL)
        for b in range(B):
            out = y[b, start:stop]
            for o in range(out.size):
                out[o] = bias[start + o]
            for c in range(count[b]):
                row = weight[index[b, c], start:stop]
                for o in range(out.size):
                    out[o] += row[o]


@kernel(CONTRACT)
def add_rows_backward(index, count, dy, dweight):
    """dweight [I, O] = sum of the rows dy[b] whose list holds i."""
    B, O = dy.shape
    flat = dweight.ravel()
    for i in range(flat.size):
        flat[i] = 0
    for start in range(0, O, PANEL):
        stop = min(O, start + PANEL)
        for b in range(B):
            row = dy[b, start:stop]
            for c in range(count[b]):
                out = dweight[index[b, c], start:stop]
                for o in range(out.size):
                    out[o] += row[o]


@kernel(CONTRACT)
def code_rows(codes, categories, index, count):
    """Codes int [N, D] as lists of weight rows d K + z into index int32 [N, D]; False where one is out of range."""
    N, D = codes.shape
    for n in range(N):
        for d in range(D):
            if codes[n, d] < 0 or codes[n, d] >= categories:
                return False
            index[n, d] = np.int32(d * categories + codes[n, d])
        count[n] = D
    return True
