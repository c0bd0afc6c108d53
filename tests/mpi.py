"""What runs under MPI in tests: a launcher, trainings below it, the processes of a run, how runs end."""
import pathlib
import re
import shutil
import subprocess
import sys
import time

from npdvae import checkpoint

ROOT = pathlib.Path(__file__).resolve().parent.parent
BESIDE = pathlib.Path(sys.executable).with_name("mpiexec")          # of a wheel in the same environment
MPIEXEC = str(BESIDE) if BESIDE.is_file() else shutil.which("mpiexec")
SMALL = ["--epochs", "2", "--batch-size", "400", "--hidden", "16", "--no-figures", "--threads", "1"]


def started(processes, *arguments, **options):
    """A training run under mpiexec (0 processes: without), stdout and stderr in one."""
    launcher = [MPIEXEC, "-n", str(processes)] if processes else []
    return subprocess.Popen([*launcher, sys.executable, "-m", "npdvae.train", *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def trained(processes, *arguments, code=0, **options):
    """What a whole run printed."""
    process = started(processes, *arguments, **options)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def ranks(launcher):
    """Process numbers of the ranks below a launcher, by rank."""
    found, parents = {}, {launcher.pid}
    for _ in range(4):                          # mpiexec, its proxy, the ranks
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command, known = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except (OSError, ValueError):
                continue
            if parent in parents and b"npdvae.train\0" in command and (rank := re.search(rb"PMI_RANK=(\d+)", known)):
                found.setdefault(int(rank[1]), int(entry.name))
            if parent in parents and b"python" not in command:
                parents.add(int(entry.name))
    return found


def until(condition, what, seconds=120):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


def ends(folder):
    """Arrays of the last checkpoint, and the lines of metrics but for their times."""
    lines = re.sub(r', "seconds.*', "", (folder / "metrics.jsonl").read_text())
    return {k: (v.dtype, v.tobytes()) for k, v in checkpoint.latest(folder).arrays.items()}, lines
