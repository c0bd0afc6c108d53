"""What every attack needs: a child process that is measured, a verdict on how it ended, a tally."""
from __future__ import annotations

import contextlib
import io
import os
import pathlib
import random
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST_SECONDS = 5.0                              # of processor time to refuse an input of under 10 MB
MOST_MB = 512
PATIENCE = 900                                  # seconds by the clock after which a child hangs, on a busy machine


class Outcome(NamedTuple):
    """How a child ended: exit code (minus the signal), what it wrote, processor seconds, largest size in MB."""

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float


@dataclass
class Tally:
    """What an attack tried, and what failed: (how to repeat it, what happened)."""

    name: str
    tried: int = 0
    refused: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""

    def add(self, repeat: str, fault: str | None, refused: bool = False):
        """One try, and what was wrong with it."""
        self.tried += 1
        self.refused += refused
        if fault:
            self.failures.append((repeat, fault))


class Child:
    """A fork of this process that runs a function: started, killed or waited for."""

    def __init__(self, function, *arguments):
        self.file = tempfile.TemporaryFile()
        self.errors = tempfile.TemporaryFile()
        self.began = time.monotonic()
        self.number = os.fork()
        if self.number == 0:
            run(function, arguments, self.file.fileno(), self.errors.fileno())

    def kill(self, number=signal.SIGKILL):
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.number, number)

    def wait(self) -> Outcome:
        """Its outcome; -9 and a remark where it hung."""
        hung, usage, status = "", None, 0
        while usage is None:
            number, status, usage_now = os.wait4(self.number, os.WNOHANG)
            usage = usage_now if number else None
            if usage is None:
                time.sleep(0.002)
                if time.monotonic() - self.began > PATIENCE and not hung:
                    hung = "hangs "
                    self.kill()
        texts = []
        for file in (self.file, self.errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Outcome(os.waitstatus_to_exitcode(status), texts[0], hung + texts[1], usage.ru_utime + usage.ru_stime,
                       usage.ru_maxrss / 1024)


def run(function, arguments, out, err):
    """The child's part: never returns."""
    code = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        with open(1, "w", closefd=False) as stdout, open(2, "w", closefd=False) as stderr, \
                contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                code = function(*arguments) or 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
    finally:
        os._exit(code)


def child(function, *arguments) -> Outcome:
    """The outcome of a function in a process of its own."""
    return Child(function, *arguments).wait()


def verdict(o: Outcome, codes=(0, 2), measured=True) -> str | None:
    """What is wrong with how a command ended: a traceback, a silent or long refusal, a size; None where all is well."""
    said = [line for line in o.err.splitlines() if line.startswith("npdvae: error: ")]
    if o.code not in codes:
        return f"exit code {o.code}: {o.err[-300:]}"
    if "Traceback" in o.err or "Warning" in o.err:
        return o.err[-300:]
    if o.code == 2 and len(said) != 1:
        return f"refused with {len(said)} lines: {o.err[-300:]}"
    if measured and o.code == 2 and (o.seconds > MOST_SECONDS or o.megabytes > MOST_MB):
        return f"refused after {o.seconds:.1f} s with {o.megabytes:.0f} MB"
    return None


def quiet(function, *arguments) -> Any:
    """Call with nothing printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)


def mutate(r: random.Random, data: bytes) -> bytes:
    """Flip bits, cut, repeat, insert, overwrite with numbers that like to overflow."""
    data = bytearray(data)
    for _ in range(r.choice([1, 1, 1, 2, 5])):
        at, kind = r.randrange(len(data) + 1), r.randrange(8)
        if kind <= 1 and data:
            data[at - 1] ^= 1 << r.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at:at + r.choice([1, 4, 16, 300])]
        elif kind == 4:
            data[at:at] = data[:r.choice([1, 8, 100])]
        elif kind == 5:
            data[at:at] = r.choice([b"[" * 2000, b"9" * 30, b"-1", b"\0" * 9, b"1e400", b"nan", b"{}", b"\xff", b'"'])
        elif kind == 6:
            data[at:at + 8] = r.choice([b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x80\0\0\0\0"])
        else:
            data[at:at + 4] = r.randbytes(4)
    return bytes(data)


def folder(place: pathlib.Path, name: str) -> pathlib.Path:
    """A new folder."""
    (place / name).mkdir(parents=True)
    return place / name
