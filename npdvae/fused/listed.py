"""Costs of codes shared by binary images, in compiled workers: a way of `npdvae.costs`.

An image is a list of ones, and its products with the logits of codes are sums over that list, as in a first layer.
"""
from __future__ import annotations

import numpy as np

from npdvae import costs
from npdvae.fused.frame import Frame
from npdvae.fused.layers import pick
from npdvae.fused.memory import Region, layer, lists, matrix, view
from npdvae.fused.panels import DENSITY, crew
from npdvae.fused.segments import Program
from npdvae.fused.workers import once
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.bernoulli import softplus_sum
from npdvae.kernels.cpu.target import PICK_PANEL


def shared(model, params, x, tile):
    """As `costs.shared`: by `Listed` where images are of zeros and few ones."""
    few = len(x) and x.mean() <= DENSITY and np.isin(x, (0, 1)).all()
    return Listed(x, tile) if few else costs.shared(model, params, x, tile)


class Listed:
    """Images x [N, P] of zeros and ones -> (a [C, 1, P], C <= tile -> (here -> -log p(x[here] | z) [C, n])), nats."""

    def __init__(self, x, tile, threads=None):
        (N, P), ones = x.shape, x != 0
        region, integers, counts = Region(), Region(), ones.sum(1)
        self.N, self.layer, self.workers = N, layer(region, "codes", P, tile, True), crew(threads)
        frame = Frame(N, P, 1, P, 1, jobs.LINEAR, False, region.take(PICK_PANEL))
        listed, self.y = lists(integers, N, int(counts.max()), 0), matrix(region, N, tile)  # y [N, tile]
        self.mem, self.ints = region.array(np.float32), integers.array(np.int32)
        self.ints[listed.count:listed.count + N] = counts
        index = self.ints[listed.index:listed.index + N * listed.ld_index].reshape(N, -1)
        index[np.arange(listed.ld_index) < counts[:, None]] = np.nonzero(ones)[1]
        self.program = Program.of([[[pick(frame, self.layer, listed, self.y, 1, jobs.LINEAR)]]])

    def __call__(self, a):
        """Take the logits of some codes."""
        C, weight = len(a), np.zeros((self.layer.outputs, self.layer.inputs), np.float32)
        weight[:C], softplus = a[:, 0], np.empty(C, np.float32)
        softplus_sum(weight[:C], softplus)
        self.layer.put(self.mem, 0, weight.T, np.zeros(self.layer.outputs, np.float32))
        once(self.workers, self.program, self.mem, self.ints, self.N)
        products = view(self.mem, self.y, self.N, C)                # [N, C]
        return lambda here: softplus[:, None] - products[here].T    # [C, n]
