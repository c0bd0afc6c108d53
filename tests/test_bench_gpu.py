"""bench/gpu.py on the stand-in for CuPy: what it replays, validates, survives. Share of the suite: 3 s."""
import ast
import contextlib
import json
import os
import pathlib
import signal

import numpy as np
import pytest

from bench import contest, gpu
from bench.problem import Problem
from npdvae.backends import cupy_backend
from npdvae.data.dataset import Dataset
from tests.cuda import cupy_stand_in, emulator

pytestmark = pytest.mark.skipif(bool(emulator.available()), reason=emulator.available() or "-")


class Small(Problem):
    """69 images in batches of 16: four whole ones and a rest."""

    hidden = (9, 7)


SMALL, IMAGES = Small("small", 2, 3, 16), 69
draw = np.random.default_rng(0)
DATA = Dataset("small", (draw.integers(1, 256, (IMAGES, 14)) * (draw.random((IMAGES, 14)) > 0.3)).astype(np.uint8),
               np.zeros((1, 14), np.uint8), (2, 7))


@pytest.fixture
def ours(monkeypatch):
    """Our contestant by precision, on the stand-in."""
    with cupy_stand_in.installed():
        for name in cupy_backend.settings:
            monkeypatch.setitem(cupy_backend.settings, name, cupy_backend.settings[name])
        yield lambda precision="float32": gpu.Ours(SMALL, DATA, precision)


