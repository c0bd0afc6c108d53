"""Sweeps: the grid, the lock, the local engine with real processes that are killed. Share: 20 s."""
import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from npdvae.kernels.cpu import bfloat16
from npdvae.parallel import mpi
from npdvae.sweep import __main__ as command
from npdvae.sweep import figure, grid, local, lock, slurm, status, table, tasks
from tests import sweeps

posix = pytest.mark.skipif(not pathlib.Path("/proc").is_dir(), reason="kills and /proc need a POSIX system like Linux")


def read(tmp_path, text):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return grid.read(str(path))


def test_a_grid_is_every_combination_and_each_also_at_its_seeds(tmp_path):
    found = read(tmp_path, sweeps.BASE + '[grid]\nestimator = ["rloo", "exact"]\nseed = [0, 1, 2]\n'
                 '[[also]]\nestimator = "vimco"\nsamples = [4, 8]\n[[also]]\nlatent = "vq"\nseed = 7\n')
    seen = [(c.latent, c.estimator, c.samples, c.seed) for _, c in found]
    assert seen == [("categorical", e, None, s) for e in ("rloo", "exact") for s in range(3)] + [
        ("categorical", "vimco", n, s) for n in (4, 8) for s in range(3)] + [("vq", None, None, 7)]
    assert all((c.hidden, c.batch_size, c.binarize, c.figures) == ([8], 250, "threshold", False) for _, c in found)
    assert len({name for name, _ in found}) == 13 and found[0].name.startswith("rloo-seed0-")
    assert grid.varied([c for _, c in found]) == ["latent", "estimator", "samples", "seed"]


def test_a_grid_may_be_one_point_or_lists_of_lists(tmp_path):
    assert [c.hidden for _, c in read(tmp_path, "[grid]\nhidden = [[8], [16, 8]]\n")] == [[8], [16, 8]]
    assert [c.hidden for _, c in read(tmp_path, "[grid]\nhidden = [16, 8]\n")] == [[16, 8]]
    assert len(read(tmp_path, "[base]\nlatents = 3\n")) == 1
    assert len(read(tmp_path, "[grid]\nlr = [1e-3, 0.001]\n[[also]]\nlr = 0.001\n")) == 1   # one run, said three times


def test_the_guides_grid_is_the_fifteen_runs_that_it_says(tmp_path):
    text, = re.findall(r"```toml\n(.*?)```", (sweeps.ROOT / "docs" / "scale.md").read_text(), re.S)
    found = read(tmp_path, text)
    assert len(found) == 15 and sum(c.samples == 8 for _, c in found) == 3


def test_a_name_is_of_what_is_computed_and_of_nothing_else(tmp_path):
    plain, = read(tmp_path, "[base]\nepochs = 3\n")
    for same in ("figures = true", "checkpoint_every = 5", "keep_checkpoints = 0", "device = 1", 'estimator = "rloo"'):
        assert read(tmp_path, f"[base]\nepochs = 3\n{same}\n")[0].name == plain.name
    for other in ("latents = 5", "seed = 1", 'backend = "numpy"', "lr = 2e-3", 'dtype = "float64"'):
        assert read(tmp_path, f"[base]\nepochs = 3\n{other}\n")[0].name != plain.name


def test_options_of_a_part_go_with_the_part(tmp_path):
    text = '[base]\nestimator = "reinforce"\nbaseline = "constant"\n[grid]\nestimator = ["rloo", "reinforce"]\n'
    assert [c.baseline for _, c in read(tmp_path, text)] == [None, "constant"]
    preset = read(tmp_path, '[base]\npreset = "tutorial"\ndata = "digits"\n[grid]\nestimator = ["reinforce", "rloo"]\n')
    assert [(c.baseline, c.lr) for _, c in preset] == [("constant", 5e-4), (None, 5e-4)]


