"""A shell beside each process that says so when the process is killed: nobody else could, for it cannot itself.

MPI's launcher then ends the others; their shells hold their tongue, since the first has left a file.
"""
from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile

from npdvae.process import SIGNALS

WATCH = """read _ && exit
set -C
{ : > "$1/died"; } 2>/dev/null || exit
echo "$2" >&2
exec 2>/dev/null
sleep 5
rm -rf "$1"
"""


class Guard:
    """Around the work of one process of a team; only where a POSIX shell can be started."""

    def __init__(self, team):
        self.folder = team.first(tempfile.mkdtemp, "", "npdvae-")
        self.team, self.shell = team, None
        line = (f"npdvae: rank {team.rank} of {team.size} (process {os.getpid()} on {socket.gethostname()}) died, "
                "so the job ends; --resume goes on from the last checkpoint")
        if os.name == "posix" and team.size > 1:
            with contextlib.suppress(OSError):  # the work goes on, less the line
                os.makedirs(self.folder, exist_ok=True)             # on another machine
                self.shell = subprocess.Popen(["sh", "-c", WATCH, "sh", self.folder, line], stdin=subprocess.PIPE,
                                              stdout=subprocess.DEVNULL, start_new_session=True)

    def __enter__(self):
        for number in SIGNALS:                  # a process that a signal ends has not died
            if callable(before := signal.getsignal(number)):
                signal.signal(number, functools.partial(self.interrupted, before))
        return self

    def interrupted(self, before, number, frame):
        self.dismiss()
        before(number, frame)

    def __exit__(self, *raised):
        self.dismiss()

    def dismiss(self):
        """The process is about to end by itself."""
        if self.shell is not None and self.shell.stdin is not None:
            with contextlib.suppress(OSError, ValueError, RuntimeError):    # the last two: a signal's, within another
                self.shell.communicate(b"\n")
        self.shell = None
        shutil.rmtree(self.folder, ignore_errors=True)
