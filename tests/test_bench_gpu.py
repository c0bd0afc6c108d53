"""bench/gpu.py on the stand-in for CuPy: what it replays, validates, survives. Share of the suite: 2 s."""
import ast
import pathlib

import numpy as np
import pytest

from bench import gpu
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
    error = gpu.validate(ours(precision), SMALL, DATA, gpu.TOLERANCES[name])
    if precision == "tf32":                                         # and is no float32
        assert gpu.TOLERANCES["npdvae"] < error
        with pytest.raises(ValueError, match="is off by"):
            gpu.validate(ours(precision), SMALL, DATA, gpu.TOLERANCES["npdvae"])


class Dying:
    """A contestant that dies at one of its commands."""

    def __init__(self, name, at=None):
        self.name, self.at, self.asked, self.closed = name, at, [], False

    def ask(self, command):
        self.asked.append(command)
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
    found = gpu.one("exact", list(made), arguments, {"tflops": 1.0, "gb_s": 1.0})
    assert found["best_peer"] == ("torch" if at == "extra" else "jax.jit")
    contestants = found["contestants"]
    assert contestants["torch"]["failed"].startswith(f"torch died at '{at}") and "failed" not in contestants["npdvae"]
    assert contestants["npdvae"]["rounds"] == [100.0, 100.0] and contestants["npdvae"]["memory_bytes"] == 1
    assert made["npdvae"].closed and not made["torch"].closed
    assert sum(command.startswith(at) for command in made["torch"].asked) == 1      # asked once, then left alone


def test_compiled_peers_are_compiled_for_fixed_sizes():
    """Compiled at 64 rows to be validated, they would be compiled again for any size, and timed with that."""
    source = pathlib.Path(gpu.__file__).with_name("peers") / "torch_gpu.py"
    calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)
             and ast.unparse(node.func) == "torch.compile"]
    assert calls
    for call in calls:
        assert ast.unparse(next(k.value for k in call.keywords if k.arg == "dynamic")) == "False"
