"""The training command: what it writes, resumes, refuses and reports. Share of the suite: 4 s."""

import os
import signal
import time

import numpy as np
import pytest

from npdvae import checkpoint, compare, metrics, train
from npdvae.engine import Readable
from npdvae.run import Run

SHORT = ["--backend", "numpy", "--epochs", "2", "--hidden", "16", "--batch-size", "300", "--no-figures"]


def run(capsys, *arguments):
    code = train.main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert train.main([*SHORT, "--validation", "0.2", "--out", str(folder)]) == 0
    return folder


def test_a_run_folder_holds_config_metrics_and_checkpoints(finished):
    lines = metrics.read(finished)
    assert [(m["epoch"], m["step"]) for m in lines] == [(1, 4), (2, 8)]
    for m in lines:
        for split in ("train", "test", "validation"):
            # a sum of two float64 numbers, rounded once
            assert m[f"{split}_negative_elbo"] == pytest.approx(m[f"{split}_cost"] + m[f"{split}_kl"], rel=1e-15)
        assert 0 <= m["test_kl"] <= 4 * np.log(8)
        assert m["seconds_per_step"] > 0
    assert lines[1]["train_negative_elbo"] < lines[0]["train_negative_elbo"]
    assert [p.name for p in checkpoint.listing(finished)] == ["checkpoint-00000008.safetensors",
                                                               "checkpoint-00000004.safetensors"]
    assert (finished / "best.safetensors").is_file() and (finished / "config.toml").is_file()


def test_milliseconds_a_step_leave_out_the_first_step_which_compiles(tmp_path, monkeypatch):
    calls, steps = [], Readable.run

    def slow_at_first(engine, order):
        time.sleep(0 if calls else 1)
        calls.append(len(order))
        return steps(engine, order)

    monkeypatch.setattr(Readable, "run", slow_at_first)
    assert train.main([*SHORT, "--epochs", "1", "--out", str(tmp_path / "a")]) == 0
    assert calls[0] == 300 and sum(calls) == 1500
    line = metrics.read(tmp_path / "a")[0]
    assert line["seconds_per_epoch"] > 1 and line["seconds_per_step"] < 0.15    # five steps; 0.2 with the pause


def test_the_same_seed_gives_the_same_bits_and_another_does_not(finished, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    assert train.main([*SHORT, "--validation", "0.2", "--out", str(same)]) == 0
    assert train.main([*SHORT, "--validation", "0.2", "--seed", "1", "--out", str(other)]) == 0
    name = "checkpoint-00000008.safetensors"
    a, b, c = (checkpoint.load(folder / name)[0] for folder in (finished, same, other))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["params/encoder.0.weight"], c["params/encoder.0.weight"])


def test_a_run_ends_with_its_figures_named(tmp_path, capsys):
    code, out, _ = run(capsys, *SHORT, "--epochs", 1, "--figures", "--out", tmp_path / "r")
    assert code == 0 and "collapsed posterior" in out and str(tmp_path / "r" / "report.html") in out
    drawn = {p.stem for p in (tmp_path / "r" / "figures").glob("*.png")}
    assert drawn == {"elbo", "reconstructions", "traversals", "prior", "code_use"}
    assert all(name in out for name in drawn)


def test_microbatches_give_the_whole_batchs_step_to_rounding(tmp_path):
    ends = []
    for i, extra in enumerate(([], ["--microbatch", "70"])):
        folder = tmp_path / str(i)
        assert train.main([*SHORT, *extra, "--dtype", "float64", "--estimator", "reinforce", "--out", str(folder)]) == 0
        ends.append(checkpoint.latest(folder).arrays)
    assert ends[0].pop("progress/best") == np.inf
    for k, v in ends[0].items():                # sums in another order, over 10 steps, magnified by Adam's division
        assert np.abs(v - ends[1][k]).max() <= 1e-9 * max(1, np.abs(v).max()), k


def test_resuming_with_more_epochs_equals_the_longer_run(finished, tmp_path, capsys):
    import shutil
    folder, whole = tmp_path / "part", tmp_path / "whole"
    shutil.copytree(finished, folder)
    assert run(capsys, "--resume", folder, "--epochs", 3)[0] == 0
    assert train.main([*SHORT, "--validation", "0.2", "--epochs", "3", "--out", str(whole)]) == 0
    a, b = checkpoint.latest(folder).arrays, checkpoint.latest(whole).arrays
    assert all(np.array_equal(a[k], b[k]) for k in a) and a.keys() == b.keys()
    assert [m["step"] for m in metrics.read(folder)] == [4, 8, 12]
    code, out, _ = run(capsys, "--resume", folder, "--epochs", 3)
    assert code == 0 and "nothing to do" in out


