"""First starts: four at once with one empty cache; the cache removed or damaged while a run goes on."""
from __future__ import annotations

import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

from tests import hostile
from tests.campaign.base import Tally

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUMBA = [*hostile.SMALL, "--backend", "numba", "--epochs", "20"]


def start(cache, out):
    """A training in a new process with its own place for compiled kernels."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "npdvae.train", *NUMBA, "--out", str(out)], env=environment,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def judge(tally, what, process):
    """It has trained to its end."""
    err = process.communicate()[1]
    tally.add(f"--only cold, {what}", None if process.returncode == 0 and "Traceback" not in err else err[-300:])


def spoil(cache, kind, r):
    """Remove the cache, or a file, or damage files."""
    paths = [p for p in cache.rglob("*.nb[ci]") if p.is_file()]
    if kind == "removed" or not paths:
        shutil.rmtree(cache, ignore_errors=True)
        return
    for path in paths if kind != "one" else [r.choice(paths)]:
        data = path.read_bytes()
        flipped = bytes(b ^ 1 for b in data[:99]) + data[99:]
        path.write_bytes({"empty": b"", "cut": data[:len(data) // 2]}.get(kind, flipped))


def attacks(place, share, seed):
    """Cold starts cost a minute of compiling each: none in a small share."""
    tally = Tally("cold starts of four processes at once; the kernel cache removed or damaged, before and during a run")
    if share >= 0.1:
        cache, r = place / "cache", random.Random(seed)
        for number, process in enumerate([start(cache, place / f"four{n}") for n in range(4)]):
            judge(tally, f"start {number} of four", process)
        for kind in ("removed", "empty", "cut", "flipped", "one"):
            process = start(cache, place / f"during-{kind}")
            time.sleep(r.uniform(0.5, 3))
            spoil(cache, kind, r)
            judge(tally, f"{kind} while running", process)
            judge(tally, f"after {kind}", start(cache, place / f"after-{kind}"))
    yield tally
