"""What the tests of sweeps share: a small grid, a sweep as a process of its own, and ways to wait and to kill."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from npdvae.sweep.tasks import last_line

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = '[base]\nbackend = "numpy"\nhidden = [8]\nbatch_size = 250\n'


def grid(folder, epochs, seeds=2):
    """A grid of so many seeds by two estimators; a task takes about a second to start and 15 ms an epoch."""
    path = folder / "grid.toml"
    path.write_text(f'{BASE}epochs = {epochs}\n[grid]\nestimator = ["rloo", "reinforce"]\n'
                    f"seed = {list(range(seeds))}\n")
    return path


def begin(grid, out, *options, environment=None):
    """Start a sweep in a session of its own."""
    return subprocess.Popen([sys.executable, "-m", "npdvae.sweep", grid, "--out", out, *options], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                            env={**(environment or os.environ), "MPLBACKEND": "Agg"})


def end(process, code=0, seconds=240):
    """What a sweep has printed, once it ended with this exit code."""
    try:
        out = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(process.communicate()[0]) from None
    assert process.returncode == code, out
    return out


def until(ready, seconds=120):
    """The first value of ready() that is true."""
    limit = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)
    return value


def at_work(out):
    """The process of a task that has done three epochs and goes on with the next, or None."""
    for held in out.glob("*/task.lock"):
        owner = re.match(r"process (\d+)", held.read_text())
        begun = re.match("epoch +([3-9]|[1-9][0-9]+)/", last_line(held.parent))
        if owner and begun and not (held.parent / "done.json").exists() and alive(int(owner[1])):
            return int(owner[1])
    return None


def alive(pid):
    """Whether a process is there, and no zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent(pid):
    """The process that started another one."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def tables(out):
    """The bytes of a sweep's tables."""
    return (out / "sweep.csv").read_bytes(), (out / "sweep.json").read_bytes()
