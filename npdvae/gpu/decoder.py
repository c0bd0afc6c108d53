"""The decoder of a captured step: the layers from codes to pixel logits, and their adjoint."""
from __future__ import annotations

from npdvae.gpu.layers import add_bias, add_bias_backward, code_linear, code_linear_backward, weigh_rows
from npdvae.gpu.memory import Buffers
from npdvae.kernels.cuda.constants import ACTIVATIONS, IDENTITY
from npdvae.kernels.cuda.launch import strips


class Decoder:
    """Layers for up to `rows` rows z: codes, int [N, D], or rows that need not be one-hot, float [N, D K]."""

    def __init__(self, on, model, params, grads, rows, categories=None):
        self.on, self.params, self.grads, self.K = on, params, grads, categories or model.latent.categories
        self.kind = ACTIVATIONS[model.decoder.activation]
        DK, *widths = model.decoder.sizes
        self.last, self.buffers = len(widths) - 1, Buffers(on.xp)
        for i, width in enumerate(widths):
            self.buffers.add(f"y.{i}", (rows, width), on.dtype)     # the last becomes its own gradient
            self.buffers.add(f"dy.{i}", (rows if i < self.last else 0, width), on.dtype)
        self.scratch = strips(rows) * max(*widths, DK * widths[0])

    def forward(self, z):
        """Pixel logits [N, P], and the bias that they still lack, or None."""
        y, N, bias = z, len(z), None
        for i in range(self.last + 1):
            out, weight, bias = self.buffers.rows(f"y.{i}", N), self.weight(i), self.params[f"decoder.{i}.bias"]
            if y.dtype.kind == "i":
                code_linear(self.on, y, weight, bias, out, self.K, self.kind if i < self.last else IDENTITY)
                bias = None                                         # is in already
            else:
                self.on.matmul(y, weight, out)
                if i < self.last:
                    add_bias(self.on, out, bias, self.kind)
            y = out
        return y, bias

    def backward(self, dy, z, share, dz=None, weights=None):
        """Gradients of weights and biases from dy [N, P], times `share` and the weights [N] of rows, where given.

        Unweighted into dz [N, D K] where given; dy is then weighted after it has been passed on.
        """
        on, N = self.on, len(z)
        for i in reversed(range(self.last + 1)):
            y = None if i == self.last else self.buffers.rows(f"y.{i}", N)
            below, into = (self.buffers.rows(f"{name}.{i - 1}", N) for name in ("y", "dy")) if i else (z, dz)
            add_bias_backward(on, dy, y, self.grads[f"decoder.{i}.bias"], self.kind, share, weights)
            if weights is None:
                self.weight_backward(i, dy, below, share)
            dx = None if into is None else on.matmul(dy, self.weight(i), into, transpose_b=True)
            if weights is not None:
                weigh_rows(on, dy, weights)
                self.weight_backward(i, dy, below, share)
            dy = dx

    def weight_backward(self, i, dy, below, share):
        """Gradient of one layer's weight from dy [N, O] and what came in, codes or rows [N, I]."""
        grad, on = self.grads[f"decoder.{i}.weight"], self.on
        with on.weights():
            if below.dtype.kind == "i":
                code_linear_backward(on, dy, below, grad, self.K, share)
            else:
                on.matmul(below, dy, grad, transpose_a=True, alpha=share)

    def weight(self, i):
        return self.params[f"decoder.{i}.weight"]
