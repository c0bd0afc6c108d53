"""The embedded data: 1,797 handwritten digits of 8 x 8 pixels in 17 grey levels.

Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, licence CC BY 4.0. The file holds the repository's test part, in its order,
as scikit-learn ships it; `python -m npdvae.data.build_digits` rebuilds it.
"""
import pathlib

import numpy as np

from npdvae.data.dataset import Dataset, fixed_order

FILE = pathlib.Path(__file__).with_name("digits.npz")
TRAIN, TEST = 1500, 297


def read():
    """Images uint8 [1797, 64], values 0..16, and labels uint8 [1797], in the order of the source."""
    with np.load(FILE, allow_pickle=False) as content:
        return content["images"], content["labels"]


def split():
    """The fixed permutation of the images: the first 1,500 train, the other 297 test; int [1797]."""
    return fixed_order(TRAIN + TEST)


def load(data_dir=None):
    """The digits as a Dataset: train [1500, 64], test [297, 64], uint8 0..16. `data_dir` is not needed."""
    images, labels = read()
    order = split()
    train, test = order[:TRAIN], order[TRAIN:]
    return Dataset("digits", images[train], images[test], (8, 8), 16, labels[train], labels[test])
