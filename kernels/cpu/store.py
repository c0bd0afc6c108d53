"""Where compiled kernels are kept on disk: a folder of the user's own, files with digests; never stale, never required.

What is kept are pickles and machine code, so the folder counts only where nobody else may write to it.
"""
import atexit
import contextlib
import hashlib
import os
import pathlib
import platform
import shutil
import stat
import sys
import tempfile
import time

import llvmlite
import numba

from npdvae.kernels.cpu import target

UNUSED = 30 * 24 * 3600                         # seconds
OTHERS = stat.S_IWGRP | stat.S_IWOTH
MARK = b"npdvae kernel 1\n"                     # then a SHA-256, and what it is of
DIGEST = hashlib.sha256().digest_size
CHOSEN: list = []                               # the folder of this process, once it is known


def say(line):
    """One line to the user, where there is anybody to read it."""
    try:
        print(f"npdvae: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):               # closed
        pass


def sources_hash():
    """Hash of all kernel sources beside this file and of what compiles them: a helper is compiled into its callers."""
    digest = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, platform.python_version())).encode())
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


def open_to(folder):
    """Who else may change what lies in a folder, in a few words with the remedy, or None; POSIX permissions."""
    if os.name != "posix":
        return None
    folder, own = folder.resolve(), os.geteuid()
    for path in (folder, *folder.parents):
        info, above = path.stat(), path not in (folder, folder.parent)
        if info.st_uid != own and not (above and info.st_uid == 0):
            return f"{path} belongs to user {info.st_uid}"
        if info.st_mode & (stat.S_IWOTH if above else OTHERS) and not (above and info.st_mode & stat.S_ISVTX):
            return f"others may write to {path} (chmod go-w)"
    return None


def cache_folder():
    """A folder that only the user can write to, named by sources and tile; None where there is none, and a line why."""
    try:
        folder = user_cache() / "npdvae" / f"kernels-{sources_hash()}-{target.CHOICE}"
        for path in (*reversed(folder.parents), folder):
            path.mkdir(mode=0o700, exist_ok=True)
        if reason := open_to(folder):
            say(f"compiled kernels are not kept: {reason}")
            return None
        with tempfile.TemporaryFile(dir=folder):
            pass
        os.utime(folder)                        # in use
        forget(folder.parent)
        return folder
    except (OSError, RuntimeError) as error:    # nothing can be written; no home
        say(f"compiled kernels are not kept: {error}")
        return None


def forget(parent):
    """Remove compiled kernels of other sources that nobody has used for a month."""
    for folder in parent.glob("kernels-*"):
        with contextlib.suppress(OSError):      # another process does the same
            if folder.stat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(folder, ignore_errors=True)


def folder():
    """The folder of this process: the user's, or a temporary one that goes with the process, or None."""
    if not CHOSEN:
        CHOSEN.append(cache_folder() or temporary())
    return CHOSEN[0]


def temporary():
    """A folder that goes with this process, or None."""
    try:
        own = pathlib.Path(tempfile.mkdtemp(prefix="npdvae-kernels-"))
    except OSError:
        return None
    atexit.register(forget_own, own, os.getpid())
    return own


def forget_own(own, process):
    """Remove a temporary folder at the end of the process that made it, not of one forked from it."""
    if os.getpid() == process:
        shutil.rmtree(own, ignore_errors=True)


def load(name):
    """What is kept under a name, bytes, or None; a damaged file is thrown away."""
    if folder() is None:
        return None
    try:
        content = (folder() / name).read_bytes()
    except OSError:
        return None
    start = len(MARK) + DIGEST
    if content[:len(MARK)] == MARK and hashlib.sha256(content[start:]).digest() == content[len(MARK):start]:
        return content[start:]
    discard(name)
    return None


def discard(name):
    """Throw away what cannot be used."""
    say(f"a damaged compiled kernel is thrown away, and compiled again: {folder() / name}")
    with contextlib.suppress(OSError):
        (folder() / name).unlink(missing_ok=True)


def save(name, data):
    """Keep bytes under a name, whole or not at all; quietly not, where nothing can be written."""
    if folder() is None:
        return
    part = folder() / f"{name}.{os.getpid()}.part"
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(MARK + hashlib.sha256(data).digest() + data)
        os.replace(part, folder() / name)
    except OSError:                             # full, read-only or removed: the next process compiles again
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