@pytest.mark.parametrize("text, said", [
    ("[gird]\nseed = [0]", r"unknown table \[gird\]"),
    ("grid = 3", r"grid must be written as \[grid\]"),
    ("[base]\nestimatr = 'rloo'", r"\[base\]: unknown key 'estimatr', did you mean 'estimator'"),
    ("[grid]\npresett = ['tutorial']", "did you mean 'preset'"),
    ("[base]\npreset = 'tutoral'", "unknown preset 'tutoral'; did you mean tutorial"),
    ("[grid]\npreset = [3]", "preset must be a name"),
    ("[grid]\nestimator = ['rloo', 'rlo']", r"\[grid\]: unknown estimator 'rlo'"),
    ("[grid]\nseed = [0, 'one']", r"\[grid\]: seed must be int, got 'one'"),
    ("[grid]\nseed = []", "seed is an empty list"),
    ("[grid]\nlr = [1e-3, -1]", r"lr=-1.0: --lr: got -1.0, expected a positive number"),
    ("[[also]]\nlr = 1e-3\n[[also]]\nlatens = 3", r"\[\[also\]\] 2: unknown key 'latens'"),
    ("[base]\nout = 'x'", "out is not for a grid, see --out"),
    ("[grid]\nseeds = [[0, 1]]", "seeds is not for a grid, see seed"),
    ("[base]\nbaseline = 'constant'\n[grid]\nestimator = ['reinforce', 'rloo']", r"rloo-seed0-\w+: .*baseline"),
    ("[base]\nlatent = 'fsq'\nestimator = 'rloo'", "estimator"),
    ("[base]\nlatent_options = {sizes = 3}", "sizes"),
    ("[base]\ndata = '/nowhere'", "nowhere"),
    ("[base]\nengine = 'segmented'\nestimator = 'exact'", "segmented cannot run"),
    ("[grid]\nbackend = ['numpy']\nengine = ['segmented']", "is for the backends numba and cupy, not for numpy"),
    ("[base]\nbackend = 'cupy'\nengine = 'segmented'\nbatch_size = 100\nmicrobatch = 50", "this: microbatches"),
    ("[base]\nbackend = 'cupy'\nmatmul_precision = 'bfloat16'", "bfloat16: cupy has float32 and tf32"),
    ("[base]\nbackend = 'numpy'\nmatmul_precision = 'bfloat16'", "the readable engine on numpy has float32"),
    ("[base]\nengine = 'readable'\nmatmul_precision = 'bfloat16'", "the readable engine on numba has float32"),
    ("[base]\nmatmul_precision = 'tf32'", "--matmul-precision tf32: the .* engine on numba has"),
])
def test_what_is_wrong_in_a_grid_is_found_before_anything_runs(tmp_path, capsys, text, said):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    assert command.main([str(path), "--out", str(tmp_path / "a")]) == 2
    told = capsys.readouterr().err
    assert re.search(said, told) and told.count("\n") == 1 and "grid.toml" in told or "preset" in told
    assert not (tmp_path / "a").exists()


def test_what_another_machine_can_train_is_not_refused_here(tmp_path, monkeypatch):
    """A GPU, or products of bfloat16: a machine without AMX sends such a task elsewhere, and trains none itself."""
    path = tmp_path / "grid.toml"
    path.write_text("[base]\nhidden = [8]\n[grid]\nmatmul_precision = ['bfloat16']\nengine = ['auto', 'segmented']\n"
                    "[[also]]\nbackend = 'cupy'\nestimator = 'exact'\nengine = 'segmented'\n"
                    "[[also]]\nbackend = 'cupy'\nmatmul_precision = 'tf32'\n"
                    "engine = ['auto', 'readable', 'segmented']\n")
    if bfloat16.reason_unfit() is None:
        assert len(grid.read(str(path))) == 6
    monkeypatch.setattr(bfloat16, "reason_unfit", lambda: "no AMX here")
    assert len(grid.read(str(path), here=False)) == 6
    with pytest.raises(ValueError, match=r"on numba has float32 \(products of bfloat16: no AMX here"):
        grid.read(str(path))


