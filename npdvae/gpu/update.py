"""The end of a captured step: all parameters at once, and the clock that the next replay reads."""
from __future__ import annotations

import numpy as np

from npdvae.gpu.memory import Buffers
from npdvae.kernels.cuda.constants import THREADS
from npdvae.kernels.cuda.launch import elementwise, one_block_each

NORM_BLOCKS = 256                               # sums of squares, each of one block
MANY = 16384                                    # costs and KLs that one block may sum: more take it too long,
SUM_BLOCKS = 64                                 # and so many share them


class Update:
    """The optimizer on arrays that hold every parameter, with the gradient's norm clipped where asked."""

    def __init__(self, on, run, recipe, params, grads, moments):
        self.on, self.run, self.limit, self.name = on, run, recipe.clip_norm, recipe.optimizer.name
        self.params, self.grads, self.size = params.array, grads.array, params.size
        self.moments = [flat.array for flat in moments.values()]
        self.constants = (recipe.optimizer.momentum,) if self.name == "sgd" else (1 - 0.9, 1 - 0.999, 1e-8)
        self.buffers = Buffers(on.xp)
        self.buffers.add("norm", (NORM_BLOCKS,), np.float64)
        self.buffers.add("clip", (1,), np.float64)
        self.buffers.add("shares", (2, SUM_BLOCKS), np.float64)

    def clip(self):
        """The factor [1] that brings the gradient's norm down to the limit, or None without one."""
        if self.limit is None:
            return None
        norm, factor = self.buffers["norm"], self.buffers["clip"]
        self.on.launch("squares", ((NORM_BLOCKS,), (THREADS,)), self.grads, norm, self.size)
        self.on.launch("clip_factor", one_block_each(1), norm, factor, NORM_BLOCKS, self.limit)
        return factor

    def parameters(self):
        """Parameters and moments after the step."""
        self.on.launch(f"{self.name}_scheduled", elementwise(self.size), self.params, self.grads, *self.moments,
                       self.size, self.run["settings"], self.run["clock"], self.clip(), *self.constants)

    def finish(self, cost, kl, mean=None, decay=0.0):
        """Parameters; sums of cost [S B] and kl [B, D] for the host, running mean of the cost where kept; the clock."""
        on, (B, D), shares = self.on, kl.shape, None
        if len(cost) + kl.size > MANY:
            shares = self.buffers["shares"]
            with on.aside():                    # while parameters move
                on.launch("share_sums", ((SUM_BLOCKS,), (THREADS,)), cost, kl, shares, len(cost), kl.size)
        self.parameters()
        if shares is not None:
            on.join()
        on.launch("advance", one_block_each(1), cost, kl, shares, self.run["sums"], mean, self.run["clock"],
                  len(cost) // B, B, D, SUM_BLOCKS, decay)
