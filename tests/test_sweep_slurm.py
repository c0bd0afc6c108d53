"""Sweeps on a real SLURM, unpacked from Debian's packages into a scratch folder (tests/slurm.py). All long.

python -m pytest -m long tests/test_sweep_slurm.py: 2 minutes, needs apt-get and its mirror.
"""
import os
import re
import subprocess

import pytest

from npdvae.sweep import status
from tests import sweeps

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.name != "posix", reason="SLURM needs a POSIX system")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Eight tasks that nobody disturbs, without SLURM."""
    folder = tmp_path_factory.mktemp("whole")
    path = sweeps.grid(folder, 60, seeds=4)
    sweeps.end(sweeps.begin(path, folder / "a"))
    return path, sweeps.tables(folder / "a")


def begin(cluster, grid, out, *options):
    return sweeps.begin(grid, out, *options, environment=cluster.environment)


def test_eight_tasks_with_one_killed_end_in_the_same_tables(cluster, whole, tmp_path):
    path, expected = whole
    sweep = begin(cluster, path, tmp_path / "b", "--engine", "slurm")
    sweeps.kill(sweeps.until(lambda: sweeps.at_work(tmp_path / "b")))
    told = sweeps.end(sweep, seconds=300)
    assert "8 tasks, slurm.sh" in told.replace(f"{tmp_path / 'b'}/", "") and re.search(r"job \d+: 1 tasks", told)
    assert sweeps.tables(tmp_path / "b") == expected


def test_a_killed_sweep_finds_its_job_again(cluster, whole, tmp_path):
    """The array goes on without the sweep that submitted it; the next sweep waits for it and submits nothing."""
    path, expected = whole
    sweep = begin(cluster, path, tmp_path / "b", "--engine", "slurm")
    sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
    sweeps.kill(sweep.pid)
    sweep.communicate()
    told = sweeps.end(begin(cluster, path, tmp_path / "b", "--engine", "slurm"), seconds=300)
    assert "job " not in told and sweeps.tables(tmp_path / "b") == expected


def test_ctrl_c_cancels_the_job_and_its_tasks_save(cluster, tmp_path):
    path, out = sweeps.grid(tmp_path, 2000), tmp_path / "b"
    sweep = begin(cluster, path, out, "--engine", "slurm", "--jobs", "1", "--sbatch=--time=10")
    task = sweeps.until(lambda: sweeps.at_work(out))
    subprocess.run(["kill", "-INT", str(sweep.pid)], check=True)
    told = sweeps.end(sweep, 130)
    assert "Go on with" in told and "Traceback" not in told and not sweeps.alive(task)
    assert not cluster.ask("squeue", "-h").strip() and not (out / "slurm.job").exists()
    assert "interrupted; saved at step" in next(out.glob("rloo-seed0*/log.txt")).read_text()
    assert status.lines(out)[0] == f"{out}: 4 tasks, 1 stopped, 3 waiting"


def test_dask_on_slurm_replaces_a_job_that_is_lost(cluster, whole, tmp_path):
    pytest.importorskip("dask_jobqueue")
    path, expected = whole
    cluster.environment["DASK_JOBQUEUE__SLURM__INTERFACE"] = "lo"   # where one machine is the whole cluster
    sweep = begin(cluster, path, tmp_path / "b", "--engine", "dask", "--cluster", "slurm:debug", "--jobs", "2")
    task = sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
    cluster.ask("scancel", "--signal=KILL", cluster.ask("squeue", "-h", "-o", "%i").split()[0])
    told = sweeps.end(sweep, seconds=300)
    assert sweeps.tables(tmp_path / "b") == expected and "dashboard http://" in told and task
