"""The first run of the CPU kernels: the same bits as every later one, whatever happens to helpers and files.
Share: 50 s.
"""
import collections
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from numba.core.compiler import CompileResult
from safetensors.numpy import load_file

from npdvae.kernels.cpu import calls, interrupt, jobs, prepare, store, target

if target.reason_unfit() or os.environ.get("NUMBA_DISABLE_JIT") == "1":
    pytest.skip("needs POSIX threads and kernels that are compiled", allow_module_level=True)

DIGITS = {"work", "pixels", "invert", "pick", "dense", "backward", "weight_gradient", "picked_weight_gradient",
          "latent", "latent_backward", "report"}        # what the default run uses
QUICK = ("invert", "pick", "report", "picked_weight_gradient")      # compiled in a second, and enough for helpers
assert len(QUICK) > prepare.FEW


def command(out, *options):
    return [sys.executable, "-m", "npdvae.train", "--epochs", "1", "--no-figures", "--out", str(out), *options]


def environment(cache, **more):
    return {**os.environ, "XDG_CACHE_HOME": str(cache), **more}


def train(cache, out, *options, **more):
    """A run of one epoch: what it wrote to stderr."""
    run = subprocess.run(command(out, *options), env=environment(cache, **more), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stderr


def tensors(out):
    (path,) = pathlib.Path(out).glob("checkpoint*")
    return {name: x.tobytes() for name, x in load_file(path).items()}


def files(cache):
    """{name of a kernel: its file}"""
    return {path.name.rpartition("-")[0].rpartition(".")[2]: path
            for path in pathlib.Path(cache).glob("npdvae/kernels-*/*")}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A first run with nothing compiled, its cache, and what it said."""
    folder = tmp_path_factory.mktemp("first")
    said = train(folder / "cache", folder / "run")
    return folder / "cache", folder / "run", said


@pytest.fixture
def nearly(first, tmp_path):
    """That cache less four kernels."""
    cache = tmp_path / "cache"
    shutil.copytree(first[0], cache)
    for name in QUICK:
        files(cache)[name].unlink()
    return cache


def test_the_first_run_ends_in_the_bits_of_the_second(first, tmp_path):
    cache, run, said = first
    assert said == "compiling the CPU kernels, once\n"
    before = {path: path.read_bytes() for path in files(cache).values()}
    assert train(cache, tmp_path / "run", "--threads", "1") == ""
    assert tensors(tmp_path / "run") == tensors(run)
    assert before == {path: path.read_bytes() for path in files(cache).values()}    # nothing was compiled again


def test_only_what_the_plan_uses_is_compiled(first):
    assert {name for name in files(first[0]) if name in jobs.KINDS or name == "work"} == DIGITS


def test_a_damaged_kernel_is_compiled_again_to_the_same_bits(first, nearly, tmp_path):
    for name, size in (("report", 0), ("invert", 1000)):
        shutil.copy(files(first[0])[name], files(nearly)["dense"].parent)
        with open(files(nearly)[name], "r+b") as file:
            file.truncate(size)
    with open(files(nearly)["dense"], "r+b") as file:
        file.seek(2000)
        file.write(b"garbled")
    said = train(nearly, tmp_path / "run").splitlines()
    assert [re.sub(r" /.*/\w+\.(\w+)-.*", r" \1", line) for line in said if "damaged" in line] == [
        f"npdvae: a damaged compiled kernel is thrown away, and compiled again: {name}"
        for name in ("dense", "invert", "report")]
    assert len(said) == 4 and tensors(tmp_path / "run") == tensors(first[1])


@pytest.mark.parametrize("helper", ["import sys; sys.exit(3)", "import os; os.kill(os.getpid(), 9)",
                                    "import sys; sys.stdin.readline(); print('other', flush=True); input()",
                                    "import sys; sys.stdin.readline(); sys.stdin.readline(); sys.exit()"])
def test_what_a_failing_helper_leaves_is_compiled_here(monkeypatch, tmp_path, helper):
    """Nothing is lost, and no process remains."""
    done, processes = [], []
    popen = subprocess.Popen

    def start(*arguments, **options):
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(prepare, "HELPER", helper)
    monkeypatch.setattr(prepare, "count", lambda kernels: 2)
    monkeypatch.setattr(prepare, "compile_one", lambda name: (time.sleep(0.05), done.append(name)))
    monkeypatch.setattr(prepare.subprocess, "Popen", start)
    monkeypatch.setattr(store, "CHOSEN", [tmp_path])
    names = [f"kernel {i}" for i in range(8)]
    prepare.compile_all(names)
    assert sorted(done) == names
    assert len(processes) == 2 and all(p.returncode is not None for p in processes)
    assert not any("feed" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("started", [0, 1])
def test_where_no_process_can_be_started_this_one_compiles(monkeypatch, tmp_path, started):
    done, popen, tries = [], subprocess.Popen, []

    def start(*arguments, **options):
        tries.append(1)
        if len(tries) > started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return popen(*arguments, **options)

    monkeypatch.setattr(prepare, "HELPER", "import sys; sys.exit(3)")
    monkeypatch.setattr(prepare, "count", lambda kernels: 2)
    monkeypatch.setattr(prepare, "compile_one", done.append)
    monkeypatch.setattr(prepare.subprocess, "Popen", start)
    monkeypatch.setattr(store, "CHOSEN", [tmp_path])
    prepare.compile_all(["one", "two"])
    assert sorted(done) == ["one", "two"] and len(tries) == started + 1


@pytest.mark.parametrize("cores, kernels, folder, executable, expected", [
    (1, 9, "/x", "/usr/bin/python3", 0), (2, 9, "/x", "/usr/bin/python3", 2), (64, 30, "/x", "python", 4),
    (64, 5, "/x", "python", 2), (2, 2, "/x", "python", 0), (2, 3, "/x", "python", 0), (2, 4, "/x", "python", 2),
    (2, 9, None, "python", 0), (2, 9, "/x", "/opt/application", 0), (2, 9, "/x", None, 0)])
def test_helpers_are_as_many_as_pay(monkeypatch, cores, kernels, folder, executable, expected):
    """None for another interpreter than Python's, which embeds it and may be anything."""
    monkeypatch.setattr(prepare.os, "sched_getaffinity", lambda process: range(cores), raising=False)
    monkeypatch.setattr(store, "CHOSEN", [folder])
    monkeypatch.setattr(sys, "executable", executable)
    assert prepare.count(kernels) == expected


def test_a_helper_that_hangs_is_given_up(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(prepare, "HELPER", "import time; time.sleep(1000)")
    monkeypatch.setattr(prepare, "PATIENCE", 0.3)
    monkeypatch.setattr(prepare, "count", lambda kernels: 2)
    monkeypatch.setattr(prepare, "compile_one", lambda name: done.append(name))
    monkeypatch.setattr(store, "CHOSEN", [tmp_path])
    names = [f"kernel {i}" for i in range(4)]
    began = time.monotonic()
    prepare.compile_all(names)
    assert sorted(done) == names and time.monotonic() - began < 60


def test_a_helper_of_other_sources_refuses():
    run = subprocess.run([sys.executable, "-c", prepare.HELPER], text=True, capture_output=True,
                         input=json.dumps({"path": sys.path, "folder": "/", "sources": "other"}) + "\n")
    assert run.returncode == 1 and "another version" in run.stderr


def test_helpers_compile_what_this_process_finds(nearly, monkeypatch):
    """A fresh interpreter each, that needs nothing of this one's main module, and ends when its input does."""
    (folder,) = nearly.glob("npdvae/kernels-*")
    monkeypatch.setattr(store, "CHOSEN", [folder])
    todo, progress = collections.deque(QUICK), prepare.Progress(4)
    process = subprocess.Popen([sys.executable, "-P", "-c", prepare.HELPER], stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE)
    prepare.feed(process, todo, progress)
    assert not todo and progress.done == 4 and process.wait(60) == 0
    process.stdout.close()
    assert set(QUICK) <= set(files(nearly))


def test_four_processes_may_start_at_once(first, nearly, tmp_path):
    code = f"from npdvae.kernels.cpu import prepare; prepare.ready({set(QUICK)})"
    runs = [subprocess.Popen([sys.executable, "-c", code], env=environment(nearly), text=True, stderr=subprocess.PIPE)
            for _ in range(4)]
    for run in runs:
        assert run.wait(900) == 0 and run.stderr.read() == "compiling the CPU kernels, once\n"
        run.stderr.close()
    assert set(files(nearly)) == set(files(first[0]))
    assert train(nearly, tmp_path / "run") == "" and tensors(tmp_path / "run") == tensors(first[1])


@pytest.mark.long
def test_a_cache_that_cannot_be_used_changes_no_bit(first, nearly, tmp_path):
    """What lies there is not touched, nothing is left behind."""
    files(nearly)["dense"].write_bytes(b"another user's")
    nearly.joinpath("npdvae").chmod(0o777)
    (tmp_path / "tmp").mkdir()
    said = train(nearly, tmp_path / "run", TMPDIR=str(tmp_path / "tmp")).splitlines()
    assert len(said) == 2 and "others may write" in said[0] and said[1].startswith("compiling")
    assert tensors(tmp_path / "run") == tensors(first[1]) and not list((tmp_path / "tmp").iterdir())
    assert files(nearly)["dense"].read_bytes() == b"another user's"


def children(pid):
    """Processes whose parent is pid, with their command lines (Linux)."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(path.parent.name)] = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
    return found


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="reads /proc, as POSIX systems other than "
                    "Linux have none")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_while_compiling_ends_in_a_line_and_leaves_no_process(tmp_path, number, code):
    cache = tmp_path / "cache"
    run = subprocess.Popen(command(tmp_path / "run"), env=environment(cache), text=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
    assert run.stderr.readline() == "compiling the CPU kernels, once\n"
    began = time.monotonic()
    while not any(b"prepare.serve" in line for line in children(run.pid).values()) and time.monotonic() < began + 5:
        time.sleep(0.01)                        # on one core there are none
    helpers = [pid for pid, line in children(run.pid).items() if b"prepare.serve" in line]
    run.send_signal(number)
    assert run.wait(60) == code
    said = run.stderr.read()
    run.stderr.close()
    assert said == ("" if number == signal.SIGKILL else f"npdvae: interrupted by {signal.Signals(number).name}\n")
    began = time.monotonic()
    while any(pathlib.Path(f"/proc/{pid}").exists() and b"prepare.serve" in pathlib.Path(
            f"/proc/{pid}/cmdline").read_bytes() for pid in helpers):
        assert time.monotonic() < began + 30
        time.sleep(0.01)
    for path in files(cache).values():          # whole, or not there
        if not path.name.endswith(".part"):
            assert path.read_bytes().startswith(store.MARK)


def test_signals_are_noted_within_the_block_and_raised_where_it_is_safe():
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    heard = []
    signal.signal(signal.SIGTERM, lambda *arguments: heard.append(arguments))
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            for checks in (True, False):        # at its end too
                reached = []
                with pytest.raises(interrupt.Stopped) as stopped, interrupt.noted() as signals:
                    signals.check()
                    os.kill(os.getpid(), number)
                    reached.append(number)
                    if checks:
                        signals.check()
                        reached.append("not reached")
                assert stopped.value.number == number and reached == [number] and not heard
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(heard) == 1
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with interrupt.noted():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before[1])
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_signals_are_left_alone_in_other_threads():
    seen = []

    def other():
        with interrupt.noted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream, expected", [
    (io.StringIO(), "compiling the CPU kernels, once\n"),
    (Screen(), "".join(f"\r\x1b[K{text}" for text in (*(f"compiling the CPU kernels, once: {i} of 2" for i in range(3)),
                                                      "")))])
def test_progress_is_one_line_and_wiped_on_a_terminal(monkeypatch, stream, expected):
    monkeypatch.setattr(sys, "stderr", stream)
    with prepare.Progress(2) as progress:
        progress.step()
        progress.step()
    assert stream.getvalue() == expected


@pytest.mark.parametrize("stream", [None, "closed"])
def test_progress_without_anybody_to_see_it(monkeypatch, stream):
    if stream:
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with prepare.Progress(1) as progress:
        progress.step()


def test_a_kernel_shows_nothing_but_itself():
    """No copy of what it calls can be taken for another's."""
    prepare.compile_one("report")
    kernel, signature = prepare.unit("report")
    match kernel._compiler.compile(signature.args, signature.return_type):
        case CompileResult(library=code):
            functions = code._final_module.functions
    seen = [f.name for f in functions if not f.is_declaration and f.linkage.name != "internal"]
    assert seen and set(seen) <= code.own


def test_addresses_are_those_of_the_kinds_asked_for():
    found = prepare.ready({"report", "invert"})
    assert found.dtype == np.int64 and set(np.flatnonzero(found)) == {jobs.REPORT, jobs.INVERT}
    assert len(set(found[found != 0])) == 2
    assert np.array_equal(prepare.ready({"report", "invert"}), found)


def test_an_argument_of_another_type_is_refused_when_it_is_compiled():
    from numba import njit
    from numba.core.errors import TypingError

    @njit
    def call(order):
        calls.do(order, *(0,) * 17)

    with pytest.raises(TypingError, match="job argument a: .*expected array"):
        call(np.zeros(3, np.int64))


SETTINGS = [*(f"--estimator {name}" for name in ("straight_through", "reinmax", "rloo")),
            "--estimator exact --latents 2", *(f"--estimator reinforce --estimator-options baseline={name}"
              for name in ("none", "constant", "running_mean", "batch_leave_one_out")),
            "--prior learned", "--prior learned --estimator exact --latents 2", "--activation tanh",
            "--activation leaky_relu", "--hidden 600 100 --batch-size 30", "--binarize dynamic --optimizer radam",
            *(f"--engine segmented --estimator {name}" for name in ("rloo", "gumbel_softmax", "straight_through_gumbel",
                                                                    "relax", "vimco"))]


@pytest.mark.long
@pytest.mark.parametrize("tile", ["avx2", "avx512"])
@pytest.mark.parametrize("options", SETTINGS)
def test_first_and_second_runs_agree_on_everything(tmp_path, options, tile):
    if tile == "avx512" and not target.WIDE:
        tile = "avx2"
    for name in ("cold", "warm"):
        train(tmp_path / "cache", tmp_path / name, *options.split(), NPDVAE_TILE=tile)
    assert tensors(tmp_path / "cold") == tensors(tmp_path / "warm")
