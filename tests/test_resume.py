"""Runs that are killed or interrupted at any instant go on to the same bits. Share: 8 s; the campaign is long.

python -m pytest -m long tests/test_resume.py -s: 50 kills, 36 of them at random instants.
"""
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from npdvae import checkpoint, engine, metrics, train
from tests.victim import PLACES

VICTIM = pathlib.Path(__file__).with_name("victim.py")
SETTINGS = ["--backend", "numpy", "--hidden", "8", "--batch-size", "250", "--estimator", "reinforce", "--baseline",
            "running_mean", "--prior", "learned", "--validation", "0.1", "--no-figures", "--checkpoint-every", "2",
            "--out", "run"]
posix = pytest.mark.skipif(os.name != "posix", reason="kills and signals need a POSIX system")


class Run:
    """A run of the training command in a folder of its own, started anew after each kill."""

    def __init__(self, folder, *settings):
        self.folder, self.acknowledged, self.began = folder, 0, False
        self.settings = [*SETTINGS, *settings]

    def command(self, where="never", nth=1):
        arguments = ["--resume", "run"] if self.began else self.settings
        return [sys.executable, "-u", VICTIM, where, str(nth), *arguments]

    def process(self, where="never", nth=1):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(self.command(where, nth), cwd=self.folder, text=True, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.began = True
        return process

    def finish(self):
        """Let it end by itself."""
        process = self.process()
        out = process.communicate()[0]
        assert process.returncode == 0, out
        self.note(out)

    def kill_at_random(self, seconds):
        """Kill it `seconds` after the first checkpoint that it says it has saved."""
        process = self.process()
        out = ""
        while "checkpoint-" not in out:
            line = process.stdout.readline()
            assert line, out
            out += line
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        out += process.communicate()[0]
        self.judge(process, out)

    def kill_at(self, where, nth):
        """Kill it at the nth passage of an instant within a save."""
        process = self.process(where, nth)
        self.judge(process, process.communicate()[0])

    def judge(self, process, out):
        """It was killed, and every checkpoint it spoke of, or a later one, can be loaded."""
        assert process.returncode == -signal.SIGKILL, out
        self.note(out)
        found = checkpoint.latest(self.folder / "run")
        assert int(found.meta["step"]) >= self.acknowledged and not found.refused

    def note(self, out):
        self.acknowledged = max([self.acknowledged, *(int(s) for s in re.findall(r"checkpoint-(\d+)\.safe", out))])

    def ending(self):
        """The bytes of the last and of the best checkpoint, and the metrics without their times."""
        folder = self.folder / "run"
        assert not list(folder.glob("*.tmp"))
        lines = [{k: v for k, v in m.items() if not k.startswith("seconds")} for m in metrics.read(folder)]
        return checkpoint.latest(folder).path.read_bytes(), (folder / "best.safetensors").read_bytes(), lines


def pair(tmp_path, *settings):
    """A run that is left alone and one to be killed."""
    runs = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        runs.append(Run(tmp_path / name, *settings))
    runs[0].finish()
    return runs


@posix
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_killed_runs_end_in_the_same_bits(tmp_path, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    whole, killed = pair(tmp_path, "--backend", backend, "--epochs", "5")   # 30 steps, 15 checkpoints
    killed.kill_at("half-written", 3)
    killed.kill_at("before-folder-fsync", 3)
    killed.kill_at_random(0.02)
    killed.finish()
    assert killed.ending() == whole.ending()


@posix
@pytest.mark.long
def test_fifty_kills_end_in_the_same_bits(tmp_path):
    whole, killed = pair(tmp_path, "--epochs", "120")
    r, began = random.Random(0), time.perf_counter()
    aimed = [(place, nth) for place in PLACES for nth in (3, 5)][:14]
    plan = [*aimed, *[None] * (50 - len(aimed))]
    r.shuffle(plan)
    for where in plan:
        if where is None:
            killed.kill_at_random(r.uniform(0, 0.06))
        else:
            killed.kill_at(*where)
    reached = killed.acknowledged
    killed.finish()
    assert killed.ending() == whole.ending()
    print(f"\n50 kills ({len(aimed)} within a save), the last beyond step {reached} of 720: final and best checkpoint "
          f"and metrics identical, no acknowledged checkpoint lost; {time.perf_counter() - began:.0f} s")


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [*SETTINGS, "--epochs", "1"]

    class Killed(BaseException):
        pass

    def dies(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine.Readable, "run", dies)
        with pytest.raises(Killed):
            train.main(arguments)
    assert train.main(["--resume", "run"]) == 0
    assert train.main([*arguments[:-3], "whole", *arguments[-2:]]) == 0
    ends = [checkpoint.latest(folder) for folder in ("run", "whole")]
    assert checkpoint.encode(ends[0].arrays, {}) == checkpoint.encode(ends[1].arrays, {})


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, monkeypatch, capsys, number):
    monkeypatch.chdir(tmp_path)
    arguments = [*SETTINGS, "--epochs", "3"]
    one, steps = engine.Readable.one, []

    def interrupted(self, batch):
        steps.append(batch)
        if len(steps) == 9:
            os.kill(os.getpid(), number)        # in the middle of a step
        return one(self, batch)

    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(engine.Readable, "one", interrupted)
        code = train.main(arguments)
    out = capsys.readouterr().out
    done = int(re.search(r"interrupted; saved at step (\d+)", out)[1])
    assert code == 128 + number and 9 <= done < 18 and "python -m npdvae.train --resume run" in out
    assert int(checkpoint.latest("run").meta["step"]) == done == len(steps)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert train.main(["--resume", "run"]) == 0
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert train.main(arguments) == 0
    assert Run(tmp_path).ending() == Run(tmp_path / "whole").ending()


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_it_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main([*SETTINGS, "--epochs", "2"]) == 0
    newest, before = checkpoint.listing("run")[:2]
    good = newest.read_bytes()
    newest.write_bytes(good[:-1])
    capsys.readouterr()
    assert train.main(["--resume", "run"]) == 0
    out = capsys.readouterr().out
    assert f"checkpoint {newest} refused" in out and f"going on from {before.name}" in out
    assert newest.read_bytes() == good


def trained(folder, *settings):
    return train.main([*SETTINGS[:-2], "--out", str(folder), *settings])


def test_a_longer_resume_records_its_length_and_may_keep_more_checkpoints(tmp_path, capsys):
    """Twice the epochs in two goes: the bits of one, and a run that says its own length."""
    assert trained(tmp_path / "whole", "--epochs", "2") == 0
    assert trained(tmp_path / "parts", "--epochs", "1") == 0
    assert train.main(["--resume", str(tmp_path / "parts"), "--epochs", "2", "--keep-checkpoints", "0"]) == 0
    assert "epochs = 2" in (tmp_path / "parts" / "config.toml").read_text()
    whole, parts = (checkpoint.latest(tmp_path / name).arrays for name in ("whole", "parts"))
    assert all((whole[k] == parts[k]).all() for k in whole)
    capsys.readouterr()
    assert train.main(["--resume", str(tmp_path / "parts")]) == 0
    assert "has done its 2 epochs" in capsys.readouterr().out


def test_a_resume_on_another_engine_says_so(tmp_path, capsys):
    run, small = str(tmp_path / "run"), ["--backend", "numba", "--hidden", "8", "--batch-size", "500", "--no-figures"]
    assert train.main([*small, "--estimator", "darn", "--engine", "readable", "--epochs", "1", "--out", run]) == 0
    for epochs, wanted, line in (("2", "readable", None), ("3", "auto", "'readable' trained this run so far, 'segm"),
                                 ("4", "auto", None), ("5", "readable", "'segmented' trained this run so far, 'read")):
        capsys.readouterr()
        assert train.main(["--resume", run, "--engine", wanted, "--epochs", epochs]) == 0
        said = capsys.readouterr().out
        assert (line or "") in said and (line is not None) == ("trained this run so far" in said)


def test_a_schedule_over_the_whole_run_refuses_another_length(tmp_path, capsys):
    assert trained(tmp_path / "a", "--epochs", "1", "--lr-schedule", "cosine") == 0
    assert train.main(["--resume", str(tmp_path / "a"), "--epochs", "3"]) == 2
    assert "cosine learning rate falls over the whole run" in capsys.readouterr().err
    assert "epochs = 1" in (tmp_path / "a" / "config.toml").read_text()
