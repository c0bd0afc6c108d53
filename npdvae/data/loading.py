"""Reading a data set by its name or from a path."""
from __future__ import annotations

import difflib
import pathlib

from npdvae.data import arrays, digits, folder, mnist
from npdvae.data.dataset import Dataset
from npdvae.files import home

NAMED = {"digits": digits.load, "mnist": mnist.load}


def names() -> tuple[str, ...]:
    """The registered data sets."""
    return tuple(sorted(NAMED))


def load(name_or_path: str | pathlib.Path, data_dir: str | pathlib.Path | None = None) -> Dataset:
    """A Dataset by its registered name, or from a folder of IDX files, a .npz or a .npy.

    data_dir: where the files of a named data set lie; the embedded digits need none.
    Raises ValueError with one line that names the file and what was wrong with it.
    """
    if str(name_or_path) in NAMED:
        return NAMED[str(name_or_path)](data_dir)
    path = home(name_or_path)
    if path.is_dir():
        return folder.load(path)
    if path.suffix not in (".npz", ".npy"):
        near = difflib.get_close_matches(str(name_or_path), NAMED, 1)
        hint = f" (did you mean {near[0]}?)" if near and not path.exists() else ""
        what = "is not a .npz or .npy file" if path.exists() else "is no data set and no path"
        raise ValueError(f"data {str(name_or_path)!r} {what}{hint}; expected {', '.join(names())}, "
                         "a folder of IDX files, a .npz or a .npy")
    if not path.is_file():
        raise ValueError(f"data file {path} does not exist")
    return arrays.load(path)
