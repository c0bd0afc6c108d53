"""Rebuild digits.npz from scikit-learn's copy of the UCI digits: python -m npdvae.data.build_digits [FILE]."""
import sys

import numpy as np

from npdvae.data import digits


def from_sklearn():
    """Images uint8 [1797, 64], values 0..16, and labels uint8 [1797] of sklearn.datasets.load_digits."""
    from sklearn.datasets import load_digits
    bunch = load_digits()
    return bunch.data.astype(np.uint8), bunch.target.astype(np.uint8)


def main(path=digits.FILE):
    """Write the file."""
    images, labels = from_sklearn()
    np.savez_compressed(path, images=images, labels=labels)
    print(f"{path}: {len(images)} images of {images.shape[1]} pixels, values {images.min()}..{images.max()}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
