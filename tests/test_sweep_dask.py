"""Sweeps on dask.distributed: workers and schedulers that are killed. Share: none without dask, 60 s with it.

pip install ".[sweep]"
"""
import re
import signal
import subprocess
import sys

import pytest

from tests import sweeps
from tests.test_sweep import posix, whole  # noqa: F401  (a fixture)

distributed = pytest.importorskip("distributed")
pytestmark = posix


def begin(grid, out, *options):
    return sweeps.begin(grid, out, "--engine", "dask", *options)


def test_a_killed_worker_loses_nothing(whole, tmp_path):  # noqa: F811
    out, path, _ = whole
    sweep = begin(path, tmp_path / "b", "--jobs", "2")
    task = sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
    worker = sweeps.parent(task)
    assert worker not in (sweep.pid, 1)
    sweeps.kill(worker)
    sweeps.until(lambda: not sweeps.alive(task))                    # it ends with its worker, having saved
    told = sweeps.end(sweep)
    assert re.search(r"dashboard http://127.0.0.1:\d+/status", told)
    assert sweeps.tables(tmp_path / "b") == sweeps.tables(out)
    assert "interrupted; saved" in "".join(p.read_text() for p in (tmp_path / "b").glob("*/log.txt"))


def test_a_killed_sweep_goes_on(whole, tmp_path):  # noqa: F811
    """The scheduler is the sweep's own: it dies, and with it the workers and their tasks."""
    out, path, _ = whole
    sweep = begin(path, tmp_path / "b", "--jobs", "2")
    task = sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
    sweeps.kill(sweep.pid)
    sweep.communicate()
    sweeps.until(lambda: not sweeps.alive(task))
    sweeps.end(begin(path, tmp_path / "b", "--jobs", "2"))
    assert sweeps.tables(tmp_path / "b") == sweeps.tables(out)


class Cluster:
    """A scheduler and a worker of their own, as on machines of others."""

    def __init__(self):
        self.processes = [self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
        said = iter(self.processes[0].stdout.readline, "")
        self.address = next(m[0] for line in said if (m := re.search(r"tcp://127.0.0.1:\d+", line)))
        self.processes.append(self.start("worker", self.address, "--nworkers", "2", "--nthreads", "1"))

    def start(self, *words):
        return subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in reversed(self.processes):
            process.kill()
            process.communicate()


def test_a_scheduler_of_others_is_used_and_its_death_is_one_line(whole, tmp_path):  # noqa: F811
    out, path, _ = whole
    with Cluster() as first:
        sweep = begin(path, tmp_path / "b", "--cluster", first.address)
        sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
        sweeps.kill(first.processes[0].pid)
        told = sweeps.end(sweep, 2)
        assert "npdvae: error: dask's scheduler is gone" in told and "Traceback" not in told
    with Cluster() as second:
        sweeps.end(begin(path, tmp_path / "b", "--cluster", second.address))
    assert sweeps.tables(tmp_path / "b") == sweeps.tables(out)


def test_ctrl_c_stops_the_tasks_of_a_scheduler_of_others(tmp_path):
    path = sweeps.grid(tmp_path, 400)
    with Cluster() as cluster:
        sweep = begin(path, tmp_path / "b", "--cluster", cluster.address)
        task = sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
        sweep.send_signal(signal.SIGINT)
        told = sweeps.end(sweep, 130)
        assert "Go on with" in told and "Traceback" not in told
        assert not sweeps.alive(task)
        assert sweeps.at_work(tmp_path / "b") is None


@pytest.mark.parametrize("cluster", ["here", "ssh:", "local:2", "tpc://a:1"])
def test_a_cluster_that_nothing_understands_is_one_line(tmp_path, cluster):
    told = sweeps.end(begin(sweeps.grid(tmp_path, 1), tmp_path / "a", "--cluster", cluster), 2)
    assert f"--cluster: got {cluster!r}, expected local, tcp://HOST:PORT, ssh:HOST,HOST or slurm:PARTITION" in told


def test_an_address_where_nobody_listens_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")
    told = sweeps.end(begin(sweeps.grid(tmp_path, 1), tmp_path / "a", "--cluster", "tcp://127.0.0.1:9"), 2)
    assert "npdvae: error: " in told and "tcp://127.0.0.1:9" in told and "Traceback" not in told
