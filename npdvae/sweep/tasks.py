"""A task is a run folder: what state it is in, how its process is started, and what that process does.

In the folder, beside the run's own files: task.toml (its settings), log.txt, task.lock (held while a process works on
it), done.json (its last metrics), failed (it ended by its own fault).
"""
from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from typing import Any, NamedTuple

from npdvae import checkpoint, metrics, train
from npdvae.parallel import mpi
from npdvae.settings import to_toml
from npdvae.sweep import lock

SETTINGS, LOG, LOCK, DONE, FAILED = "task.toml", "log.txt", "task.lock", "done.json", "failed"
TASK = "--task="
STATES = ("done", "running", "failed", "stopped", "waiting")
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
INTERRUPTED = 128                               # and the signal's number: the exit code of a run that was told to stop


class Plan(NamedTuple):
    """How a sweep is run."""

    out: pathlib.Path
    jobs: int | None = None                     # tasks at a time
    threads: int = 1                            # of each
    retries: int = 3
    cluster: str = "local"
    devices: list[str] | None = None            # CUDA devices, dealt out to the jobs
    sbatch: list[str] = []
    trust: bool = False                         # the grid may name code of one's own


class Tries:
    """Which tasks are worth another attempt: those that were killed, up to `retries` times without getting further."""

    def __init__(self, plan: Plan):
        self.plan, self.reached = plan, {}      # type: ignore[var-annotated]
        self.count: Counter[str] = Counter()

    def again(self, name: str) -> bool:
        """Note that an attempt at a task has ended; whether another one should follow."""
        folder = self.plan.out / name
        if settled(folder):
            return False
        step = max(map(checkpoint.step_of, checkpoint.listing(folder)), default=0)
        self.count[name] = self.count[name] + 1 if step <= self.reached.get(name, 0) else 1
        self.reached[name] = step
        return self.count[name] <= self.plan.retries


def prepare(out: pathlib.Path, tasks):
    """Write the folders of a sweep, and their names in order."""
    for task in tasks:
        folder = out / task.name
        folder.mkdir(exist_ok=True)
        metrics.write_text(folder / SETTINGS, to_toml(task.config))
    metrics.write_text(out / "tasks.txt", "".join(task.name + "\n" for task in tasks))


def names(out: pathlib.Path) -> list[str]:
    """The tasks of a sweep's folder in their order; ValueError where it is none."""
    if not (out / "tasks.txt").is_file():
        raise ValueError(f"{out}: no sweep there (no tasks.txt)")
    return (out / "tasks.txt").read_text().split()


def result(folder: pathlib.Path) -> dict[str, Any] | None:
    """The last metrics of a task that is done, or None."""
    try:
        return json.loads((folder / DONE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def settled(folder: pathlib.Path) -> bool:
    """Whether a task is done, or failed by its own fault."""
    return result(folder) is not None or (folder / FAILED).exists()


def state(folder: pathlib.Path) -> str:
    """One of STATES; stopped: it was killed or interrupted, and goes on with the next sweep."""
    if result(folder) is not None:
        return "done"
    if lock.taken(folder / LOCK):
        return "running"
    if (folder / FAILED).exists():
        return "failed"
    return "stopped" if (folder / LOG).exists() else "waiting"


def last_line(folder: pathlib.Path) -> str:
    """The last line that a task's process has written."""
    path = folder / LOG
    text = path.read_text(errors="replace").strip() if path.exists() else ""
    return text.splitlines()[-1].strip() if text else "nothing in its log"


def command(plan: Plan, folder: pathlib.Path) -> list[str]:
    """The command that works on a task; a folder's name may begin with a dash."""
    return [sys.executable, "-u", "-m", "npdvae.sweep", f"{TASK}{folder}", "--threads", str(plan.threads),
            *["--trust"] * plan.trust]


def start(plan: Plan, name: str, device: str | None = None, cwd: str | None = None) -> subprocess.Popen:
    """Start a task's process; it saves and stops when told to, or when the process that called this has died."""
    folder = plan.out / name
    alone = {k: v for k, v in os.environ.items() if k not in (*mpi.SIZES, *mpi.RANKS)}      # also under mpiexec
    environment = {**alone, **dict.fromkeys(POOLS, str(plan.threads))}
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device
    with open(folder / LOG, "a") as log:
        return subprocess.Popen([*command(plan, folder), "--leash"], stdin=subprocess.PIPE, stdout=log,
                                stderr=subprocess.STDOUT, env=environment, cwd=cwd, start_new_session=True)


def stop(processes):
    """Tell tasks to save and stop, and wait until they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def leash():
    """End this process, cleanly, when its standard input does: when its parent is no more."""
    def wait():
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def work(folder: pathlib.Path, threads: int, trust: bool = False) -> int:
    """Train, or go on, until the task is done; the exit code of training."""
    with lock.held(folder / LOCK, str(folder), wait=True):
        if result(folder) is not None:
            return 0
        (folder / FAILED).unlink(missing_ok=True)
        begun = (folder / "config.toml").is_file()
        where = [f"--resume={folder}"] if begun else [f"--config={folder / SETTINGS}", f"--out={folder}"]
        try:
            code = train.main([*where, "--threads", str(threads), *["--trust"] * trust])
        except Exception:
            traceback.print_exc()
            code = 1
        if code == 0:
            end = {k: v for k, v in metrics.read(folder)[-1].items() if not k.startswith("seconds")}
            metrics.write_text(folder / DONE, json.dumps(end) + "\n")
        elif code < INTERRUPTED:
            metrics.write_text(folder / FAILED, f"exit code {code}\n")
        return code
