"""python -m bench.gpu: microseconds per training step on a CUDA device, ours and the peers', validated, then in turns.

Every contestant is a process of its own and trains on images that stay on the device, binarizing and optimizer
included. A turn is some steps between two synchronisations by the host's clock, which is what a user waits for;
ours is timed by events around graph replays besides. Medians of rounds; a share of what the device could do.
Without MNIST ($NPDVAE_DATA) random images of its size serve: time does not depend on their pixels.
Peers compile for a minute or two a row, all at once. Results are written after each round, and rows that --out already
holds from the same device and versions stay: `--rows` can take some at a time.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from importlib import metadata

import numpy as np

from bench import contest
from bench import problem as problems
from bench.contestant import TOLERANCES
from bench.problem import Problem

PEERS = ("torch", "torch.reduce-overhead", "torch.max-autotune", "torch.graph", "jax.jit", "jax.scan")
ROWS = {f"D{D}K{K}B{B}": Problem("mnist", D, K, B) for D, K in ((4, 8), (20, 10)) for B in (100, 1000, 8192)}
ROWS["exact"] = Problem("mnist", 4, 8, 100, "exact")
PATIENCE = 300                                  # seconds for an answer; max-autotune compiles for one or two minutes
TUNED = ("torch.max-autotune",)
LAST = 5                                        # lines of what a contestant that died had printed
# Of the largest entry of a gradient: float32 sums of thousands of terms. TF32 rounds every factor to 11 bits, so that a
# ReLU near 0 switches for some example: 0.17 at encoder.1.weight of D=4, K=8, with products rounded so on the CPU.
TF32 = 0.3
FLOAT32 = 1e-4


def tolerance(name, problem):
    """Of a contestant's loss and gradients."""
    return TF32 if name.endswith(".tf32") else TOLERANCES.get(problem.estimator, FLOAT32)


def dataset():
    """MNIST where it is at hand, else 60000 random images: 784 pixels, 81 % black, the rest grey."""
    from npdvae import data
    try:
        return data.load("mnist", os.environ["NPDVAE_DATA"])
    except (KeyError, ValueError, OSError):
        g = np.random.default_rng(0)
        rows = (g.integers(1, 256, (60000, 784)) * (g.random((60000, 784)) < 0.19)).astype(np.uint8)
        return data.dataset.Dataset("random", rows, rows[:1000], (28, 28))


def engine(problem, images, ops, dtype=np.float32):
    """Our engine for a problem on a data set: Adam, dynamic binarization."""
    from npdvae import build, optimizers
    from npdvae.describe import Recipe
    from npdvae.latents.categorical import Categorical
    from npdvae.model import DiscreteVAE
    options = dict(baseline="constant", baseline_value=problem.baseline) if problem.estimator == "reinforce" else {}
    model = DiscreteVAE(images.pixels, problem.hidden,
                        Categorical(problem.D, problem.K, problem.estimator, ops, **options))
    recipe = Recipe(optimizers.get("adam", ops=ops), lambda step: problems.LR, lambda step: 1.0, problem.B, None, None,
                    "none" if images.binary else "dynamic", problem.seed, np.dtype(dtype))
    return build.choose_engine(model, recipe, images)


def first_state(problem, images):
    """The state that all start from."""
    from npdvae import backends, optimizers, rng
    from npdvae.state import TrainState
    numpy = backends.load("numpy")
    params = engine(problem, images, numpy).model.init(rng.Generator(problem.seed, rng.INIT), np.dtype(np.float32))
    return TrainState(params, optimizers.get("adam", ops=numpy).init(params), None, 0)


def agreed(problem, images, examples=64):
    """Binary images [b, P], codes int [b, D] (None for exact), loss and gradients in float64 by the NumPy reference."""
    from npdvae import backends
    from npdvae.step import step
    made = engine(problem._replace(B=examples), images, backends.load("numpy"), np.float64)
    x = (images.to_probabilities(images.train[:examples]) > 0.5).astype(np.float64)
    params = {k: v.astype(np.float64) for k, v in first_state(problem, images).params.items()}
    h, _ = made.model.encoder.forward(params, x)
    draw = made.model.latent.estimator.sample(h.reshape(examples, problem.D, problem.K), made.latent_rng.at(0))
    result = step(made.model, params, x, made.latent_rng.at(0))
    codes = draw.codes[0] if problem.estimator == "reinforce" else None
    return x.astype(np.float32), codes, float((result.cost + result.kl).mean()), result.grads


