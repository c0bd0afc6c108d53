"""SIGKILL to one of the processes of a run over MPI, which goes on with another number of them."""
from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import time

from tests import mpi
from tests.campaign.base import Tally

WORDS = [*mpi.SMALL, "--epochs", "150", "--checkpoint-every", "2", "--shares", "4"]
PATIENCE = 120                                  # seconds after which processes hang that should have ended


def sent(number) -> bool:
    """Whether a process was there to be killed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
        return True
    return False


def killed(launcher, seconds, r) -> tuple[bool, str | None]:
    """Kill a process of a run so many seconds after it has some: whether one was, what is wrong with the run's end."""
    mpi.until(lambda: mpi.ranks(launcher) or launcher.poll() is not None, "processes of a run")
    time.sleep(seconds)
    numbers, began = mpi.ranks(launcher), time.monotonic()
    hit = bool(numbers) and sent(numbers[r.choice(sorted(numbers))])
    try:
        said, _ = launcher.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        for number in [*mpi.ranks(launcher).values(), launcher.pid]:
            sent(number)
        return hit, f"hangs: {launcher.communicate()[0][-300:]}"
    if not hit:
        return hit, None if launcher.returncode == 0 else said[-300:]
    if time.monotonic() - began > 10 and launcher.returncode:
        return hit, f"the others ended after {time.monotonic() - began:.0f} s"
    return hit, said[-300:] if "Traceback" in said else None


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
    kills = max(2, round(20 * share))
    while tally.tried < kills and ends <= 3 * kills:
        begun = (run / "config.toml").exists()
        launcher = mpi.started(r.choice([1, 2, 4]), *(["--resume", run] if begun else [*WORDS, "--out", run]))
        hit, fault = killed(launcher, r.uniform(0, most), r)
        if launcher.returncode == 0:
            fault, ends = fault or (None if mpi.ends(run) == expected else "other bits at its end"), ends + 1
            shutil.rmtree(run)
        if hit or fault:
            tally.add(f"--only ranks --seed {seed}, kill {tally.tried}", fault)
    if tally.tried < kills:
        tally.add(f"--only ranks --seed {seed}", f"{tally.tried} of {kills} kills: the runs end before")
    if (run / "config.toml").exists():
        mpi.trained(2, "--resume", run)
        fault = None if mpi.ends(run) == expected else "other bits at its end"
        tally.add(f"--only ranks --seed {seed}, at last", fault)
    tally.note = f"{ends} runs reached their end before"
    yield tally
