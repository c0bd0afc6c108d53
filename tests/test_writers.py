"""One writer a run; metrics and settings survive damage; nothing is taken that does not fit. Share: 16 s."""
import gzip
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time
import tomllib
import tracemalloc
import zipfile

import numpy as np
import pytest

from npdvae import data, engine, evaluate, evaluation, lock, memory, metrics, process, report, sample, train
from npdvae.config import Config
from npdvae.explore import __main__ as explore
from npdvae.settings import from_mapping, resolve, to_toml
from tests import hostile

ROOT = pathlib.Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits need a POSIX system")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return hostile.small_run(tmp_path_factory.mktemp("writers") / "run")


@pytest.fixture
def run(original, tmp_path):
    import shutil
    return shutil.copytree(original, tmp_path / "run")


def refused(capsys, *arguments):
    """Training ends with 2 and one line, which is returned."""
    capsys.readouterr()
    code = train.main([str(a) for a in arguments])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and error.startswith("npdvae: error: "), (code, error)
    return error


# ---- one writer

def test_a_run_that_is_being_written_is_not_written_by_another(run, capsys):
    before = hostile.listing(run)
    with lock.held(run):
        assert "another process is writing" in refused(capsys, "--resume", run, "--epochs", 3)
        assert "another process is writing" in refused(capsys, *hostile.SMALL, "--out", run)
        assert report.main([str(run), "--samples", "1"]) == 0       # readers, and who writes whole files, need no lock
    for name, content in before.items():
        assert (run / name).read_bytes() == content
    assert train.main(["--resume", str(run), "--epochs", "3"]) == 0


def test_the_lock_dies_with_its_process(tmp_path):
    code = "import sys, pathlib, time; from npdvae import lock\nwith lock.held(pathlib.Path(sys.argv[1])):\n" \
           "    print('held', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, cwd=ROOT)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match="another process"), lock.held(tmp_path):
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    with lock.held(tmp_path):
        pass


@posix
def test_a_lock_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ValueError, match="not a regular file"), lock.held(tmp_path):
        pass


# ---- history

@pytest.mark.parametrize("tail", [b"{}\n", b"5\n", b"[[[[", b"[" * 60_000 + b"\n", b"\xff\xfe\n", b'{"step": NaN}\n',
                                  b"x" * 200_000 + b"\n", b'{"epoch": 3, "step": 3}\n', b"\n",
                                  hostile.line(3, 1e400).encode() + b"\n", hostile.line(9, 3).encode() + b"\n",
                                  hostile.line(9, 99, more=float("nan")).encode() + b"\n"])
def test_damaged_lines_are_named_and_the_others_kept(run, capsys, tail):
    path = run / "metrics.jsonl"
    good = path.read_bytes()
    path.write_bytes(good + tail)
    assert report.main([str(run), "--samples", "1"]) == 0
    assert "line 3 is damaged" in capsys.readouterr().out
    assert train.main(["--resume", str(run), "--epochs", "3"]) == 0
    assert "line 3 is damaged" in capsys.readouterr().out
    assert [m["epoch"] for m in metrics.read(run)] == [1, 2, 3] and path.read_bytes().startswith(good)
    kept = run / "metrics.jsonl.damaged-1"
    assert kept.read_bytes() == good + tail if tail.endswith(b"\n") else not kept.exists()


def test_damage_before_good_lines_erases_none_of_them(run, capsys):
    path = run / "metrics.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"\n" + first + b"\xff\n" + second)
    assert [m["epoch"] for m in metrics.read(run)] == [1, 2]
    assert train.main(["--resume", str(run), "--epochs", "3"]) == 0
    assert [m["epoch"] for m in metrics.read(run)] == [1, 2, 3]
    assert (run / "metrics.jsonl.damaged-1").read_bytes() == b"\n" + first + b"\xff\n" + second


def test_a_missing_history_is_said(run, capsys):
    (run / "metrics.jsonl").unlink()
    assert train.main(["--resume", str(run), "--epochs", "3"]) == 0
    assert "2 of the 2 epochs up to step 6 are missing" in capsys.readouterr().out


# ---- settings

@pytest.mark.parametrize("text", ["a\nb", "a\tb\x1b[31m", "\x7f", 'quo"te\\', "é", "\x00"])
def test_control_characters_survive_the_settings(text):
    config = Config(data=text, out=text, estimator_options={text: [text, 1, 0.5, True]})
    assert Config(**from_mapping(tomllib.loads(to_toml(config)), "text")) == config


@pytest.mark.parametrize("settings, message", [
    ({"out": "a\udcff"}, "--out: got 'a.udcff'"), ({"epochs": 10 ** 30}, "--epochs: got 1000"),
    ({"estimator_options": ["a=2020-01-01"]}, "--estimator-options"), ({"latents": 10 ** 9}, "--latents: got 10000"),
    ({"hidden": [10 ** 9]}, "--hidden"), ({"estimator_options": ["a=nan"]}, "--estimator-options"),
    ({"lr": float("inf")}, "--lr")])
