"""A full disk and a failing one at every call of a run that reaches it: one line, and the same bits afterwards."""
from __future__ import annotations

import errno
import os
import pathlib
import shutil

from npdvae import checkpoint, evaluate, files, metrics, report, train
from tests import hostile
from tests.campaign.base import Tally, child, verdict


class Disk:
    """Counts the calls that reach the disk below a folder, and lets one of them fail."""

    def __init__(self, place, fails_at=None, error=errno.ENOSPC):
        self.place, self.fails_at, self.error, self.calls = str(place), fails_at, error, []

    def passing(self, call, path):
        """Count a call; raise at the chosen one."""
        if path is not None and not str(path).startswith(self.place):
            return
        self.calls.append(call)
        if len(self.calls) - 1 == self.fails_at:
            raise OSError(self.error, os.strerror(self.error))

    def around(self, owner, name, call, path=lambda a: a[0]):
        """Let a function pass here before each call."""
        function = getattr(owner, name)

        def passing(*arguments, **options):
            self.passing(call, path(arguments))
            return function(*arguments, **options)

        setattr(owner, name, passing)

    def mount(self):
        """Stand between the run and the disk, in this process."""
        self.around(os, "fsync", "fsync", lambda a: None)
        self.around(os, "replace", "replace")
        self.around(os, "open", "os.open")
        self.around(pathlib.Path, "mkdir", "mkdir")
        self.around(pathlib.Path, "unlink", "unlink")
        for module in (files, metrics):
            module.open = self.opened
        real = os.fdopen
        os.fdopen = lambda *a, **k: Passing(real(*a, **k), self)
        return self

    def opened(self, path, *mode, **options):
        """The built-in open, whose reads and writes pass here."""
        self.passing("open", path)
        return Passing(open(path, *mode, **options), self)


class Passing:
    """An open file whose reads, writes and flushes pass the disk."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def write(self, data):
        self.disk.passing("write", None)
        return self.file.write(data)

    def flush(self):
        self.disk.passing("flush", None)
        return self.file.flush()

    def read(self, *size):
        self.disk.passing("read", None)
        return self.file.read(*size)

    def readline(self, *size):
        self.disk.passing("read", None)
        return self.file.readline(*size)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def counted(place, main, words):
    """The calls of a command, one name a line, written beside the folder."""
    disk = Disk(place).mount()
    code = main(words)
    print("\ncalls " + " ".join(disk.calls))
    return code


def failing(place, at, error, main, words):
    """A command whose call number `at` fails."""
    Disk(place, at, error).mount()
    return main(words)


def bits(run):
    """What a run has come to."""
    arrays = checkpoint.latest(run).arrays
    return {k: v.tobytes() for k, v in arrays.items()}, [
        {k: v for k, v in line.items() if not k.startswith("seconds")} for line in metrics.read(run)]


def attacks(place, share, seed):
    """Training and resume: ENOSPC and EIO; the readers: EIO."""
    run, whole = place / "run", place / "whole"
    words = [*hostile.SMALL, "--keep-checkpoints", "1"]
    child(train.main, [*words, "--out", str(whole)])
    expected = bits(whole)
    calls = child(counted, run, train.main, [*words, "--out", str(run)]).out.rpartition("calls ")[2].split()
    tally = Tally("ENOSPC and EIO at every call of a training that reaches the disk, then resumed to the same bits")
    points = range(0, len(calls), max(1, round(1 / share)) if share < 1 else 1)
    for at in points:
        for error in (errno.ENOSPC, errno.EIO):
            shutil.rmtree(run, ignore_errors=True)
            o = child(failing, run, at, error, train.main, [*words, "--out", str(run)])
            fault = verdict(o, (0, 2)) or resumed(run, words, expected)
            tally.add(f"--only faults, call {at} ({calls[at]}), {errno.errorcode[error]}", fault, o.code == 2)
    tally.note = f"{len(calls)} calls"
    yield tally
    tally = Tally("EIO at every call of evaluate, report and resume that reaches the disk")
    for command, more in ((evaluate, ["--samples", "1"]), (report, ["--samples", "1"]), (train, [])):
        arguments = ["--resume", str(run), "--epochs", "3"] if command is train else [str(run), *more]
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        calls = child(counted, run, command.main, arguments).out.rpartition("calls ")[2].split()
        for at in range(0, len(calls), max(1, round(1 / share)) if share < 1 else 1):
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(whole, run)
            o = child(failing, run, at, errno.EIO, command.main, arguments)
            fault = verdict(o, (0, 2))
            if not fault and command is not train and bits(run) != expected:
                fault = "a reader changed the run"
            if not fault and command is train and len(metrics.read(run)) < 2:
                fault = "history lost"
            tally.add(f"--only faults, {command.__name__} call {at} ({calls[at]})", fault, o.code == 2)
    yield tally


def resumed(run, words, expected) -> str | None:
    """What is wrong with the run after it has gone on, or begun again where nothing was there to go on with."""
    began = (run / "config.toml").exists()
    arguments = ["--resume", str(run)] if began else [*words, "--out", str(run)]
    o = child(train.main, arguments)
    if o.code != 0:
        return f"cannot go on: {o.code} {o.err[-200:]}"
    return None if bits(run) == expected else "other bits than an undisturbed run"
