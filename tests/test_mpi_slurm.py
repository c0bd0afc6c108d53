"""mpiexec in a job of a real SLURM (tests/slurm.py): python -m pytest -m long tests/test_mpi_slurm.py, a minute."""
import os
import sys

import pytest

from npdvae import checkpoint
from tests.mpi import MPIEXEC, ROOT, SMALL, ends, trained, until

pytestmark = [pytest.mark.long, pytest.mark.skipif(MPIEXEC is None, reason='needs MPI: pip install ".[mpi]"')]
SCRIPT = """#!/bin/bash
#SBATCH --ntasks=2
{mpiexec} -n $SLURM_NTASKS {python} -m npdvae.train {arguments}
"""


def submit(cluster, folder, *arguments, wait=True):
    """The number of a job that trains, and the path of what it prints."""
    script = folder / "job.sh"
    script.write_text(SCRIPT.format(mpiexec=MPIEXEC, python=sys.executable, arguments=" ".join(map(str, arguments))))
    cluster.environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    said = cluster.ask("sbatch", "--parsable", *(["--wait"] if wait else []), "--output", str(folder / "said"),
                       "--chdir", str(ROOT), str(script))
    return said.strip(), folder / "said"


def test_a_job_that_is_cancelled_goes_on_to_the_bits_of_one_process(cluster, tmp_path):
    trained(0, *SMALL, "--shares", 8, "--out", tmp_path / "alone")
    folder = tmp_path / "r"
    job, said = submit(cluster, tmp_path, *SMALL, "--epochs", 1000, "--checkpoint-every", 1, "--keep-checkpoints", 0,
                       "--out", folder, wait=False)
    until(lambda: checkpoint.listing(folder), "a checkpoint")
    cluster.ask("scancel", job)
    until(lambda: job not in cluster.ask("squeue", "-h", "-o", "%i"), "the job's end")
    for path in checkpoint.listing(folder):     # back to where two epochs are still ahead
        if checkpoint.step_of(path) > 4:
            path.unlink()
    _, said = submit(cluster, tmp_path, "--resume", folder, "--epochs", 2)
    assert ends(folder) == ends(tmp_path / "alone"), said.read_text()
    assert "2 processes" in said.read_text()
