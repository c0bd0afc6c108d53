"""A folder of IDX files in MNIST's naming, gzip-compressed or not, such as Fashion-MNIST or EMNIST."""
import pathlib

from npdvae.data import arrays, idx
from npdvae.data.dataset import Dataset

SPLITS = (("train", ("train",)), ("test", ("t10k", "test")))


def load(path):
    """Dataset of *train-images-idx3-ubyte[.gz] and *t10k-images-idx3-ubyte[.gz] (or *test-...); labels if present."""
    path = pathlib.Path(path)
    images, labels = [], []
    for split, prefixes in SPLITS:
        file = find(path, prefixes, "images?idx3-ubyte")
        if file is None:
            raise ValueError(f"folder {path} has no {split} images: expected {prefixes[0]}-images-idx3-ubyte[.gz]")
        images.append((idx.read(file), file))
        file = find(path, prefixes, "labels?idx1-ubyte")
        labels.append(None if file is None else idx.read(file))
    train, test, shape, levels = arrays.check(images)
    return Dataset(path.name, train, test, shape, levels, *labels)


def find(path, prefixes, stem):
    """The one file of the folder that matches, uncompressed before compressed; None where there is none."""
    for suffix in ("", ".gz"):
        matches = [m for p in prefixes for m in sorted(path.glob(f"*{p}-{stem}{suffix}")) if m.is_file()]
        if len(matches) > 1:
            raise ValueError(f"folder {path} is ambiguous: {matches[0].name} and {matches[1].name}")
        if matches:
            return matches[0]
    return None
