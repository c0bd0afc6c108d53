"""MNIST (Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0): four IDX files, found or fetched, each with a pinned sha256.

Looked for in `data_dir` where given, else in $NPDVAE_DATA, else in the user's cache; the files lie there or in a
folder mnist/ below, gzip-compressed or not. What is missing is downloaded, except into a given `data_dir`.
"""
import hashlib
import io
import os
import pathlib
import sys

from npdvae.data import download, idx
from npdvae.data.dataset import Dataset
from npdvae.files import home, read

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
CAP = 16 * 2 ** 20                              # bytes of a compressed file
TRAIN = "train-images-idx3-ubyte"               # the largest
FILES = {                                       # uncompressed size and sha256
    TRAIN: (47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}


def load(data_dir=None):
    """MNIST as a Dataset: train [60000, 784], test [10000, 784], uint8 0..255, shape (28, 28).

    Raises ValueError where a file is missing from `data_dir`, damaged, or not the original.
    """
    if data_dir is None:
        arrays = [cached(name, cache_dir() / "mnist") for name in FILES]
    else:
        folder = home(data_dir)
        if not folder.is_dir():
            raise ValueError(f"data folder {folder} does not exist")
        arrays = [from_folder(name, folder) for name in FILES]
    train, train_labels, test, test_labels = arrays
    return Dataset("mnist", train.reshape(len(train), -1), test.reshape(len(test), -1), train.shape[1:], 255,
                   train_labels, test_labels)


def cache_dir():
    """$NPDVAE_DATA, or npdvae in the user's cache folder."""
    if os.environ.get("NPDVAE_DATA"):
        return home(os.environ["NPDVAE_DATA"])
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return home(base) / "npdvae"


def find(name, folder):
    """The path of a file in the folder or its mnist/ subfolder; None where it is in neither."""
    places = [folder / sub / (name + suffix) for sub in ("", "mnist") for suffix in ("", ".gz")]
    return next((p for p in places if p.is_file()), None)


def from_folder(name, folder):
    """Array of one of the files in a folder; ValueError where it is missing or not the original."""
    path = find(name, folder)
    if path is None:
        raise ValueError(f"data folder {folder} lacks {name}.gz (or {name} uncompressed)")
    return verify(read(path, 2 * FILES[TRAIN][0]), path)


def cached(name, folder, mirrors=None, **limits):
    """Array of one of the files in the cache (`folder` or the one above), downloaded first where it is not there."""
    path = find(name, folder.parent)
    if path is not None:
        try:
            return verify(read(path, 2 * FILES[TRAIN][0]), path)
        except ValueError as fault:
            print(f"{fault}: downloading it again", file=sys.stderr)
    try:
        return download.fetch([m + name + ".gz" for m in mirrors or MIRRORS], folder / (name + ".gz"),
                              lambda content, url: verify(content, url, name), CAP, **limits)
    except ValueError as fault:
        raise ValueError(f"{fault}. Put the four MNIST files into a folder and pass it as --data-dir") from None


def verify(content, where, name=None):
    """Array of one of the files from its bytes, compressed or not; ValueError unless size and sha256 are right."""
    size, digest = FILES[name or pathlib.Path(where).name.removesuffix(".gz")]
    raw = idx.unpack(io.BytesIO(content), len(content), where, expected=size)
    got = hashlib.sha256(raw).hexdigest()
    if got != digest:
        raise ValueError(f"{where}: wrong content: sha256 {got[:16]}... of the uncompressed bytes, expected "
                         f"{digest[:16]}...")
    return idx.parse(raw, where)
