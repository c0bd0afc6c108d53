"""The command lines as a user meets them: help, wrong commands, backends that are not there. Share: 2 s."""
import errno
import os
import subprocess
import sys

import pytest

import npdvae
from npdvae import cli, config, files, train


def shell(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0 and f"npdvae.{command}" in capsys.readouterr().out


def test_help_of_train_names_every_setting(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = capsys.readouterr().out
    for name in config.FIELDS:
        assert "--" + name.replace("_", "-") in text
    for f in config.FIELDS.values():
        assert f.metadata["help"].strip()


def test_the_package_runs_as_the_command_and_tells_its_version():
    done = shell("npdvae", "--version")
    assert (done.returncode, done.stdout) == (0, f"npdvae {npdvae.__version__}\n")
    done = shell("npdvae", "trian")
    assert done.returncode == 2 and "unknown command 'trian'" in done.stderr


def test_unknown_commands_and_options_exit_with_2(capsys):
    assert cli.main(["trian"]) == 2 and "unknown command 'trian'" in capsys.readouterr().err
    assert cli.main([]) == 2
    done = shell("npdvae.train", "--epochz", "3")
    assert done.returncode == 2 and "--epochz" in done.stderr and done.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_named_without_its_number(tmp_path, capsys):
    assert cli.main(["sweep", str(tmp_path / "grid.toml")]) == 2
    assert capsys.readouterr().err == f"npdvae: error: {tmp_path / 'grid.toml'}: No such file or directory\n"


def test_cupy_without_a_gpu_is_refused_in_one_line(tmp_path):
    """Runs the real command: no CuPy, no driver or no device; each says what is missing."""
    done = shell("npdvae.train", "--backend", "cupy", "--epochs", "1", "--out", str(tmp_path / "r"))
    if done.returncode == 0:
        pytest.skip("a CUDA GPU is at hand")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "npdvae: error: " in done.stderr and ("cupy" in done.stderr.lower() or "cuda" in done.stderr.lower())
    assert not (tmp_path / "r").exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    """Writing the configuration fails."""
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    assert train.main(["--backend", "numpy", "--epochs", "1", "--out", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No space left" in error and os.listdir(tmp_path / "r") == [".lock"]
