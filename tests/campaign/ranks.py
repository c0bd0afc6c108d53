"""SIGKILL to one of the processes of a run over MPI, which goes on with another number of them."""
from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import time

from tests import mpi
from tests.campaign.base import Tally

WORDS = [*mpi.SMALL, "--epochs", "150", "--checkpoint-every", "2", "--shares", "4"]


def killed(launcher, seconds, r) -> str | None:
    """Kill a process of a run after so many seconds, where it still runs; what is wrong with how the run ends."""
    time.sleep(seconds)
    if not (numbers := mpi.ranks(launcher)) or launcher.poll() is not None:
        said = launcher.communicate()[0]
        return None if launcher.returncode == 0 else said[-300:]
    os.kill(numbers[r.choice(sorted(numbers))], signal.SIGKILL)
    began, said = time.monotonic(), launcher.communicate()[0]
    if time.monotonic() - began > 10 and launcher.returncode:
        return f"the others ended after {time.monotonic() - began:.0f} s"
    return said[-300:] if "Traceback" in said else None


def attacks(place, share, seed):
    """20 kills, by their share, at any instant of runs of one to four processes."""
    tally = Tally("SIGKILL to a process of a run over MPI, resumed with 1, 2 or 4 of them: the bits of one process")
    if importlib.util.find_spec("mpi4py") is None or mpi.MPIEXEC is None:
        tally.note = "not tried: no MPI here"
        yield tally
        return
    r, whole, run, ends = random.Random(seed), place / "whole", place / "run", 0
    began = time.monotonic()
    mpi.trained(0, *WORDS, "--out", whole)
    most, expected = time.monotonic() - began, mpi.ends(whole)
    while tally.tried < max(2, round(20 * share)):
        begun = (run / "config.toml").exists()
        launcher = mpi.started(r.choice([1, 2, 4]), *(["--resume", run] if begun else [*WORDS, "--out", run]))
        fault = killed(launcher, r.uniform(0.3, most), r)
        if launcher.returncode == 0:
            fault, ends = fault or (None if mpi.ends(run) == expected else "other bits at its end"), ends + 1
            shutil.rmtree(run)
        tally.add(f"--only ranks --seed {seed}, kill {tally.tried}", fault)
    if run.exists():
        mpi.trained(2, "--resume", run)
        fault = None if mpi.ends(run) == expected else "other bits at its end"
        tally.add(f"--only ranks --seed {seed}, at last", fault)
    tally.note = f"{ends} runs reached their end before"
    yield tally