def test_settings_that_cannot_be_kept_are_refused_before(settings, message):
    with pytest.raises(ValueError, match=message):
        resolve(settings)


def test_nested_options_are_text_or_refused(capsys, tmp_path):
    assert "--latent-options" in refused(capsys, *hostile.SMALL, "--latent-options", "a=" + "[" * 9 + "]" * 9)
    assert "no option" in refused(capsys, *hostile.SMALL, "--estimator-options", "a=" + "[" * 50_000)


@pytest.mark.parametrize("arguments", [["--data", "~nosuchuser/x.npz"],
                                       ["--data", "mnist", "--data-dir", "~nosuchuser"]])
def test_a_home_that_nobody_has_is_one_line(capsys, arguments):
    assert "no home folder" in refused(capsys, *hostile.SMALL, *arguments)


def test_errors_carry_no_control_characters(capsys):
    assert "\x1b" not in refused(capsys, *hostile.SMALL, "--data", "a\x1b[31m")


@posix
def test_a_wrong_matplotlib_backend_is_found_before_training(tmp_path):
    words = [*hostile.SMALL[:-1], "--out", tmp_path / "r"]
    done = subprocess.run([sys.executable, "-m", "npdvae.train", *words], cwd=ROOT,
                          env={**os.environ, "MPLBACKEND": "nosuch"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nosuch" in done.stderr
    assert not (tmp_path / "r").exists()


def test_exact_warns_of_many_codes_and_stops_at_what_fits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "MANY_CODES", 8)
    assert train.main([*hostile.SMALL, "--estimator", "exact", "--out", str(tmp_path / "r")]) == 0
    assert "all 9 codes" in capsys.readouterr().err
    assert "2**32" in refused(capsys, *hostile.SMALL, "--epochs", 2 ** 40)


def test_a_batch_larger_than_the_data_is_the_data(tmp_path):
    for backend in ("numpy", "numba"):
        words = [*hostile.SMALL, "--backend", backend, "--batch-size", "1000000000", "--epochs", "1"]
        assert train.main([*words, "--out", str(tmp_path / backend)]) == 0
        assert metrics.read(tmp_path / backend)[-1]["step"] == 1


# ---- whole files

@posix
@pytest.mark.parametrize("command, name", [
    (["evaluate", "RUN", "--samples", "1", "--json", "FILE"], "x.json"), (["sample", "RUN", "--out", "FILE"], "s.npz"),
    (["compare", "RUN", "--images", "2", "--estimator", "exact", "--out", "FOLDER"], "compare.csv")])
def test_a_full_disk_leaves_the_old_file_and_names_it(run, tmp_path, command, name):
    (file := tmp_path / "out" / name).parent.mkdir()
    file.write_bytes(b"old")
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n" \
              "sys.argv = sys.argv[1:]; runpy.run_module('npdvae.' + sys.argv[0], run_name='__main__', alter_sys=True)"
    words = [{"RUN": run, "FILE": file, "FOLDER": file.parent}.get(word, word) for word in command]
    done = subprocess.run([sys.executable, "-c", limited, *words], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and done.stderr == f"npdvae: error: {file}: File too large\n"
    assert hostile.listing(file.parent) == {name: b"old"}
    assert "log p(x), exact" in done.stdout or command[0] != "evaluate"     # hours of work are not lost with the file


def test_a_folder_for_figures_that_is_not_there_is_told_before_the_work(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "summary", lambda *_, **__: pytest.fail("evaluated before it was checked"))
    for path in (tmp_path / "nodir" / "x.json", tmp_path):
        assert evaluate.main([str(run), "--json", str(path)]) == 2
        error = capsys.readouterr().err
        assert f"--json: got {path}, expected a file in a folder" in error and error.count("\n") == 1


@posix
def test_figures_go_through_links_and_pipes(run, tmp_path):
    """Both would be gone if a file took their place, /dev/stdout too."""
    (link := tmp_path / "link").symlink_to(tmp_path / "x.json")
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)               # so that no one waits for the other end
    for path in (link, pipe):
        assert evaluate.main([str(run), "--samples", "1", "--json", str(path)]) == 0
    (tmp_path / "link.npz").symlink_to(tmp_path / "x.npz")
    assert sample.main([str(run), "--out", str(tmp_path / "link.npz")]) == 0
    assert (tmp_path / "link.npz").is_symlink() and (tmp_path / "x.npz").is_file()
    (tmp_path / "link.html").symlink_to(tmp_path / "x.html")
    assert explore.main([str(run), "--images", "1", "--samples", "1", "--out", str(tmp_path / "link.html")]) == 0
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "x.html").is_file()
    assert os.read(reader, 2 ** 16) == (tmp_path / "x.json").read_bytes() and link.is_symlink() and pipe.is_fifo()
    os.close(reader)
    assert json.loads((tmp_path / "x.json").read_text())["images"] > 0


# ---- memory

def test_what_does_not_fit_is_refused_before_it_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 2 ** 20)
    tracemalloc.start()
    for words in (["--hidden", "100000", "100000"], ["--latents", "1000000"], ["--samples", "1000000"]):
        assert "more than there is room" in (error := refused(capsys, *hostile.SMALL, *words)) or "GB" in error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 26


