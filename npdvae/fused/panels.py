"""What the engines on panels share: pixels as the kernels read them, weights stored and given back by name."""
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba import config

from npdvae import describe
from npdvae.engine import Readable
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.pace import ENTRIES
from npdvae.kernels.cpu.prepare import ready
from npdvae.parallel.alone import ALONE
from npdvae.process import cores

DENSITY = 0.3                                   # share of ones where adding rows costs as much as a dense product
MOST_WORKERS = 64


def writable(images):
    """The same memory as an array that is not marked read-only, which is another type to the compiler; C order."""
    images = np.ascontiguousarray(images)
    if images.flags.writeable:
        return images
    kind = ctypes.c_uint8 if images.dtype == np.uint8 else ctypes.c_float
    return np.ctypeslib.as_array((kind * images.size).from_address(images.ctypes.data)).reshape(images.shape)


def crew(threads):
    """How many workers a call has, of so many threads (None: one a core)."""
    return 1 if config.DISABLE_JIT else min(threads or cores(), MOST_WORKERS)


def kernels(*tables):
    """Addresses of the kernels of all jobs in tables, which are compiled or loaded where they must be."""
    names = list(jobs.KINDS)
    return ready({names[kind] for table in tables for kind in table[:, 0]})


class WithLayers(dict):
    """Parameters of latent and likelihood; `params["decoder.0.weight"]`, for one that looks there, is fetched."""

    def __init__(self, params, fetch):
        super().__init__(params)
        self.fetch = fetch

    def __missing__(self, name):
        return self.fetch(name)


class Panels(Readable):
    """An engine whose weights lie in the panels of one float array `mem`, as its `plan` says."""

    plan: Any
    mem: np.ndarray
    kinds = "mv"                                # of moments that lie there
    precisions = "float32", "bfloat16"

    def __init__(self, model, recipe, dataset, threads=None, why="", team=ALONE):
        super().__init__(model, recipe, dataset, why, threads, team)
        self.spec = describe.describe(model, recipe)
        self.workers = crew(threads)
        self.pace = np.zeros(ENTRIES, np.int64)

    def pixels(self):
        """How a plan reads pixels: the mode, levels of byte images (0 for floats), and whether images are lists."""
        mode = jobs.THRESHOLDED if self.dataset.binary else jobs.PIXEL_MODES[self.recipe.binarize]
        return mode, self.dataset.levels if self.dataset.train.dtype == np.uint8 else 0, self.sparse()

    def sparse(self):
        """Whether the first layer adds rows of the weight: targets of zeros and ones, few of them one."""
        if self.recipe.binarize == "none" and not self.dataset.binary:
            return False
        some = self.dataset.to_probabilities(self.dataset.train[:1000])
        return float(some.mean()) <= DENSITY

    def thresholds(self):
        """Of a drawn pixel's 23 random bits, for each value of a byte."""
        p = (np.arange(256, dtype=np.float32) / np.float32(self.dataset.levels)).astype(np.float64)
        # (k + 1/2) 2^-23 < p exactly where the integer k < p 2^23 - 1/2
        return np.ceil(np.clip(p, 0, 1) * 2.0 ** 23 - 0.5)

    def images(self, images):
        """Images as the workers take them: bytes and floats, one of them empty."""
        if self.plan.levels:
            return writable(images), np.zeros((1, 1), np.float32)
        return np.zeros((1, 1), np.uint8), writable(images)

    def parts(self, state):
        """(prefix of names, arrays, offset) of parameters and moments."""
        moments = [(f"{kind}.", state.moments, i * self.plan.span) for i, kind in enumerate(self.kinds, 1)]
        return [("", state.params, 0), *moments]

    def put_layers(self, state):
        """Store the weights of a state and their moments."""
        for kind, arrays, base in self.parts(state):
            for layer in self.plan.layers:
                layer.put(self.mem, base, *(np.asarray(arrays[f"{kind}{layer.name}.{part}"])
                                            for part in ("weight", "bias")))

    def get_layers(self, state):
        """Give them back into the dicts of a state."""
        for kind, arrays, base in self.parts(state):
            for layer in self.plan.layers:
                arrays[f"{kind}{layer.name}.weight"], arrays[f"{kind}{layer.name}.bias"] = layer.get(self.mem, base)

    def get_layer(self, name):
        """One parameter of a layer. KeyError where there is none of that name."""
        of, _, part = name.rpartition(".")
        layer = {layer.name: layer for layer in self.plan.layers}[of]
        return dict(zip(("weight", "bias"), layer.get(self.mem, 0)))[part]