def test_replays_take_whole_batches_of_the_order(ours, monkeypatch):
    made, launched = ours(), []
    made.run(draw.permutation(IMAGES))
    made.run(draw.permutation(IMAGES))
    launch = cupy_stand_in.Graph.launch
    monkeypatch.setattr(cupy_stand_in.Graph, "launch", lambda graph, s: launched.append(graph) or launch(graph, s))
    extra = made.extra()
    assert len(launched) == 5 * (IMAGES // SMALL.B) and extra["replay_us"] > 0
    assert extra["launches"] == {"kernels": 17, "products": 14} and extra["run_bytes"] > 0


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_each_precision_passes_its_own_bound(ours, precision):
    name = "npdvae" if precision == "float32" else "npdvae.tf32"
    error = gpu.validate(ours(precision), SMALL, DATA, gpu.tolerance(name, SMALL))
    if precision == "tf32":                                         # and is no float32
        assert gpu.FLOAT32 < error
        with pytest.raises(ValueError, match="is off by"):
            gpu.validate(ours(precision), SMALL, DATA, gpu.FLOAT32)


@pytest.mark.parametrize("estimator", ["reinforce", "exact"])
@pytest.mark.parametrize("name", ["torch", "jax.jit", "jax.scan"])
def test_peers_compute_the_same_and_train(name, estimator):
    """On the CPU, where the library is installed: graphs and compiled steps need a device."""
    pytest.importorskip(name.split(".")[0])
    problem = Small("small", 2, 3, 16, estimator)
    p, start = DATA.to_probabilities(DATA.train), gpu.first_state(problem, DATA).params
    if name == "torch":
        from bench.peers.torch_gpu import TorchGPU
        made = TorchGPU(problem, name, p, start, "cpu")
    else:
        from bench.peers.jax_gpu import JaxGPU
        made = JaxGPU(problem, name, p, start)
    assert gpu.validate(made, problem, DATA, gpu.tolerance(name, problem)) < gpu.FLOAT32
    random = np.random.default_rng(1)
    order = np.concatenate([random.permutation(IMAGES)[:64] for _ in range(200)])
    first, _, last = made.run(order[:640]), made.run(order), made.run(order[-640:])
    assert 0 < last < 0.97 * first


class Dying:
    """A contestant that dies at one of its commands."""

    events: list = []                           # who was sent something, and who answered

    def __init__(self, name, at=None):
        self.name, self.at, self.asked, self.closed = name, at, [], False

    def send(self, command):
        self.asked.append(command)
        self.events.append(self.name)

    def printed(self):
        return ["engine"]

    def answer(self, seconds):
        assert seconds == gpu.PATIENCE
        self.events.append(f"{self.name}!")
        command = self.asked[-1]
        if self.at is not None and command.startswith(self.at):
            raise RuntimeError(f"{self.name} died at {command!r}")
        return {"check": 1e-6, "extra": {"memory_bytes": 1}}.get(command, 100.0)

    def close(self):
        self.closed = True


@pytest.mark.parametrize("at", ["check", "run", "extra"])
def test_a_contestant_that_dies_is_left_out_and_the_others_go_on(monkeypatch, at):
    made = {name: Dying(name, at if name == "torch" else None) for name in ("npdvae", "torch", "jax.jit")}
    monkeypatch.setattr(gpu, "Process", lambda name, row: made[name])
    arguments = type("Arguments", (), {"seconds": 0.01, "rounds": 2})
    kept = []
    gpu.one("exact", list(made), arguments, {"tflops": 1.0, "gb_s": 1.0}, lambda *told: kept.append(told))
    rounds = [(len(result["contestants"]["npdvae"]["rounds"]), done) for result, done in kept]
    assert rounds == [(1, False), (2, False), (2, True)]            # after each round, and at the end
    found = kept[-1][0]
    assert found["best_peer"] == ("torch" if at == "extra" else "jax.jit")
    contestants = found["contestants"]
    assert contestants["torch"]["failed"].startswith(f"torch died at '{at}") and "failed" not in contestants["npdvae"]
    assert contestants["npdvae"]["rounds"] == [100.0, 100.0] and contestants["npdvae"]["memory_bytes"] == 1
    assert made["npdvae"].closed and not made["torch"].closed
    assert sum(command.startswith(at) for command in made["torch"].asked) == 1      # asked once, then left alone


ODD = """
import atexit, json, os, sys, time
from bench import contest
answers = contest.answers_alone()
for line in sys.stdin:
    os.write(1, b"what a compiler prints\\n")
    print("what a library prints", flush=True)
    if line == "hang\\n":
        answers.write("half a li"), answers.flush()
        time.sleep(60)
    if line == "linger\\n":
        atexit.register(time.sleep, 60)
    if line == "die\\n":
        sys.exit("Error: last words")
    print(json.dumps(line.strip()), file=answers, flush=True)
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Contestants, processes of their own that print what is no answer, hang or die when they are told to."""
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(pathlib.Path(gpu.__file__).parents[1])]))
    made = []

    def make(name):
        with open(tmp_path / f"{name}.err", "wb") as errors:
            made.append(contest.Contestant(name, module="odd", stderr=errors))
        return made[-1]
    yield make
    for contestant in made:
        contestant.process.kill()
        contestant.close()


def test_what_libraries_print_is_no_answer(odd, tmp_path):
    contestant = odd("loud")
    assert [contestant.ask(word) for word in ("one", "two")] == ["one", "two"]
    assert (tmp_path / "loud.err").read_text().count("prints") == 4


def test_who_hangs_is_killed_and_who_dies_is_named(odd):
    hung, dead = odd("hung"), odd("dead")
    assert hung.ask("ready") == "ready"
    hung.send("hang")
    with pytest.raises(RuntimeError, match="hung had not answered 'hang' after 2 s"):
        hung.answer(2)
    assert hung.process.poll() is not None
    with pytest.raises(RuntimeError, match=r"dead died at 'die' \(exit code 1\)"):
        dead.ask("die")
    dead.close()


def test_who_does_not_exit_is_killed(odd, monkeypatch):
    monkeypatch.setattr(contest, "EXIT", 1)
    contestant = odd("lingering")
    assert contestant.ask("linger") == "linger"
    contestant.close()
    assert contestant.process.returncode == -signal.SIGKILL


