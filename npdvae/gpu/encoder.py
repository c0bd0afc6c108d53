"""The encoder of a captured step: targets from the resident images, its layers, and their adjoint."""
from __future__ import annotations

import numpy as np

from npdvae import rng
from npdvae.backends.cupy_backend import GATHER, MODES
from npdvae.gpu.layers import add_bias, add_bias_backward
from npdvae.gpu.memory import Buffers
from npdvae.kernels.cuda.constants import ACTIVATIONS
from npdvae.kernels.cuda.launch import elementwise, strips


class Encoder:
    """From the images of the batch to the logits of its codes."""

    def __init__(self, on, run, model, recipe, dataset, params, grads):
        self.on, self.run, self.params, self.grads = on, run, params, grads
        self.batch, self.mode = recipe.batch_size, MODES[recipe.binarize]
        self.kind = ACTIVATIONS[model.encoder.activation]
        self.images = on.xp.asarray(np.ascontiguousarray(dataset.train))
        self.gather = GATHER.get(dataset.train.dtype, "binarize_floats")
        self.levels = dataset.levels if dataset.train.dtype == np.uint8 else 1
        self.pixels, *widths = model.encoder.sizes
        self.last, self.buffers = len(widths) - 1, Buffers(on.xp)
        self.buffers.add("x", (self.batch, self.pixels), on.dtype)
        for i, width in enumerate(widths):
            self.buffers.add(f"y.{i}", (self.batch, width), on.dtype)
            self.buffers.add(f"dy.{i}", (self.batch if i < self.last else 0, width), on.dtype)
        self.scratch = strips(self.batch) * max(widths)

    @property
    def nbytes(self):
        return self.buffers.nbytes + self.images.nbytes

    @property
    def bias(self):
        """The last layer's, which the latent layer adds."""
        return self.params[f"encoder.{self.last}.bias"]

    def targets(self, B):
        """Pixels x [B, P] of the next B images of the order."""
        x, P = self.buffers.rows("x", B), self.pixels
        self.on.launch(self.gather, elementwise(B * -(-P // 4)), self.images, self.run["order"], self.run["clock"], x,
                       self.levels, self.mode, rng.BINARIZE, 0, 0, self.batch, B, P)
        return x

    def forward(self, x):
        """Up to the last product: [B, D K], which still lacks its bias."""
        for i in range(self.last + 1):
            y = self.on.matmul(x, self.params[f"encoder.{i}.weight"], self.buffers.rows(f"y.{i}", len(x)))
            if i < self.last:
                add_bias(self.on, y, self.params[f"encoder.{i}.bias"], self.kind)
            x = y
        return x

    def backward(self, x, dy):
        """Gradients of weights and biases from dy [B, D K]."""
        on, B = self.on, len(x)
        for i in reversed(range(self.last + 1)):
            y = None if i == self.last else self.buffers.rows(f"y.{i}", B)
            below = self.buffers.rows(f"y.{i - 1}", B) if i else x
            add_bias_backward(on, dy, y, self.grads[f"encoder.{i}.bias"], self.kind)
            with on.weights():
                on.matmul(below, dy, self.grads[f"encoder.{i}.weight"], transpose_a=True)
            if i:
                dy = on.matmul(dy, self.params[f"encoder.{i}.weight"], self.buffers.rows(f"dy.{i - 1}", B),
                               transpose_b=True)