def test_memory_that_is_free_has_every_limit(tmp_path, monkeypatch):
    assert 0 < memory.free() <= memory.of_machine() + 2 ** 30       # the machine's own figure moves
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.of_group(str(tmp_path)) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.of_group(str(tmp_path)) == memory.PLENTY == memory.of_group(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="x needs at least"):
        memory.require(2 ** 61, "x")


@pytest.mark.parametrize("kind", ["npz", "header", "lzma", "gz"])
def test_bombs_are_refused_before_they_are_inflated(tmp_path, kind, monkeypatch):
    """Headers that keep their promise: the limit counts, here 2 MB."""
    monkeypatch.setenv("NPDVAE_INFLATE_MB", "2")
    size = 3 * 2 ** 20
    path = tmp_path / "a.npz"
    if kind == "gz":
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 3, 1024, 1024) + bytes(size), 9))
    else:
        method = zipfile.ZIP_LZMA if kind == "lzma" else zipfile.ZIP_DEFLATED
        start = b"\x93NUMPY\x02\x00" + struct.pack("<I", size) if kind == "header" else hostile.npy((3, 1024, 1024))
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("images.npy", start + bytes(size))
    tracemalloc.start()
    with pytest.raises(ValueError, match="NPDVAE_INFLATE_MB") as caught:
        data.load(path if kind != "gz" else tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 2 ** 20 and "\n" not in str(caught.value)
    tracemalloc.stop()
    monkeypatch.setenv("NPDVAE_INFLATE_MB", "many")
    with pytest.raises(ValueError, match="expected a number"):
        data.load(path if kind != "gz" else tmp_path)


def test_a_method_of_compression_without_limit_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", hostile.npy((3, 4), content=b"0" * 12))
    with pytest.raises(ValueError, match="expected none or deflate"):
        data.load(tmp_path / "a.npz")


def test_pixels_out_of_range_are_found_without_a_table_of_them(tmp_path):
    np.save(tmp_path / "a.npy", np.full((300, 4000), 2.0, np.float16))
    tracemalloc.start()
    with pytest.raises(ValueError, match="pixel 0 of image 0 is 2.0"):
        data.load(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 9_000_000           # 2.4 MB of pixels; a table of indices took 19
    tracemalloc.stop()


# ---- signals and streams

def spawned(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "npdvae.train", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_loaded_is_one_line(number, tmp_path):
    """The first module that is loaded after the package is one that signals its own process."""
    (tmp_path / "tqdm.py").write_text(f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(60)\n")
    started = spawned(*hostile.SMALL, "--out", tmp_path / "r", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    out, err = started.communicate()
    assert started.returncode == 128 + number and out == ""
    assert err == f"npdvae: interrupted by {signal.Signals(number).name}\n"


@posix
def test_repeated_signals_keep_the_exit_code(tmp_path):
    """Signals from the second epoch on, every few milliseconds, until it has ended."""
    started = spawned(*hostile.SMALL, "--epochs", "100000", "--out", tmp_path / "r")
    while started.poll() is None and not (tmp_path / "r/metrics.jsonl").exists():   # before, nothing is to be saved
        time.sleep(0.01)
    while started.poll() is None:
        started.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    out, err = started.communicate()
    assert started.returncode == 143 and err == "" and "interrupted; saved at step" in out


def test_a_program_that_imports_the_package_keeps_its_signals():
    code = "import signal; before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)\n" \
           "import npdvae.run\n" \
           "assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@posix
def test_a_second_signal_after_the_first_changes_nothing(monkeypatch):
    """A command that is on its way out ignores what comes; a program around it gets its handlers back."""
    before = signal.getsignal(signal.SIGINT)
    for active, after in ((True, signal.SIG_IGN), (False, before)):
        monkeypatch.setattr(process, "active", active)
        with pytest.raises(process.Interrupted) as caught, process.signals(lambda *_: None):
            raise process.Interrupted(signal.SIGTERM)
        assert caught.value.code == 143 and signal.getsignal(signal.SIGINT) == after
        for number in process.SIGNALS:
            signal.signal(number, before if number == signal.SIGINT else signal.SIG_DFL)


@posix
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_keep_a_run_from_being_saved(tmp_path, closed):
    words = " ".join(hostile.SMALL)
    line = f"exec {sys.executable} -m npdvae.train {words} --out {tmp_path / 'r'} {closed}"
    code = subprocess.call(["sh", "-c", line], cwd=ROOT, stdout=subprocess.DEVNULL)
    assert code == 0 and len(metrics.read(tmp_path / "r")) == 2


def test_figures_that_are_not_finite_end_the_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engine.Readable, "evaluate", lambda self, rows: (np.float64("nan"), np.float64(0)))
    assert "training diverged at step 3: test_negative_elbo is not finite" in refused(
        capsys, *hostile.SMALL, "--out", tmp_path / "r")
    assert not (tmp_path / "r" / "metrics.jsonl").exists()
