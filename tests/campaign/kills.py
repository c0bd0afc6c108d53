"""SIGKILL at random instants, of trainings, first runs and sweeps, and resume to the bits of an undisturbed run."""
from __future__ import annotations

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from npdvae import checkpoint, process, train
from tests import hostile, sweeps
from tests.campaign.base import Child, Tally, child, quiet
from tests.campaign.faults import bits

ROOT = pathlib.Path(__file__).resolve().parents[2]


def words(backend):
    """A run that saves at every other step."""
    return [*hostile.SMALL, "--backend", backend, "--epochs", "8", "--batch-size", "150", "--checkpoint-every", "2",
            "--estimator", "reinforce", "--baseline", "running_mean", "--prior", "learned"]


def command(words):
    """What a process does that was started as a command."""
    process.start()
    return train.main(words)


def starting(place, number, times, seed) -> Tally:
    """Signals to a new process in its first moments, from the first line of the package on."""
    name = signal.Signals(number).name
    tally = Tally(f"{name} once and again in the first moments of `python -m npdvae.train`: one line, {128 + number}")
    r = random.Random(seed)
    for case in range(times):
        ready, done = os.pipe()
        words = [*hostile.SMALL, "--epochs", "999", "--out", str(place / f"start{name}{case}")]
        code = f"import os, sys; sys.orig_argv[1:1] = ['-m', 'npdvae.train']; sys.argv = ['-m']; import npdvae; " \
               f"os.close({done}); import runpy; sys.argv = ['npdvae', *{words!r}]; " \
               f"runpy.run_module('npdvae.train', run_name='__main__')"
        victim = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, pass_fds=[done],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(done)
        os.read(ready, 1)                       # the package's first line is done
        os.close(ready)
        time.sleep(r.uniform(0, 2))
        for _ in range(r.choice([1, 2, 5])):
            victim.send_signal(number)
            time.sleep(r.choice([0, 0.01]))
        out, err = victim.communicate()
        lines = err.count("\n") + out.count("interrupted; saved")
        tally.add(f"--only kills --seed {seed}, start {case}", None if victim.returncode == 128 + number and lines == 1
                  else f"{victim.returncode}: {out[-100:]} {err[-300:]}")
    return tally


def killed(place, backend, kills, seed, number=signal.SIGKILL) -> Tally:
    """One run after another, each killed again and again until it ends; each ends in the same bits."""
    name = signal.Signals(number).name
    tally = Tally(f"{name} at a random instant of a training ({backend}), resumed to the same bits")
    whole, run, r, ends = place / f"whole-{backend}-{name}", place / f"run-{backend}-{name}", random.Random(seed), 0
    if backend == "numpy":
        quiet(train.main, [*words(backend), "--out", str(whole)])   # here, so that children need not load the modules
    else:
        child(train.main, [*words(backend), "--out", str(whole)])   # compiles, where anything is left to compile
    shutil.rmtree(whole, ignore_errors=True)
    began = time.monotonic()
    child(train.main, [*words(backend), "--out", str(whole)])
    expected, most = bits(whole), time.monotonic() - began
    while tally.tried < kills or run.exists():
        known = checkpoint.listing(run)
        arguments = ["--resume", str(run)] if (run / "config.toml").exists() else [*words(backend), "--out", str(run)]
        victim = Child(command, arguments)
        if tally.tried < kills:
            time.sleep(r.uniform(0, most))
            victim.kill(number)
        o = victim.wait()
        fault = None
        if o.code not in (0, -number if number == signal.SIGKILL else 128 + number) and tally.tried < kills:
            fault = f"exit code {o.code}: {o.err[-300:]}"
        elif known and not checkpoint.listing(run):
            fault = "its checkpoints are gone"
        if o.code == 0 and not fault:
            fault, ends = None if bits(run) == expected else "other bits at its end", ends + 1
            shutil.rmtree(run)
        if tally.tried < kills or fault:
            tally.add(f"--only kills --seed {seed}, {backend}, kill {tally.tried}", fault)
        if fault and run.exists():
            shutil.rmtree(run)
    tally.note = f"{ends} runs reached their end"
    return tally


def compiling(place, kills, seed) -> Tally:
    """A first start with an empty cache, killed while it compiles, then left alone: the bits of a warm run."""
    tally = Tally("SIGKILL during a first run that compiles into an empty cache, then resumed or begun again: "
                  "the bits of a later run")
    r, later = random.Random(seed), place / "later"
    child(train.main, [*words("numba"), "--out", str(later)])
    for case in range(kills):
        cache, run = place / f"cache{case}", place / f"cold{case}"
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "npdvae.train", *words("numba"), "--out", str(run)]
        victim = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(r.uniform(1, 30))
        victim.kill()
        victim.wait()
        if (run / "config.toml").exists():
            command = [sys.executable, "-m", "npdvae.train", "--resume", str(run)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        good = done.returncode == 0 and "Traceback" not in done.stderr
        fault = None if good and bits(run) == bits(later) else "other bits at its end" if good else done.stderr[-300:]
        tally.add(f"--only kills --seed {seed}, compile kill {case}", fault)
        shutil.rmtree(cache, ignore_errors=True)
    return tally


def disturbed(sweep, out, seconds):
    """A sweep that is killed after so many seconds, or one of its tasks at work."""
    sweeps.until(out.exists)
    if seconds is None:
        sweeps.kill(sweeps.until(lambda: sweeps.at_work(out)))
    else:
        time.sleep(seconds)
        sweeps.kill(sweep.pid)
    sweep.communicate()


def sweeping(place, kills, seed) -> Tally:
    """A sweep whose process or one of whose tasks is killed, then started again: the tables of an undisturbed one."""
    tally = Tally("SIGKILL to a sweep or one of its tasks at a random instant, then started again: the same tables")
    r, whole = random.Random(seed), place / "whole"
    place.mkdir()
    grid = sweeps.grid(place, 30)
    sweeps.end(sweeps.begin(grid, whole))
    for case in range(kills):
        out = place / f"sweep{case}"
        disturbed(sweeps.begin(grid, out), out, r.uniform(0, 5) if case % 2 else None)
        done = sweeps.begin(grid, out)
        said = done.communicate()[0]
        good = done.returncode == 0 and "Traceback" not in said
        fault = None if good and sweeps.tables(out) == sweeps.tables(whole) else said[-300:]
        tally.add(f"--only kills --seed {seed}, sweep {case}", fault)
    return tally


def attacks(place, share, seed):
    """210 kills, by their share: 150 and 45 of warm runs, 5 of cold starts, 10 of sweeps; and 20 signals of each kind
    and place."""
    yield killed(place, "numpy", max(5, round(150 * share)), seed)
    for number in (signal.SIGINT, signal.SIGTERM):
        yield killed(place, "numpy", max(3, round(20 * share)), seed, number)
        yield starting(place, number, max(2, round(20 * share)), seed)
    if share >= 0.1:
        yield killed(place, "numba", round(45 * share), seed)
        yield compiling(place, max(1, round(5 * share)), seed)
        yield sweeping(place / "sweeps", max(2, round(10 * share)), seed)
