"""A data set: training and test images as rows of pixels, and how one is split."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from npdvae import rng


@dataclass(frozen=True)
class Dataset:
    """Images as rows; a pixel's probability of being one is its value over `levels`.

    train [N, P], test [M, P]: uint8 (0..levels) or float32 (0..1, levels 1); shape (H, W) with H W = P;
    labels uint8 [N] and [M] where the source has them: no training reads them.
    Raises ValueError where the sizes or types do not fit.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    shape: tuple[int, int]
    levels: int = 255
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None

    def __post_init__(self):
        for split, rows in (("train", self.train), ("test", self.test)):
            if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] < 1:
                raise ValueError(f"{self.name}: {split} must be images in rows [N, P], got shape {list(rows.shape)}")
            if rows.shape[1] != math.prod(self.shape):
                raise ValueError(f"{self.name}: {split} images have {rows.shape[1]} pixels, expected "
                                 f"{self.shape[0]} x {self.shape[1]} = {math.prod(self.shape)}")
        if self.train.dtype != self.test.dtype:
            raise ValueError(f"{self.name}: train is {self.train.dtype} and test is {self.test.dtype}, not one type")
        for split, labels, rows in (("train", self.train_labels, self.train), ("test", self.test_labels, self.test)):
            if labels is not None and labels.shape != rows.shape[:1]:
                raise ValueError(f"{self.name}: {split} has {rows.shape[0]} images but {labels.size} labels")

    @property
    def pixels(self):
        """P, the number of pixels of an image."""
        return self.train.shape[1]

    @property
    def binary(self):
        """Whether every pixel is 0 or 1 by its type, so that no binarization is left to do."""
        return self.train.dtype == np.uint8 and self.levels == 1

    def to_probabilities(self, rows, dtype=np.float32):
        """Rows of `train` or `test` [B, P] to pixel probabilities in [0, 1]; float32 is value / levels rounded once."""
        if rows.dtype == np.uint8:
            table = np.arange(256, dtype=dtype) / np.dtype(dtype).type(self.levels)
            return table[rows]
        return rows.astype(dtype, copy=False)


def hold_out(rows, fraction, generator):
    """Split training rows [N, P] into the part to train on and round(fraction N) rows to validate on, at random."""
    if not 0 < fraction < 1:
        raise ValueError(f"validation must be a fraction between 0 and 1, got {fraction}")
    held = round(fraction * len(rows))
    if not 0 < held < len(rows):
        raise ValueError(f"validation {fraction} of {len(rows)} training images leaves {held} to validate on and "
                         f"{len(rows) - held} to train on: both must be at least 1")
    order = generator.permutation(len(rows))
    return rows[np.sort(order[held:])], rows[np.sort(order[:held])]


def fixed_order(n):
    """The random order by which a data set of n images without a test part is split, the same for every seed."""
    return rng.Generator(0, rng.STATIC, step=2 ** 32 - 1).permutation(n)