def test_last_words_are_kept():
    """A process of the benchmark itself: it refuses the name of its row."""
    made = gpu.Process("npdvae", "no_such_row")
    made.send("check")
    with pytest.raises(RuntimeError, match="npdvae died at 'check'(.|\n)*KeyError: 'no_such_row'"):
        made.answer(60)
    made.close()


@pytest.mark.parametrize("change, kept", [({}, ["D4K8B100", "exact"]), ({"driver": 1}, ["exact"]),
                                          ({"memory_free_bytes": 1}, ["D4K8B100", "exact"])])
def test_rows_of_an_earlier_call_stay_where_they_are_of_the_same_device(monkeypatch, tmp_path, change, kept):
    def one(row, names, arguments, ceilings, keep):
        keep({"names": "some"}, False)
        keep({"names": names}, True)
    monkeypatch.setattr(gpu, "one", one)
    monkeypatch.setattr(gpu, "peaks", lambda: {"tflops": 1.0, "gb_s": 1.0})
    out = tmp_path / "gpu.json"
    with cupy_stand_in.installed():
        assert gpu.main(["--rows", "D4K8B100", "--out", str(out)]) == 0
        out.write_text(json.dumps(json.loads(out.read_text()) | change))
        assert gpu.main(["--rows", "exact", "--peers", "torch", "--out", str(out)]) == 0
    found = json.loads(out.read_text())["rows"]
    assert sorted(found) == kept and found["exact"] == {"names": ["npdvae", "torch"]}


@pytest.mark.parametrize("text", ["{", "[]", '{"other": 1}'])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path, capsys, text):
    out = tmp_path / "notes.json"
    out.write_text(text)
    with cupy_stand_in.installed():
        assert gpu.main(["--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"bench.gpu: {out}: ") and out.read_text() == text


def test_what_is_not_timed_is_done_together_but_by_who_times_its_choices():
    made, words, Dying.events = [Dying("npdvae"), Dying("torch.max-autotune"), Dying("jax.jit")], "check", []
    assert set(gpu.answers(made, words, {}, together=True)) == {c.name for c in made}
    others = ["npdvae", "jax.jit", "npdvae!", "jax.jit!"]
    assert Dying.events == [*others, "torch.max-autotune", "torch.max-autotune!"]
    Dying.events = []
    gpu.answers(made, words, {})
    assert Dying.events == [event for c in made for event in (c.name, f"{c.name}!")]


def test_a_row_that_is_whole_stays_until_another_is(monkeypatch, tmp_path):
    def cut_off(row, names, arguments, ceilings, keep):
        keep({"rounds": 1}, False)
        raise KeyboardInterrupt
    out, ends = tmp_path / "new" / "gpu.json", []
    monkeypatch.setattr(gpu, "peaks", lambda: {"tflops": 1.0, "gb_s": 1.0})
    with cupy_stand_in.installed():
        for one in (cut_off, lambda *a: a[-1]({"rounds": 7}, True), cut_off):
            monkeypatch.setattr(gpu, "one", one)
            with contextlib.suppress(KeyboardInterrupt):
                gpu.main(["--rows", "exact", "--out", str(out)])
            ends.append(json.loads(out.read_text())["rows"]["exact"]["rounds"])
    assert ends == [1, 7, 7]


def test_a_folder_is_no_file_for_results(tmp_path, capsys):
    with cupy_stand_in.installed():
        assert gpu.main(["--out", str(tmp_path)]) == 2
    assert "Is a directory" in capsys.readouterr().err


def test_compiled_peers_are_compiled_for_fixed_sizes():
    """Compiled at 64 rows to be validated, they would be compiled again for any size, and timed with that."""
    source = pathlib.Path(gpu.__file__).with_name("peers") / "torch_gpu.py"
    calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)
             and ast.unparse(node.func) == "torch.compile"]
    assert calls
    for call in calls:
        assert ast.unparse(next(k.value for k in call.keywords if k.arg == "dynamic")) == "False"