def test_code_of_ones_own_needs_trust(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text("from npdvae.estimators.rloo import RLOO\n\n\nclass Mine(RLOO):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / "grid.toml"
    path.write_text(sweeps.BASE + 'epochs = 1\nestimator = "mine:Mine"\n')
    arguments = [str(path), "--out", str(tmp_path / "a")]
    assert command.main(arguments) == 2 and "give --trust" in capsys.readouterr().err
    assert command.main([*arguments, "--trust"]) == 0
    assert "Mine-seed0-" in capsys.readouterr().out


@pytest.mark.parametrize("cores, jobs, threads, count, expected", [
    (2, None, None, 9, (2, 1)), (8, None, None, 2, (2, 4)), (8, 3, None, 9, (3, 2)), (8, None, 3, 9, (2, 3)),
    (4, None, 8, 9, None), (2, 3, None, 9, None), (8, 4, 3, 9, None), (1, None, None, 1, (1, 1))])
def test_jobs_times_threads_never_exceeds_the_cores(monkeypatch, cores, jobs, threads, count, expected):
    monkeypatch.setattr(local, "cores", lambda: cores)
    if expected is None:
        with pytest.raises(ValueError, match=f"more than {cores} cores"):
            local.share(jobs, threads, count)
    else:
        assert local.share(jobs, threads, count) == expected


def test_a_lock_is_held_by_one_and_dies_with_its_process(tmp_path):
    path = tmp_path / "lock"
    assert not lock.taken(path)
    code = (f"import time, pathlib\nfrom npdvae.sweep import lock\nwith lock.held(pathlib.Path({str(path)!r}), 'a'):\n"
            "    print('held', flush=True)\n    time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=sweeps.ROOT)
    assert holder.stdout.readline() == "held\n" and lock.taken(path)
    with pytest.raises(lock.Busy, match=f"sweeps/a is in the hands of process {holder.pid} on "):
        with lock.held(path, "sweeps/a"):
            pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not lock.taken(path)
    with lock.held(path, "sweeps/a", wait=True):
        assert lock.taken(path)
    assert not lock.taken(path)


def test_a_second_sweep_on_a_folder_says_so_in_one_line(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    with lock.held(tmp_path / "a" / "lock", "a"):
        assert command.main([str(sweeps.grid(tmp_path, 1)), "--out", str(tmp_path / "a")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"process {os.getpid()}" in told and not list((tmp_path / "a").glob("rloo*"))


def test_tries_end_when_a_task_gets_no_further(tmp_path):
    """Three in a row; a new checkpoint starts the count again; what is done or failed is not tried again."""
    tries, folder = tasks.Tries(tasks.Plan(tmp_path, retries=2)), tmp_path / "t"
    folder.mkdir()
    assert [tries.again("t") for _ in range(3)] == [True, True, False]
    (folder / "checkpoint-00000005.safetensors").touch()
    assert [tries.again("t") for _ in range(3)] == [True, True, False]
    tries = tasks.Tries(tasks.Plan(tmp_path, retries=2))
    (folder / tasks.FAILED).touch()
    assert not tries.again("t")
    (folder / tasks.FAILED).unlink()
    (folder / tasks.DONE).write_text("{")       # cut off: not done
    assert tries.again("t") and tasks.state(folder) == "waiting"
    (folder / tasks.DONE).write_text("{}")
    assert not tries.again("t") and tasks.state(folder) == "done"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a sweep that nobody disturbs, and its grid."""
    folder = tmp_path_factory.mktemp("whole")
    path = sweeps.grid(folder, 60)
    return folder / "a", path, sweeps.end(sweeps.begin(path, folder / "a", "--engine", "local"))


def test_results_are_a_table_and_a_figure_over_seeds(whole):
    out, path, told = whole
    rows = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    content = json.loads((out / "sweep.json").read_text())
    assert [(r["estimator"], r["seed"], r["state"], r["epoch"]) for r in rows] == [
        (e, s, "done", "60") for e in ("rloo", "reinforce") for s in "01"]
    assert not [key for key in rows[0] if "second" in key]          # a table is a function of the grid alone
    for group, of in zip(content["groups"], (rows[:2], rows[2:])):
        values = [float(r["test_negative_elbo"]) for r in of]
        end = group["test_negative_elbo"]
        assert group["settings"] == {"estimator": of[0]["estimator"]} and group["seeds"] == [0, 1]
        assert end["mean"] == sum(values) / 2 and (end["min"], end["max"]) == (min(values), max(values))
        assert abs(end["std"] - abs(values[0] - values[1]) / 2 ** 0.5) < 1e-12      # nats; values near 26
        assert f"{end['mean']:.2f} +- {end['std']:.2f}  estimator={of[0]['estimator']}  (2 seeds)" in told
    assert (out / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert status.lines(out) == [f"{out}: 4 tasks, 4 done"]
    drawn = figure.draw(out, content["varied"], content["runs"], content["groups"])
    assert [len(axes.lines) for axes in drawn.axes] == [2, 8]       # means; of each group: mean, two caps, seeds


def test_finished_tasks_are_skipped_and_a_larger_grid_adds_to_them(whole, tmp_path, capsys):
    out, path, _ = whole
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*")}
    assert command.main([str(path), "--out", str(out)]) == 0
    assert "4 tasks, 4 done already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in before if p.name != tasks.SETTINGS} == {
        p: t for p, t in before.items() if p.name != tasks.SETTINGS}


@posix
def test_killed_tasks_and_a_killed_sweep_end_in_the_same_tables(whole, tmp_path):
    out, path, _ = whole
    sweep = sweeps.begin(path, tmp_path / "b", "--jobs", "2")
    killed = sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
    sweeps.kill(killed)
    sweeps.until(lambda: [p for p in (tmp_path / "b").glob("*/log.txt") if "resuming" in p.read_text()])
    left = sweeps.until(lambda: sweeps.at_work(tmp_path / "b"))
    sweeps.kill(sweep.pid)
    sweep.communicate()
    sweeps.until(lambda: not sweeps.alive(left))                    # its tasks save and stop by themselves
    logs = list((tmp_path / "b").glob("*/log.txt"))
    assert any("interrupted; saved at step" in log.read_text() for log in logs)
    sweeps.end(sweeps.begin(path, tmp_path / "b"))
    assert sweeps.tables(tmp_path / "b") == sweeps.tables(out)
    assert sum(log.read_text().count("resuming") for log in logs) >= 2


@posix
def test_ctrl_c_stops_the_tasks_cleanly_and_says_how_to_go_on(tmp_path):
    path, out = sweeps.grid(tmp_path, 400, seeds=1), tmp_path / "a"
    sweep = sweeps.begin(path, out, "--jobs", "1")
    pid = sweeps.until(lambda: sweeps.at_work(out))
    sweep.send_signal(signal.SIGINT)
    told = sweeps.end(sweep, 128 + signal.SIGINT)
    assert f"Go on with:\n  python -m npdvae.sweep {path} --out {out} --jobs 1\n" in told and "Traceback" not in told
    assert not sweeps.alive(pid)
    assert "interrupted; saved at step" in next(out.glob("rloo*/log.txt")).read_text()
    told = status.lines(out)
    assert told[0] == f"{out}: 2 tasks, 1 stopped, 1 waiting"
    assert re.fullmatch(r"  stopped rloo-seed0-\w+  epoch \d+ of 400, test negative ELBO [\d.]+", told[1])


def test_a_task_that_fails_is_reported_and_the_others_go_on(tmp_path):
    path, out = tmp_path / "grid.toml", tmp_path / "a"
    path.write_text(sweeps.BASE + "epochs = 2\n[grid]\nlr = [1e30, 1e-3]\n")
    told = sweeps.end(sweeps.begin(path, out, "--jobs", "1"), 1)
    assert re.search(r"rloo-seed0-\w+  failed: npdvae: error: training diverged", told)
    assert "1 of 2 tasks are not done; the same command tries them again" in told and "(1 seed)" in told
    assert re.search(r"failed  rloo-seed0-\w+  npdvae: error: training diverged", status.lines(out)[1])
    assert [row["state"] for row in table.rows(out)[1]] == ["failed", "done"]
    assert sum("error" in line for line in next(out.glob("*/failed")).with_name("log.txt").open()) == 1     # tried once


def test_folders_may_begin_with_a_dash_and_go_on_in_it(tmp_path, monkeypatch, capsys):
    path = sweeps.grid(tmp_path, 1, seeds=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(sweeps.ROOT))
    assert command.main([str(path), "--out=-sw", "--jobs=1"]) == 0, capsys.readouterr().out
    begun = next(pathlib.Path("-sw").glob("rloo*"))
    (begun / tasks.DONE).unlink()               # as a run that was cut off: the next one resumes it
    assert command.main([str(path), "--out=-sw", "--jobs=1"]) == 0 and tasks.state(begun) == "done"
    assert "2 tasks, 1 done already" in capsys.readouterr().out
    assert f"nothing to do: {begun}" in (begun / tasks.LOG).read_text()


def test_each_job_has_its_device_and_its_threads(tmp_path, monkeypatch):
    said = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
    monkeypatch.setattr(tasks, "command", lambda plan, folder: [sys.executable, "-c", said])
    for name in "abc":
        (tmp_path / name).mkdir()
    ends = local.run(tasks.Plan(tmp_path, jobs=3, threads=5, retries=0, devices=["4", "7"]), list("abc"))
    assert sorted(ends) == list("abc")
    assert [tasks.last_line(tmp_path / name) for name in "abc"] == ["4 5", "7 5", "4 5"]


def test_a_task_is_no_rank_of_the_launcher_that_started_the_sweep(tmp_path, monkeypatch):
    for name in (*mpi.SIZES, *mpi.RANKS):
        monkeypatch.setenv(name, "1")
    said = f"import os; print([name for name in {[*mpi.SIZES, *mpi.RANKS]} if name in os.environ])"
    monkeypatch.setattr(tasks, "command", lambda plan, folder: [sys.executable, "-c", said])
    (tmp_path / "a").mkdir()
    tasks.start(tasks.Plan(tmp_path), "a").communicate()
    assert tasks.last_line(tmp_path / "a") == "[]"


STUB = """#!{python}
import os, pathlib, re, subprocess, sys
name, here = pathlib.Path(sys.argv[0]).name, pathlib.Path(__file__).parent
(here / "calls").open("a").write(name + "\\n")
if name == "sbatch":
    last = int(re.search(r"--array=0-(\\d+)", pathlib.Path(sys.argv[2]).read_text())[1])
    lost = (here / "calls").read_text().count("sbatch") == 1
    for i in range(last + 1 - lost):            # the first array loses its last task
        subprocess.run(["bash", sys.argv[2]], env={{**os.environ, "SLURM_ARRAY_TASK_ID": str(i)}})
    print(7)
"""


@posix
def test_slurm_is_given_again_what_the_folders_lack(tmp_path, monkeypatch, capsys):
    """Commands that stand in for SLURM's; a real one: tests/test_sweep_slurm.py."""
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / name).write_text(STUB.format(python=sys.executable))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "POLL", 0.01)
    out = tmp_path / "with a space"
    arguments = [str(sweeps.grid(tmp_path, 1, seeds=1)), "--out", str(out), "--engine", "slurm", "--sbatch=--mem=1G"]
    assert command.main(arguments) == 0
    assert "#SBATCH --mem=1G" in (out / "slurm.sh").read_text()
    assert (tmp_path / "calls").read_text().split() == ["sbatch", "squeue"] * 2
    told = capsys.readouterr().out
    assert "job 7: 2 tasks" in told and "job 7: 1 tasks" in told and not (out / "slurm.job").exists()


@pytest.mark.parametrize("options, said", [
    (["--engine", "slurm"], "no sbatch here"), (["--jobs", "0"], "--jobs: got 0"),
    (["--retries", "-1"], "--retries: got"), (["--jobs", "999"], "more than"),
    (["--cluster", "ssh:a"], "--cluster is for --engine dask"),
    (["--engine", "slurm", "--devices", "0"], "--devices is for --engine local")])
def test_options_that_do_not_fit_are_one_line(tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main([str(sweeps.grid(tmp_path, 1)), "--out", str(tmp_path / "a"), *options]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_status_of_no_sweep_and_no_grid_are_one_line(tmp_path, capsys):
    assert command.main(["--status", str(tmp_path)]) == 2 and "no sweep there" in capsys.readouterr().err
    assert command.main([]) == 2 and "expected GRID.toml" in capsys.readouterr().err


def test_importing_the_command_brings_no_engine_with_it():
    code = "import sys, npdvae.sweep.__main__ as m; print([x for x in ('dask', 'distributed', 'matplotlib', 'numba') " \
           "if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=sweeps.ROOT, check=True)
    assert done.stdout.strip() == "[]"