class Ours:
    """npdvae on CuPy with the engine that it takes by itself."""

    def __init__(self, problem, images, precision="float32"):
        from npdvae import backends
        from npdvae.backends import cupy_backend
        cupy_backend.choose(0, precision)
        self.problem, self.images, self.ops = problem, images, backends.load("cupy")
        self.engine = engine(problem, images, self.ops)
        self.engine.load(first_state(problem, images))

    def run(self, order):
        return float(self.engine.run(order).sum()) / self.problem.B

    def check(self, x, codes):
        """Loss and gradients of the engine that is timed: m after one step of Adam is a tenth of the gradient."""
        binary = x.astype(np.uint8)
        images = type(self.images)("check", binary, binary, self.images.shape, 1)
        made = engine(self.problem._replace(B=len(x)), images, self.ops)
        made.load(first_state(self.problem, images))
        loss = float(made.run(np.arange(len(x))).sum()) / len(x)
        return loss, {k[2:]: v * 10 for k, v in made.save().moments.items() if k.startswith("m.")}

    def memory(self):
        return self.ops.xp.get_default_memory_pool().total_bytes()

    def extra(self):
        """What a step is made of, and microseconds of a graph replay by events."""
        from npdvae.backends import cuda_device as device
        found, graphs = {"device": device.describe(device.find())}, getattr(self.engine, "graphs", {})
        if self.problem.B not in graphs:
            return found
        return found | {"replay_us": self.replay_us(graphs[self.problem.B]),
                        "launches": self.engine.launches(self.problem.B), "run_bytes": self.engine.memory()["run"]}

    def replay_us(self, graph):
        """Median of five runs; each replay takes a whole batch of the order that the engine was last given."""
        cupy, made, times = self.ops.xp, self.engine, []
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        replays = min(len(made.dataset.train) // self.problem.B, 50)
        for _ in range(5):
            with made.stream:                                       # the clock too: this stream waits for no other
                made.plan.buffers["clock"].set(np.array([made.state.step, 0, made.recipe.seed], np.int64))
                begin.record(made.stream)
                for _ in range(replays):
                    graph.launch(made.stream)
                end.record(made.stream)
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(begin, end) / replays * 1e3)
        return statistics.median(times)


