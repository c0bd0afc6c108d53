"""Unprivileged users, no home, no shared memory, folders that cannot be written, clocks that go backwards."""
from __future__ import annotations

import itertools
import os
import pathlib
import random
import subprocess
import sys
import time

from npdvae import metrics, train
from tests import hostile
from tests.campaign.base import Tally, child, verdict

ROOT = pathlib.Path(__file__).resolve().parents[2]
WITHOUT_SHM = "mount -t tmpfs -o size=0,nr_inodes=1 none /dev/shm && exec \"$@\""


def shell(tally, what, words, environment, **options):
    """A run in an environment of its own: it trains, or says in one line why it cannot."""
    done = subprocess.run([*words], env=environment, capture_output=True, text=True, check=False, **options)
    good = done.returncode == 0 or done.returncode == 2 and done.stderr.count("npdvae: error: ") == 1
    tally.add(f"--only surroundings, {what}", None if good and "Traceback" not in done.stderr else
              f"{done.returncode}: {done.stderr[-300:]}", done.returncode == 2)


def others_may():
    """Whether another user can run this Python from here."""
    try:
        return subprocess.run([sys.executable, "-c", "import numba"], user=65534, group=65534, check=False,
                              env={"PATH": os.environ["PATH"]}, cwd="/", capture_output=True).returncode == 0
    except (PermissionError, ValueError):
        return False


def clock(kind, words):
    """A run whose clocks stand still, jump, or go backwards."""
    ticks, r = itertools.count(), random.Random(0)
    tells = {"backwards": lambda: 1e9 - 10 * next(ticks), "still": lambda: 1e9, "jumping": lambda: r.uniform(0, 2e9)}
    time.time = time.perf_counter = time.monotonic = tells[kind]
    return train.main(words)


def attacks(place, share, seed):
    """One run each."""
    tally = Tally("surroundings: other users, no home, no /dev/shm, folders that cannot be written")
    python = [sys.executable, "-m", "npdvae.train", *hostile.SMALL]
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    place.chmod(0o755)
    for parent in place.parents[:1]:
        parent.chmod(0o755)
    cases = {"no HOME": {}, "HOME that is not there": {"HOME": "/nonexistent"}, "HOME a file": {"HOME": "/etc/passwd"},
             "no locale": {"HOME": "/tmp", "LC_ALL": "C", "PYTHONUTF8": "0"},
             "cache that is no folder": {"XDG_CACHE_HOME": "/etc/passwd"}}
    backends = ("numpy", "numba") if share >= 1 else ("numpy",)
    for number, (what, more) in enumerate(cases.items()):
        for backend in backends:
            out = str(place / f"{number}{backend}")
            shell(tally, f"{what}, {backend}", [*python, "--backend", backend, "--out", out], {**plain, **more})
    if not others_may():
        tally.note = "not tried: other users, who may not run this Python, or nobody may be them"
    else:
        own = place / "nobody"
        own.mkdir()
        os.chown(own, 65534, 65534)
        for user in (65534, 54321):             # the second has no entry in the list of users
            for out in (own / f"r{user}", place / "root-only" / "r"):
                shell(tally, f"user {user}, {out.parent.name}", [*python, "--out", str(out)], plain, user=user,
                      group=65534)
            own.chmod(0o777)
    if os.name == "posix" and os.geteuid() == 0:
        without = ["unshare", "-m", "sh", "-c", WITHOUT_SHM, "-"]
        if subprocess.run([*without, "true"], capture_output=True, check=False).returncode == 0:
            for backend in backends:
                out = str(place / f"shm{backend}")
                shell(tally, f"no /dev/shm, {backend}", [*without, *python, "--backend", backend, "--out", out], plain)
        else:
            tally.note += "; not tried: no /dev/shm, which takes unshare"
    yield tally
    tally = Tally("clocks that go backwards, stand still, jump")
    for kind in ("backwards", "still", "jumping"):
        run = place / kind
        o = child(clock, kind, [*hostile.SMALL, "--out", str(run)])
        fault = verdict(o, (0,)) or (None if len(metrics.read(run)) == 2 else "no history")
        tally.add(f"--only surroundings, {kind}", fault)
    yield tally
