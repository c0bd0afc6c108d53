"""Files that others may have written: opened where they are regular, read up to a limit, never half-written."""
from __future__ import annotations

import contextlib
import os
import pathlib
import stat
from typing import BinaryIO

INFLATED = 100                                  # MB that compressed data may inflate to, unless $NPDVAE_INFLATE_MB
TIMES = 20                                      # or so many times its size, where that is more
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def opened(path) -> BinaryIO:
    """A regular file, to be read. ValueError for a FIFO, a device or a folder: reading one might never end."""
    descriptor = os.open(path, FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")


def read(path, most: int) -> bytes:
    """The bytes of a regular file. ValueError where there are more than `most`."""
    with opened(path) as file:
        content = b"" if (size := os.fstat(file.fileno()).st_size) > most else file.read(most + 1)
    if max(size, len(content)) > most:
        raise ValueError(f"{path}: {size} bytes, expected at most {most}")
    return content


def check_inflated(promised: int, size: int, where):
    """Raise ValueError where `size` compressed bytes promise more than they may inflate to: a bomb, most likely."""
    try:
        most = float(os.environ.get("NPDVAE_INFLATE_MB") or INFLATED) * 1e6
    except ValueError:
        raise ValueError(f"NPDVAE_INFLATE_MB: got {os.environ['NPDVAE_INFLATE_MB']!r}, expected a number") from None
    if promised > max(most, TIMES * size):
        raise ValueError(f"{where}: {size} compressed bytes promise {promised}, more than the {most / 1e6:g} MB that "
                         "NPDVAE_INFLATE_MB allows")


def home(path) -> pathlib.Path:
    """The path with ~ and ~user resolved. ValueError where there is no such home."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: no home folder is known for it") from None


def write_durably(target: pathlib.Path, data: bytes):
    """Replace `target` by `data` so that after a crash, at any instant, it holds all of the old or all of the new.

    OSError, which names the target, leaves the old.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    sync_folder(target.parent)
    with contextlib.suppress(PermissionError):  # of a folder that may be passed through, not read
        sync_folder(target.parent.parent)       # the folder itself may be new


def write_named(path: pathlib.Path, data: bytes):
    """Write what a user named: durably, or straight into what is no plain file, such as /dev/stdout, a pipe, a link."""
    if path.is_symlink() or path.exists() and not path.is_file():
        path.write_bytes(data)
    else:
        write_durably(path, data)


def sync_folder(folder):
    """Make renames in a folder durable; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
