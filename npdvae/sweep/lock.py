"""Locks that die with the process that holds them, whichever way it ends."""
from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import time
from typing import IO

import npdvae.lock


class Busy(ValueError):
    """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def held(path: pathlib.Path, what: str, wait: bool = False):
    """Hold the lock of a file, waiting for it or raising Busy where another process has it."""
    with open(path, "a+") as file:
        while not take(file):
            if not wait:
                file.seek(0)
                raise Busy(f"{what} is in the hands of {file.read().strip() or 'another process'}: wait for it to end")
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def taken(path: pathlib.Path) -> bool:
    """Whether some process holds the lock."""
    try:
        with open(path, "r+") as file:
            return not take(file)
    except FileNotFoundError:
        return False


def take(file: IO[str]) -> bool:
    """Lock an open file at once, or not at all; closing it gives the lock back."""
    file.seek(2 ** 30)                          # on Windows locks are of bytes: one that nobody reads
    return npdvae.lock.take(file.fileno())