def test_several_seeds_report_mean_and_spread(tmp_path, capsys):
    code, out, _ = run(capsys, *SHORT, "--epochs", 1, "--seeds", 3, 4, "--out", tmp_path / "s")
    assert code == 0 and "2 seeds: 3 4" in out and "+-" in out
    ends = [metrics.read(tmp_path / "s" / f"seed{s}")[-1]["test_negative_elbo"] for s in (3, 4)]
    assert f"{np.mean(ends):.2f} +- {np.std(ends, ddof=1):.2f}" in out


def test_several_seeds_go_on_where_they_were_cut_off(tmp_path, capsys, monkeypatch):
    """Interrupted in the first of two; the same command ends in the numbers of one that nobody interrupted."""
    words = [*SHORT, "--epochs", 2, "--seeds", 3, 4, "--no-figures", "--out"]
    code, whole, _ = run(capsys, *words, tmp_path / "whole")
    assert code == 0
    steps, one = [], Readable.one

    def interrupted(self, batch):
        steps.append(batch)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return one(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Readable, "one", interrupted)
        code, out, _ = run(capsys, *words, tmp_path / "s s")
    assert code == 130 and f"--resume '{tmp_path}/s s/seed3'" in out and f"--out '{tmp_path}/s s'" in out
    assert not (tmp_path / "s s" / "seed4").exists()
    for said in ("resuming", "nothing to do"):                      # and once more, when all is done
        code, out, _ = run(capsys, *words, tmp_path / "s s")
        assert code == 0 and said in out and out.split("2 seeds:")[1] == whole.split("2 seeds:")[1]
    code, _, error = run(capsys, *words[:-1], "--lr", 0.1, "--out", tmp_path / "s s")
    assert code == 2 and "can only go on as it began" in error


def test_a_folder_with_a_leading_dash_has_its_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, error = run(capsys, *SHORT[:-1], "--epochs", 1, "--out=-dash")
    assert code == 0 and error == "" and "python -m npdvae.evaluate ./-dash\n" in out
    assert (tmp_path / "-dash" / "report.html").is_file()


@pytest.mark.parametrize("extra, message", [
    (["--estimator", "rlo"], "did you mean rloo"),
    (["--estimator", "nowhere:Thing"], "cannot load estimator"),
    (["--categories", "0"], "--categories: got 0"),
    (["--estimator", "rloo", "--temperature", "2"], "no option 'temperature'"),
    (["--estimator", "exact", "--latents", "20"], "more than 1048576"),
    (["--data", "no-such-place"], "no-such-place"),
    (["--preset", "nothing"], "unknown preset"),
    (["--config", "no-such.toml"], "no-such.toml"),
    (["--estimator-options", "x"], "expected KEY=VALUE"),
    (["--resume", "no-such-run"], "no run there"),
    (["--lr", "1e30", "--optimizer", "sgd"], "training diverged"),
    (["--validation", "0.9999"], "validation"),
    (["--keep-checkpoints", "-1"], "--keep-checkpoints: got -1, expected not negative"),
    (["--seeds", "1", "1"], "each seed once"),
])
def test_a_users_mistake_gives_one_line_and_exit_code_2(tmp_path, capsys, extra, message):
    out = [] if "--resume" in extra else ["--out", tmp_path / "r"]
    code, _, err = run(capsys, *SHORT, *extra, *out)
    assert code == 2
    assert err.startswith("npdvae: error: ") and err.count("\n") == 1 and message in err


def test_an_occupied_folder_is_not_overwritten(finished, capsys):
    before = (finished / "metrics.jsonl").read_bytes()
    code, _, err = run(capsys, *SHORT, "--out", finished)
    assert code == 2 and "already holds a run" in err and (finished / "metrics.jsonl").read_bytes() == before


def test_resuming_as_another_model_is_refused(finished, capsys):
    for extra in (["--latents", "5"], ["--lr", "0.1"], ["--dtype", "float64"], ["--data", "mnist"]):
        code, _, err = run(capsys, "--resume", finished, *extra)
        assert code == 2 and extra[0] in err and "can only go on as it began" in err


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, *SHORT, "--out", tmp_path / "file" / "r")
    assert code == 2 and str(tmp_path / "file") in err and err.count("\n") == 1


