"""What a process has: its cores; and, where it runs a command, one line for a signal at any instant, and its streams.

Nothing here acts in a program that only imports the package.
"""
from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
COMMANDS = ("npdvae", "npdvae.exe", "npdvae-script.py")             # names of the console script
active = False                                  # whether this process is a command


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived and the state is saved; `code` is what the process exits with, 128 + signal."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.code = 128 + number


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_command() -> bool:
    """Whether Python was started as `python -m npdvae...` or as the script, and has not come further yet."""
    words = sys.orig_argv[1:]
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    as_module = sys.argv[:1] == ["-m"] and (module + ".").startswith("npdvae.")
    return as_module or os.path.basename(sys.argv[0] if sys.argv else "") in COMMANDS


def start():
    """Take signals and open what is closed of the standard streams; the first thing that a command does."""
    global active
    active = True
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:          # nohup, or a shell's background job
            signal.signal(number, end)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:                         # else the next file opened, a checkpoint say, would be stdout
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")
    sys.excepthook = refuse


def end(number: int, frame: FrameType | None):
    """End at once, with one line: nothing that is worth saving exists, or it is saved already."""
    with contextlib.suppress(OSError):
        os.write(2, f"npdvae: interrupted by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def refuse(kind, error, trace):
    """Failures for want of memory while modules are still being loaded: one line too."""
    if not issubclass(kind, (MemoryError, SystemError)) or os.environ.get("NPDVAE_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        return
    os.write(2, f"npdvae: error: cannot start: {kind.__name__}, most likely for want of memory\n".encode())
    os._exit(2)


def over(code: int) -> int:
    """The exit code of a command that has done its work: a signal no longer changes it."""
    if active:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    return code


@contextlib.contextmanager
def signals(act):
    """Within, signals call `act(number, frame)`; a command that leaves by Interrupted ignores what comes after it."""
    try:
        before = {number: signal.signal(number, act) for number in SIGNALS}
    except ValueError:                          # not the main thread: signals are not ours
        yield
        return
    try:
        yield
    except Interrupted:
        if active:
            before = dict.fromkeys(SIGNALS, signal.SIG_IGN)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
