"""Binarization: grey pixels to zeros and ones, with the project's own generator.

The rule, which every backend reproduces bit for bit: pixel j of example b is 1 exactly where u < p in float32, p its
probability and u the uniform of word j % 4 of the Philox block at counter (step, example + b, j // 4, draw).
Only blocks that hold a grey pixel (0 < p < 1) need their numbers: u is strictly inside (0, 1).
"""
import dataclasses
from typing import Any

import numpy as np

from npdvae import rng as philox_rng
from npdvae.types import Array, DType

MODES = ("dynamic", "static", "threshold", "none")


def check_mode(mode):
    """Raise ValueError for a mode that does not exist."""
    if mode not in MODES:
        raise ValueError(f"unknown binarization {mode!r}, expected one of {', '.join(MODES)}")


def prepare(dataset, mode, seed):
    """What can be binarized before training: the Dataset whose rows `binarize` will see.

    static: sampled once, stream STATIC, step 0, example = index of the image, the test images counted after the
    training images; threshold: p > 0.5. Both give uint8 rows of 0 and 1. dynamic and none: the data set as it is.
    """
    check_mode(mode)
    if mode in ("dynamic", "none") or dataset.binary:
        return dataset
    generator = philox_rng.Generator(seed, philox_rng.STATIC)
    train = _in_chunks(dataset, dataset.train, mode, generator, 0)
    test = _in_chunks(dataset, dataset.test, mode, generator, len(dataset.train))
    return dataclasses.replace(dataset, train=train, test=test, levels=1)


def binarize(probabilities, mode="dynamic", rng=None):
    """Pixel probabilities [B, P] to targets [B, P] of the same float type.

    dynamic, static: drawn as the rule above says, with rng's seed, stream, step, example and draw (which advances);
    threshold: 1 where p > 0.5; none: the probabilities themselves. Raises ValueError for an unknown mode.
    """
    check_mode(mode)
    if mode == "none":
        return probabilities
    if mode == "threshold":
        return (probabilities > 0.5).astype(probabilities.dtype)
    p = probabilities.astype(np.float32, copy=False)
    ones = draw_ones(p, rng.seed, rng.stream, rng.step, rng.example, rng.draw)
    rng.draw += 1
    return ones.astype(probabilities.dtype)


def targets(dataset: Any, rows: Array, mode: str, rng: Any, dtype: DType = np.float32) -> Array:
    """Rows of a data set [B, P] as targets x [B, P] of a step or an evaluation."""
    return binarize(dataset.to_probabilities(rows, dtype), mode, rng)


def draw_ones(p, seed, stream, step, example=0, draw=0):
    """Where the drawn pixels are one: float32 [B, P] -> bool [B, P]."""
    p = np.ascontiguousarray(p)
    B, P = p.shape
    blocks = -(-P // 4)
    if P % 4:
        p = np.pad(p, ((0, 0), (0, blocks * 4 - P)))                # [B, 4 blocks]
    ones = p >= 1
    grey = (p > 0) ^ ones
    quads = np.flatnonzero(np.ascontiguousarray(grey).view(np.uint32))   # blocks with a grey pixel
    words = philox_rng.philox(step, example + quads // blocks, quads % blocks, draw, seed, stream)
    u = philox_rng.to_uniform(np.stack(words, -1), np.float32)      # [quads, 4]
    ones.reshape(-1, 4)[quads] = u < p.reshape(-1, 4)[quads]
    return ones[:, :P]


def _in_chunks(dataset, rows, mode, generator, first, size=1000):
    binary = np.empty(rows.shape, np.uint8)
    for start in range(0, len(rows), size):
        p = dataset.to_probabilities(rows[start:start + size])
        binary[start:start + size] = binarize(p, mode, generator.at(0, first + start))
    return binary
