"""How CPU kernels are compiled: nogil, IEEE division, and a cache on disk that is never stale and never required.

A kernel is a plain Python function on NumPy arrays; under NUMBA_DISABLE_JIT=1 it runs as written.
"""
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import time

from numba import config, njit

from npdvae.kernels.cpu import target

UNUSED = 30 * 24 * 3600                         # seconds
CONTRACT = {"contract"}                         # a*b + c as one fused operation; keeps every comparison and NaN
SUMS = {"contract", "reassoc", "nsz"}           # sums may be reordered, so that they vectorise; keeps NaN and infinity


def sources_hash():
    """Hash of all kernel sources beside this file: a compiled helper is inlined in its callers, whatever their file."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def user_cache():
    """The user's cache folder by the platform's custom."""
    if os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(os.environ["XDG_CACHE_HOME"])
    home = pathlib.Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA", home))
    return home / ".cache"


def cache_folder():
    """A writable folder for compiled kernels, named by all sources and the tile; None where nothing can be written."""
    try:
        folder = user_cache() / "npdvae" / f"kernels-{sources_hash()}-{target.CHOICE}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        os.utime(folder)                        # in use
        forget(folder.parent)
        return str(folder)
    except (OSError, RuntimeError):
        return None


def forget(parent):
    """Remove compiled kernels of other sources that nobody has used for a month."""
    for folder in parent.glob("kernels-*"):
        if folder.stat().st_mtime < time.time() - UNUSED:
            shutil.rmtree(folder, ignore_errors=True)


FOLDER = None if config.DISABLE_JIT else cache_folder()


def cold():
    """Whether nothing is in the cache yet, so that the first call compiles everything."""
    return FOLDER is None or not any(pathlib.Path(FOLDER).rglob("*.nbi"))


def kernel(fastmath):
    """Decorator: compile on first call, for the types of that call, with the given floating-point freedoms."""
    def decorate(function):
        before = config.CACHE_DIR
        config.CACHE_DIR = FOLDER or before
        try:
            return njit(nogil=True, error_model="numpy", fastmath=fastmath, cache=FOLDER is not None)(function)
        finally:
            config.CACHE_DIR = before
    return decorate


def helper(function):
    """Decorator of a function that kernels inline: its own arithmetic is never reordered."""
    return njit(nogil=True, error_model="numpy", fastmath=CONTRACT)(function)