def contestant(name, row):
    """One contestant: commands on stdin, answers on stdout, both lines."""
    answers = contest.answers_alone()
    problem, images = ROWS[row], dataset()
    if name.startswith("npdvae"):
        made = Ours(problem, images, "tf32" if name.endswith("tf32") else "float32")
    else:
        p, start = images.to_probabilities(images.train), first_state(problem, images).params
        if name.startswith("torch"):
            from bench.peers.torch_gpu import TorchGPU
            made = TorchGPU(problem, name, p, start)
        else:
            from bench.peers.jax_gpu import JaxGPU
            made = JaxGPU(problem, name, p, start)
    random, N, B = np.random.default_rng(0), len(images.train), problem.B
    for line in sys.stdin:
        command, *words = line.split()
        if command == "check":
            answer = validate(made, problem, images, tolerance(name, problem))
        elif command == "run":
            steps, per = int(words[0]), N // B
            order = np.concatenate([random.permutation(N)[:per * B] for _ in range(-(-steps // per))])[:steps * B]
            start_time = time.perf_counter()
            made.run(order)
            answer = (time.perf_counter() - start_time) / steps * 1e6
        elif command == "extra":
            answer = {"memory_bytes": made.memory(), **(made.extra() if hasattr(made, "extra") else {})}
        print(json.dumps(answer), file=answers, flush=True)


def validate(made, problem, images, tolerance):
    """Largest relative error of loss and gradients; ValueError where it exceeds the tolerance."""
    x, codes, loss, grads = agreed(problem, images)
    found_loss, found = made.check(x, codes)
    errors = {k: float(np.abs(found[k] - g).max() / np.abs(g).max()) for k, g in grads.items()}
    errors["loss"] = abs(found_loss - loss) / abs(loss)
    worst = max(errors, key=errors.get)
    if not errors[worst] <= tolerance:
        raise ValueError(f"{worst} is off by {errors[worst]:.1e}")
    return errors[worst]


class Process(contest.Contestant):
    """A contestant's process; what it prints is kept, and goes into the error where it dies."""

    def __init__(self, name, row):
        self.words = tempfile.TemporaryFile()   # what it prints
        super().__init__("--contestant", name, row, module="bench.gpu", stderr=self.words,
                         env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"})
        self.name = name

    def answer(self, seconds=None):
        try:
            return super().answer(seconds)
        except RuntimeError as error:
            raise RuntimeError("\n".join([str(error), *self.printed()[-LAST:]])) from None

    def printed(self):
        """Lines, libraries' among them."""
        self.words.seek(0)
        return self.words.read().decode(errors="replace").strip().splitlines()


def flops(problem, pixels=784):
    """Floating-point operations of the products that our step needs, and bytes that Adam and the batch move."""
    sizes = [pixels, *problem.hidden, problem.D * problem.K]
    layers = [a * b for a, b in zip(sizes[:-1], sizes[1:])]
    weights = 2 * sum(layers)
    rows = problem.K ** problem.D if problem.estimator == "exact" else problem.B
    encoder = 2 * problem.B * (3 * sum(layers) - layers[0])         # nothing is needed at the pixels,
    decoder = 2 * rows * 3 * sum(layers[:-1])                       # and the code layer is a sum of rows
    shared = 4 * rows * problem.B * pixels if problem.estimator == "exact" else 0
    return encoder + decoder + shared, 28 * weights + 4 * rows * pixels * 4


def peaks():
    """Measured ceilings: float32 product TFLOP/s (cuBLAS, 8192 cubed) and copy GB/s (1 GiB, read plus write)."""
    from npdvae import backends
    ops = backends.load("cupy")
    xp, product = ops.xp, ops.softmax.__self__.blas.matmul
    a, b, c = (xp.asarray(np.random.default_rng(i).standard_normal((8192, 8192), np.float32)) for i in range(3))
    big, copy = xp.zeros(2 ** 28, np.float32), xp.empty(2 ** 28, np.float32)

    def seconds(call, n=10):
        call()
        events = [xp.cuda.Event() for _ in range(2)]
        events[0].record()
        for _ in range(n):
            call()
        events[1].record()
        events[1].synchronize()
        return xp.cuda.get_elapsed_time(*events) / n / 1e3
    return {"tflops": 2 * 8192 ** 3 / seconds(lambda: product(a, b, c)) / 1e12,
            "gb_s": 2 * big.nbytes / seconds(lambda: xp.copyto(copy, big)) / 1e9}


def answers(contestants, command, failed, together=False):
    """Answers by name, to one command or to one for each; who dies is said and left out from then on.

    In turns, or, where nothing is timed, together: libraries compile for minutes. TUNED ones time what they choose
    from, so they come after the others.
    """
    found, words = {}, {c.name: command if isinstance(command, str) else command[c.name] for c in contestants}
    ahead = [c for c in contestants if together and c.name not in TUNED]
    for c in ahead:
        c.send(words[c.name])
    for c in [*ahead, *(c for c in contestants if c not in ahead)]:
        try:
            if c not in ahead:
                c.send(words[c.name])
            found[c.name] = c.answer(PATIENCE)
        except (RuntimeError, ValueError) as error:     # not installed, cannot run this, hangs, or half a line
            contestants.remove(c)
            failed[c.name] = str(error)
            print(error, flush=True)
    return found


def one(row, names, arguments, ceilings, keep):
    """Validate, time in turns, sum up; `keep(result, done)` after each round and at the end."""
    failed, contestants = {}, [Process(name, row) for name in names]
    errors = answers(contestants, "check", failed, together=True)
    answers(contestants, "run 20", failed, together=True)
    steps = {name: f"run {max(20, int(arguments.seconds * 1e6 / us))}"
             for name, us in answers(contestants, "run 20", failed).items()}
    answers(contestants, steps, failed)         # some compile again for another number of steps
    times = []
    for _ in range(arguments.rounds):
        times.append(answers(contestants, steps, failed))
        keep(summed(row, names, errors, times, {}, failed, ceilings), False)
    extra = answers(contestants, "extra", failed)
    result = summed(row, names, errors, times, extra, failed, ceilings)
    keep(result, True)
    for c in contestants:
        c.close()
        if c.name.startswith("npdvae"):         # which engine serves, and why no faster one
            print("\n".join(c.printed()), flush=True)
    if "ratio" in result:
        each = "  ".join(f"{n} {f['us_per_step']:.0f}" for n, f in result["contestants"].items() if "us_per_step" in f)
        print(f"{result['label']} {result['estimator']}: {each} us; {result['ratio']:.2f} times {result['best_peer']}; "
              f"{result['floor_us']:.0f} us floor", flush=True)


def summed(row, names, errors, times, extra, failed, ceilings):
    """A row of the results, from answers by name (`times`: of each round)."""
    problem, found = ROWS[row], {}
    for name in names:
        rounds = [t[name] for t in times if name in t]
        found[name] = {"rounds": rounds, **extra.get(name, {})}
        found[name] |= {"validation_error": errors[name]} if name in errors else {}
        found[name] |= {"us_per_step": statistics.median(rounds)} if rounds else {}
        found[name] |= {"failed": failed[name]} if name in failed else {}
    operations, moved = flops(problem)
    floor = max(operations / ceilings["tflops"] / 1e6, moved / ceilings["gb_s"] / 1e3)      # us
    result = {"label": problem.label, "estimator": problem.estimator, "date": time.strftime("%Y-%m-%d"),
              "ceilings": ceilings, "floor_us": floor, "contestants": found}
    peers = {n: found[n]["us_per_step"] for n in PEERS if "us_per_step" in found.get(n, {})}
    own = found["npdvae"].get("us_per_step")
    if own and peers:
        best = min(peers, key=peers.get)
        result |= {"best_peer": best, "ratio": peers[best] / own, "share_of_ceiling": floor / own}
    return result


def earlier(path, where):
    """Rows that the file holds, where of the same device and versions; ValueError where it is of another kind."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(found, dict) or "rows" not in found:
        raise ValueError(f"{path}: no results of this benchmark")
    other = [k for k, v in where.items() if k != "memory_free_bytes" and found.get(k) != v]
    if other:
        print(f"{path}: {len(found['rows'])} rows of another {', '.join(other)} are replaced", flush=True)
    return {} if other else found["rows"]


def versions():
    """Of what takes part."""
    found = {"python": platform.python_version()}
    for name in ("npdvae", "numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "jaxlib", "triton"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=[*PEERS, "npdvae.tf32"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long one turn lasts")
    parser.add_argument("--out", type=pathlib.Path, default=contest.RESULTS / "gpu.json")
    parser.add_argument("--contestant", nargs=2, metavar=("NAME", "ROW"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.contestant:
        contestant(*arguments.contestant)
        return 0
    from npdvae.backends import BackendError
    from npdvae.backends import cuda_device as device
    try:
        where = {**device.describe(device.find()), "versions": versions()}
        rows = earlier(arguments.out, where)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
    except (BackendError, ValueError, OSError) as error:
        print(f"bench.gpu: {error}", file=sys.stderr)
        return 2
    ceilings = peaks()
    print(f"{where['device']}: {ceilings['tflops']:.1f} TFLOP/s float32, {ceilings['gb_s']:.0f} GB/s", flush=True)
    result, whole = {"unit": "us/step", **where, "rows": rows}, set(rows)
    for row in arguments.rows:
        def keep(measured, done, row=row):
            if done or row not in whole:        # what is whole gives way to what is whole
                rows[row] = measured
                contest.write(arguments.out, result)
        one(row, ["npdvae", *arguments.peers], arguments, ceilings, keep)
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