def test_the_users_own_estimator_trains(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from npdvae.estimators.rloo import RLOO\nclass Mine(RLOO):\n    name = 'mine'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, _ = run(capsys, *SHORT, "--estimator", "mine:Mine", "--samples", 3, "--out", tmp_path / "r")
    assert code == 0 and "mine:Mine" in out
    assert Run.load(tmp_path / "r", trust=True).model.latent.estimator.samples == 3


def test_metrics_cut_off_by_a_crash_are_mended(tmp_path, finished):
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, lines[-1][:9]]))
    said = []
    metrics.cut(tmp_path, 4, 1, said.append)
    assert [m["step"] for m in metrics.read(tmp_path)] == [4] and "line 3 is damaged" in said[0] and len(said) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_events_are_written_when_asked_for(tmp_path, capsys):
    pytest.importorskip("tensorboardX", reason="tensorboardX is an extra")
    assert run(capsys, *SHORT, "--tensorboard", "--out", tmp_path / "r")[0] == 0
    assert list((tmp_path / "r").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("arguments, message", [
    (["--latent-options", "latents=3"], "--latent-options: latents is not an option here, see --latents"),
    (["--estimator-options", "prior=learned"], "--estimator-options: prior is not an option here, see --prior"),
    (["--likelihood-options", "ops=3"], "likelihood"), (["--estimator", "os:system"], "expected a class"),
    (["--latent", "json:JSONDecoder"], "expected a class derived from npdvae.latents.base.Latent"),
    (["--prior", "autoregressive", "--kl-weight", "0.5"], "prior autoregressive has no analytic KL to weigh"),
    (["--estimator", "vimco", "--kl-weight", "0.5"], "vimco has no analytic KL to weigh")])
def test_options_that_do_not_fit_are_one_line(arguments, message, tmp_path, capsys):
    code, _, error = run(capsys, *SHORT, *arguments, "--out", tmp_path / "r")
    assert code == 2 and message in error and error.count("\n") == 1, error


def test_resume_takes_no_other_settings(tmp_path, capsys):
    assert train.main([*SHORT, "--out", str(tmp_path / "r")]) == 0
    (tmp_path / "c.toml").write_text("lr = 0.5\n")
    code, _, error = run(capsys, "--resume", tmp_path / "r", "--config", tmp_path / "c.toml")
    assert code == 2 and "drop --config" in error
    before = (tmp_path / "r" / "config.toml").read_text()
    code, out, _ = run(capsys, "--resume", tmp_path / "r", "--epochs", 1)
    assert code == 0 and "nothing to do" in out and (tmp_path / "r" / "config.toml").read_text() == before


def test_compare_refuses_a_prior_that_is_not_factorised(tmp_path, capsys):
    assert train.main([*SHORT, "--prior", "autoregressive", "--out", str(tmp_path / "r")]) == 0
    assert compare.main([str(tmp_path / "r")]) == 2
    assert "prior autoregressive: only models of a factorised prior" in capsys.readouterr().err


CARELESS = """
import numpy as np
from npdvae.estimators.rloo import RLOO
from npdvae.optimizers.sgd import SGD

class Doubles(RLOO):
    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost, dcodes, state).astype(np.float64)

class First(RLOO):
    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost, dcodes, state)[0]

class Nothing(RLOO):
    def backward(self, draw, cost, dcodes=None, state=None):
        pass

class Grows(RLOO):
    def init(self, rng, latents, categories, context_size=0):
        return {"mean": np.zeros(())}

    def advance(self, draw, cost, state):
        return {**state, "last": cost[0, :3]}

class Double(SGD):
    def rule(self, p, g, *moments, t, lr):
        return tuple(np.float64(1) * y for y in super().rule(p, g, *moments, t=t, lr=lr))
"""


@pytest.fixture
def careless(tmp_path, monkeypatch):
    (tmp_path / "careless.py").write_text(CARELESS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("options", [["--estimator", "careless:Doubles"], ["--optimizer", "careless:Double"]])
def test_what_computes_in_doubles_leaves_a_run_that_can_be_read(careless, options, tmp_path, capsys):
    folder = tmp_path / "r"
    assert run(capsys, *SHORT, *options, "--out", folder)[0] == 0
    assert {a.dtype for k, a in checkpoint.latest(folder).arrays.items() if k.startswith(("params/", "moments/"))} == {
        np.dtype(np.float32)}
    code, out, _ = run(capsys, "--resume", folder, "--epochs", 3, "--trust")
    assert code == 0 and "resuming" in out


@pytest.mark.parametrize("engine", ["readable", "segmented"])
@pytest.mark.parametrize("name, message", [
    ("First", "backward gave (4, 8), expected [B, D, K] = (300, 4, 8)"),
    ("Nothing", "backward gave None, expected [B, D, K] = (300, 4, 8)"),
    ("Grows", "nothing saved at step 1: in the state after a step 'estimator/last' is float32 [3], expected none")])
def test_what_an_estimator_may_not_give_is_one_line(careless, name, message, engine, tmp_path, capsys):
    backend = [] if engine == "readable" else ["--backend", "numba"]
    code, _, error = run(capsys, *SHORT, *backend, "--engine", engine, "--estimator", f"careless:{name}", "--out",
                         tmp_path / "r")
    assert code == 2 and message in error and error.count("\n") == 1, error
