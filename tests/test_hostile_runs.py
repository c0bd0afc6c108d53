"""Run folders and configurations that a stranger made: no code runs, nothing hangs, one line. Share: 6 s."""
import os
import shutil
import sys

import numpy as np
import pytest

from npdvae import checkpoint, evaluate, report, sample, train
from npdvae.run import Run
from npdvae.sweep import __main__ as sweep
from npdvae.sweep import grid
from tests import hostile

posix = pytest.mark.skipif(os.name != "posix", reason="FIFOs need a POSIX system")
READERS = {"evaluate": (evaluate, ["--samples", "1"]), "sample": (sample, ["--count", "2"]),
           "report": (report, ["--samples", "1"])}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return hostile.small_run(tmp_path_factory.mktemp("hostile") / "run")


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a trace when it is imported."""
    (tmp_path / "evil.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('ran').write_text('')\n"
        "from npdvae.estimators.rloo import RLOO\nfrom npdvae.latents.categorical import Categorical\n"
        "from npdvae.likelihoods.bernoulli import Bernoulli\nfrom npdvae.optimizers.adam import Adam\n"
        "from npdvae.priors.uniform import Uniform\n"
        "class E(RLOO): pass\nclass L(Categorical): pass\nclass B(Bernoulli): pass\nclass O(Adam): pass\n"
        "class P(Uniform): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "ran"
    sys.modules.pop("evil", None)


def refused(capsys, command, *arguments):
    """The command ends with 2 and one line, which is returned."""
    capsys.readouterr()
    code = command.main([str(a) for a in arguments])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and error.startswith("npdvae: error: "), (code, error)
    return error


# ---- no code from data

@pytest.mark.parametrize("part, name", [("estimator", "E"), ("optimizer", "O")])
def test_what_is_read_needs_neither_estimator_nor_optimizer(run, evil, part, name):
    hostile.settings(run, **{part: f'"evil:{name}"'})
    for command, arguments in READERS.values():
        assert command.main([str(run), *arguments]) == 0
    assert not evil.exists()
    assert Run.load(run).elbo(np.zeros((2, 64))).shape == (2,)


@pytest.mark.parametrize("part, name", [("latent", "L"), ("likelihood", "B"), ("prior", "P")])
def test_readers_refuse_code_that_a_run_names_unless_it_is_trusted(run, evil, capsys, part, name):
    hostile.settings(run, **{part: f'"evil:{name}"'})
    for command, arguments in READERS.values():
        assert "--trust" in refused(capsys, command, run, *arguments)
    assert not evil.exists()
    assert evaluate.main([str(run), "--samples", "1", "--trust"]) == 0 and evil.exists()


@pytest.mark.parametrize("part, name", [("estimator", "E"), ("optimizer", "O"), ("latent", "L"), ("likelihood", "B"),
                                        ("prior", "P")])
def test_training_takes_code_from_the_command_line_alone_or_trusted(run, evil, capsys, part, name, tmp_path):
    hostile.settings(run, **{part: f'"evil:{name}"'})
    assert "--trust" in refused(capsys, train, "--resume", run, "--epochs", 3)
    assert "--trust" in refused(capsys, train, "--resume", run, "--epochs", 3, f"--{part}", "os:system")
    assert "--trust" in refused(capsys, train, "--config", run / "config.toml", "--out", tmp_path / "new")
    assert not evil.exists()
    assert train.main(["--resume", str(run), "--epochs", "3", f"--{part}", f"evil:{name}"]) == 0 and evil.exists()
    assert train.main(["--resume", str(run), "--epochs", "4", "--trust"]) == 0


def test_options_of_a_part_name_no_code(run, evil, capsys):
    hostile.settings(run, latent_options='{estimator = "evil:E"}')
    assert "estimator is not an option here" in refused(capsys, evaluate, run)
    assert not evil.exists()


# ---- content with a right digest

@pytest.mark.parametrize("meta, message", [
    ({"step": "4611686018427387904"}, "step 4611686018427387904"), ({"step": "-1"}, "step -1"),
    ({"step": "6.0"}, "step 6.0"), ({"shape": "[8]"}, "shape [8]"), ({"shape": "[64, -1]"}, "shape [64, -1]"),
    ({"shape": '{"a": 1}'}, "shape {'a': 1}"), ({"shape": "[" * 90_000}, "recursion"), ({"pixels": "65"}, "65 pixels"),
    ({"pixels": "1e400"}, "inf pixels"), ({"config": "latents = "}, "not valid TOML"),
    ({"config": "a" + ".a" * 60_000 + " = 1"}, "dots"), ({"config": "epochs = 0"}, "--epochs: got 0"),
    ({"config": "x = 3"}, "unknown key 'x'"), ({"config": "latents = " + "9" * 5000}, "not valid TOML")])
def test_crafted_entries_are_one_line(run, capsys, meta, message):
    for path in run.glob("*.safetensors"):
        hostile.rewrite(path, **meta)
    for command, arguments in [*READERS.values(), (train, ["--epochs", "3"])]:
        words = ["--resume", run] if command is train else [run]
        assert message in refused(capsys, command, *words, *arguments)


@pytest.mark.parametrize("name", ["step", "config", "pixels", "shape"])
def test_missing_entries_are_one_line(run, capsys, name):
    for path in run.glob("*.safetensors"):
        hostile.rewrite(path, drop=[name])
    assert f"no '{name}'" in refused(capsys, evaluate, run)


@pytest.mark.parametrize("name, change, message", [
    ("params/encoder.0.weight", hostile.nan_like, "encoder.0.weight is not finite"),
    ("params/encoder.0.weight", lambda a: a.astype(np.float64), "of type float64, expected float32"),
    ("params/encoder.0.weight", lambda a: a.T.copy(), "has shape [4, 64], expected [64, 4]"),
    ("params/encoder.0.weight", lambda a: None, "is missing"),
    ("progress/sums", hostile.nan_like, "three finite"), ("progress/best", lambda a: None, "no 'progress/best'"),
    ("params/more", lambda a: np.zeros(3, np.float32), "'more' has shape [3], expected none"),
    ("else", lambda a: np.zeros(3), "which no run has")])
def test_crafted_arrays_are_one_line(run, capsys, name, change, message):
    for path in run.glob("*.safetensors"):
        hostile.rewrite(path, {name: change(checkpoint.load(path)[0].get(name))})
    for command, arguments in [*READERS.values(), (train, ["--epochs", "3"])]:
        words = ["--resume", run] if command is train else [run]
        assert message in refused(capsys, command, *words, *arguments)


@pytest.mark.parametrize("name, change", [
    ("moments/m.encoder.0.weight", hostile.nan_like), ("moments/m.encoder.0.weight", lambda a: a[:1]),
    ("moments/m.encoder.0.weight", lambda a: None), ("moments/odd", lambda a: np.zeros(2, np.float32)),
    ("estimator/odd", lambda a: np.zeros(2))])
def test_a_crafted_state_is_not_resumed(run, capsys, name, change):
    for path in run.glob("*.safetensors"):
        hostile.rewrite(path, {name: change(checkpoint.load(path)[0].get(name))})
    assert name in refused(capsys, train, "--resume", run, "--epochs", 3)


def test_parameters_whose_figures_overflow_are_named(run, capsys):
    for path in run.glob("*.safetensors"):
        hostile.rewrite(path, {"params/decoder.1.weight": np.full((4, 64), 3e38, np.float32)})
    assert "is not finite" in refused(capsys, evaluate, run)
    assert "is not finite" in refused(capsys, report, run)


@pytest.mark.parametrize("header", [
    b'","x":' + b"[" * 50_000, b'"}}', b'"},"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}',
    b'"},"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'])
def test_odd_headers_with_a_right_digest_are_one_line(header):
    try:
        arrays, _ = checkpoint.decode(hostile.sealed(header, b"\0\0"))
    except checkpoint.CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert not arrays


def test_sizes_of_the_settings_are_held_to_what_is_stored(run, capsys):
    """A configuration of billions beside a few hundred numbers is refused before anything of that size is made."""
    for change in ({"latents": 1000000000}, {"latents": 1000000}, {"categories": 900000, "latent_options": "{}"},
                   {"hidden": "[1000000, 1000000]"}, {"latent": '"vq"', "categories": 1000000, "estimator": '"rloo"'},
                   {"prior": '"autoregressive"', "latents": 100000}, {"samples": 1000000}):
        hostile.settings(run, **change)
        for command, words in ((evaluate, [run]), (train, ["--resume", run, "--epochs", 3])):
            if "samples" not in change or command is train:
                assert len(refused(capsys, command, *words)) < 600


# ---- files that are none

@posix
@pytest.mark.parametrize("name", ["checkpoint-00000009.safetensors", "best.safetensors", "metrics.jsonl",
                                  "config.toml"])
def test_readers_never_hang_at_fifos(run, capsys, name):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    codes = [command.main([str(run), *arguments]) for command, arguments in READERS.values()]
    codes += [evaluate.main([str(run), "--checkpoint", "best"]), train.main(["--resume", str(run), "--epochs", "3"])]
    out = capsys.readouterr()
    assert set(codes) <= {0, 2} and "Traceback" not in out.err
    if name != "config.toml":
        assert "not a regular file" in out.out + out.err or "no such checkpoint" in out.err


@posix
def test_data_and_settings_are_read_from_regular_files_alone(tmp_path, capsys):
    for name in ("a.npy", "a.npz", "a.toml"):
        os.mkfifo(tmp_path / name)
    assert "a.npy does not exist" in refused(capsys, train, "--data", tmp_path / "a.npy")
    assert "not a regular file" in refused(capsys, train, "--config", tmp_path / "a.toml")
    assert "not a regular file" in refused(capsys, train, "--config", "/dev/zero")


def test_a_folder_with_parts_of_a_run_is_not_adopted(run, capsys):
    (run / "config.toml").unlink()
    before = hostile.listing(run)
    for name in ("best.safetensors", "metrics.jsonl", "checkpoint-00000006.safetensors"):
        assert "already holds a run" in refused(capsys, train, *hostile.SMALL, "--out", run)
        if not name.startswith("checkpoint"):
            (run / name).unlink()
            before.pop(name)
    assert hostile.listing(run).keys() - before.keys() <= {".lock"}
    assert train.main(["--resume", str(run), "--epochs", "3"]) == 0         # its settings are in its checkpoints
    assert "epochs = 3" in (run / "config.toml").read_text()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"latents = ", b"latents = 7\n"])
def test_a_damaged_config_is_named_and_the_checkpoints_settings_serve(run, capsys, content):
    (run / "config.toml").write_bytes(content)
    code = train.main(["--resume", str(run), "--epochs", "3"])
    out = capsys.readouterr()
    assert "config.toml" in out.out + out.err and code == (2 if content in (b"", b"latents = 7\n") else 0)


def test_a_grid_names_no_code_unless_it_is_trusted(evil, tmp_path, capsys):
    (tmp_path / "g.toml").write_text('[base]\nestimator = "evil:E"\n[grid]\nseed = [0]\n')
    assert "--trust" in refused(capsys, sweep, tmp_path / "g.toml", "--out", tmp_path / "s")
    assert not evil.exists()
    assert [task.config.estimator for task in grid.read(str(tmp_path / "g.toml"), trust=True)] == ["evil:E"]
