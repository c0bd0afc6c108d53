"""One writer a run: a lock on the run's folder that the system gives back when its process ends, however it ends."""
from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
import sys

NAME = ".lock"
FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(
    os, "O_CLOEXEC", 0)
WITHOUT = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}      # a file system that knows no locks


@contextlib.contextmanager
def held(folder: pathlib.Path):
    """Hold a folder, made where it is not there. ValueError where another process does.

    A file system without locks (some network ones) lets everybody in: docs/reliability.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / NAME, FLAGS, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{folder / NAME}: not a regular file")
        if not take(descriptor):
            raise ValueError(f"{folder}: another process is writing to this run")
        yield
    finally:
        os.close(descriptor)                    # and with it the lock


def take(descriptor: int) -> bool:
    """Lock an open file for this process, at once; False where another has it."""
    try:
        if sys.platform == "win32":
            import msvcrt
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in WITHOUT
    return True
