"""Training under mpiexec, with processes that are killed and come back in another number. Share: 60 s, where MPI is."""
import ast
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from npdvae import checkpoint
from tests.mpi import MPIEXEC, SMALL, ends, ranks, started, trained, until

pytest.importorskip("mpi4py", reason='needs MPI: pip install ".[mpi]"')
pytestmark = pytest.mark.skipif(MPIEXEC is None or not pathlib.Path("/proc").is_dir(),
                                reason='needs mpiexec (pip install ".[mpi]") and /proc')

@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process without MPI."""
    folder = tmp_path_factory.mktemp("alone") / "r"
    trained(0, *SMALL, "--shares", 8, "--out", folder)
    return ends(folder)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_any_number_of_processes_ends_in_the_bits_of_one(processes, alone, tmp_path):
    said = trained(processes, *SMALL, "--out", tmp_path / "r")
    assert ends(tmp_path / "r") == alone
    assert said.count("segmented engine") == said.count("epoch 2/2") == 1       # the others are silent
    assert [p.name for p in (tmp_path / "r").glob("*.tmp")] == []


@pytest.mark.long
def test_an_epoch_of_mnist_ends_in_the_bits_of_one_process(tmp_path):
    if not os.environ.get("NPDVAE_DATA"):
        pytest.skip("needs the mnist files in $NPDVAE_DATA")
    for processes in (0, 1, 2, 4):
        trained(processes, "--data", "mnist", "--preset", "tutorial", "--batch-size", 800, "--shares", 8, "--epochs", 1,
                "--no-figures", "--out", tmp_path / str(processes))
        assert ends(tmp_path / str(processes)) == ends(tmp_path / "0")


@pytest.mark.parametrize("machines", ["MPIR_CVAR_NOLOCAL", "MPIR_CVAR_ODD_EVEN_CLIQUES"])
def test_machines_are_told_apart_and_change_no_bit(machines, alone, tmp_path):
    """MPICH plays four machines, or two of two processes each whose ranks alternate; other MPIs play none."""
    trained(4, *SMALL, "--out", tmp_path / "r", env={**os.environ, machines: "1"})
    assert ends(tmp_path / "r") == alone


@pytest.mark.parametrize("machines, expected", [
    ("NONE", [(0, 0, 4, 1), (1, 1, 4, 1), (2, 2, 4, 1), (3, 3, 4, 1)]),
    ("MPIR_CVAR_NOLOCAL", [(0, 0, 1, 4), (1, 1, 1, 4), (2, 2, 1, 4), (3, 3, 1, 4)]),
    ("MPIR_CVAR_ODD_EVEN_CLIQUES", [(0, 0, 2, 2), (2, 1, 2, 2), (1, 2, 2, 2), (3, 3, 2, 2)])])
def test_processes_of_a_machine_lie_beside_one_another(machines, expected):
    code = ("from npdvae.parallel import mpi\nwith mpi.team() as team:\n    from mpi4py import MPI\n"
            "    mine = MPI.COMM_WORLD.rank, team.rank, team.local[1], team.size // team.local[1]\n"
            "    print(team.gather([mine]))")
    done = subprocess.run([MPIEXEC, "-n", "4", sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, machines: "1"})
    if "HYDRA" not in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("needs MPICH, an MPI that can play several machines")
    assert ast.literal_eval(done.stdout) == expected, done.stderr


def test_unequal_machines_share_no_memory_but_their_cores(alone, tmp_path):
    """MPICH plays three machines, one of them with two processes."""
    code = ("from npdvae.parallel import mpi\nwith mpi.team() as team:\n    everybody = len(os.sched_getaffinity(0))\n"
            "    right = team.node is None and team.threads() == max(1, everybody // team.local[1])\n"
            "    print(team.gather([(*team.local, right)]))")
    if "HYDRA" not in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("needs MPICH, an MPI that can play several machines")
    environment = {**os.environ, "MPIR_CVAR_NUM_CLIQUES": "3"}
    done = subprocess.run([MPIEXEC, "-n", "4", sys.executable, "-c", f"import os\n{code}"], capture_output=True,
                          text=True, env=environment)
    assert sorted(ast.literal_eval(done.stdout or "[]")) == [(*local, True) for local in
                                                             ((0, 1), (0, 1), (0, 2), (1, 2))], done.stderr
    trained(4, *SMALL, "--out", tmp_path / "r", env=environment)
    assert ends(tmp_path / "r") == alone


def test_as_many_microbatches_are_the_same_run(alone, tmp_path):
    trained(2, *SMALL, "--microbatch", 50, "--out", tmp_path / "r")
    assert ends(tmp_path / "r") == alone


@pytest.mark.parametrize("options", [
    ["--backend", "numpy", "--estimator", "reinforce", "--baseline", "nvil", "--clip-norm", "5"],
    ["--latent", "vq", "--latents", "2", "--optimizer", "sgd", "--lr", "0.01"]])
def test_what_is_learned_besides_parameters_is_the_same_too(options, tmp_path):
    found = []
    for processes in (0, 2):
        trained(processes, *SMALL, *options, "--shares", 4, "--out", tmp_path / str(processes))
        found.append(ends(tmp_path / str(processes)))
    assert found[0] == found[1]


@pytest.mark.parametrize("victim, then", [(1, 4), (0, 1)])
def test_a_killed_process_ends_the_job_which_goes_on_with_others(victim, then, alone, tmp_path):
    folder = tmp_path / "r"
    process = started(2, *SMALL, "--epochs", 1000, "--checkpoint-every", 1, "--keep-checkpoints", 0, "--out",
                      folder)
    until(lambda: checkpoint.listing(folder), "a checkpoint")
    numbers = ranks(process)
    assert set(numbers) == {0, 1}
    killed = time.monotonic()
    os.kill(numbers[victim], signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - killed < 10 and process.returncode != 0
    lines = [line for line in said.splitlines() if "died" in line]
    assert len(lines) == 1 and f"rank {victim} of 2 (process {numbers[victim]} on " in lines[0], said
    until(lambda: not any(pathlib.Path(f"/proc/{n}").exists() for n in numbers.values()), "the others' end", 10)
    for path in checkpoint.listing(folder):     # back to where two epochs are still ahead
        if checkpoint.step_of(path) > 4:
            path.unlink()
    trained(then, "--resume", folder, "--epochs", 2)
    assert ends(folder) == alone


def test_ctrl_c_saves_and_says_how_to_go_on_and_another_number_does(alone, tmp_path):
    folder = tmp_path / "r"
    process = started(2, *SMALL, "--epochs", 1000, "--out", folder)
    until(lambda: checkpoint.listing(folder), "a checkpoint")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.count("interrupted; saved at step") == said.count("--resume") == 1 and "died" not in said
    step = int(re.search(r"saved at step (\d+)", said)[1])
    epochs = -(-step // 4) + 1
    trained(4, "--resume", folder, "--epochs", epochs)
    trained(0, *SMALL, "--shares", 8, "--epochs", epochs, "--out", tmp_path / "whole")
    assert ends(folder) == ends(tmp_path / "whole")


@pytest.mark.parametrize("processes, options, said", [
    (3, [], "3 processes cannot share a batch of 8 pieces: expected a power of two, at most 8"),
    (2, ["--shares", "1"], "cannot share a batch of 1 pieces"),
    (2, ["--latent", "lfq"], "--shares: lfq reads the whole batch"),
    (2, ["--data", "/nowhere.npz"], "nowhere"), (2, ["--shares", "6"], "--shares: got 6, expected a power of two")])
def test_what_all_refuse_is_said_once(processes, options, said, tmp_path):
    told = trained(processes, *SMALL, *options, "--out", tmp_path / "r", code=2)
    assert said in told and told.count("\n") == 1 and told.startswith("npdvae: error: ")


def test_what_one_alone_meets_ends_all_with_its_name(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os\nfrom npdvae.estimators.rloo import RLOO\n\n\nclass Mine(RLOO):\n    def backward(self, *a, **k):\n"
        "        if os.environ['PMI_RANK'] == '1':\n            raise RuntimeError('not on this machine')\n"
        "        return super().backward(*a, **k)\n")
    began = time.monotonic()
    told = trained(2, *SMALL, "--estimator", "mine:Mine", "--out", tmp_path / "r", code=2,
                   env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})
    assert time.monotonic() - began < 60
    assert told.count("npdvae: ") == 1 and "npdvae: error: rank 1 of 2: RuntimeError: not on this machine" in told


def test_a_run_in_one_piece_goes_on_in_one_process_only(tmp_path):
    trained(0, *SMALL, "--epochs", 1, "--out", tmp_path / "r")
    assert "cannot share a batch of 1 pieces" in trained(2, "--resume", tmp_path / "r", "--epochs", 2, code=2)
    trained(1, "--resume", tmp_path / "r", "--epochs", 2)


def test_without_a_launcher_mpi_is_not_looked_for(tmp_path):
    code = ("import sys, npdvae.train as t\nt.main(['--epochs', '1', '--no-figures', '--out', sys.argv[1]])\n"
            "print('mpi4py' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "r"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
