"""One contestant in a process of its own: python -m bench.contestant NAME ROW, then one command a line on stdin.

Commands: check, run N (steps; milliseconds a step), epoch (seconds), epoch_loss (and test nats), memory. Answers are
lines of JSON.
"""
import json
import os
import resource
import sys
import time

import numpy as np

from bench import contest
from bench import problem as problems

# The encoder's exact gradient is a sum over codes of costs of about 500 nats that, with the first parameters, differ by
# tenths of a nat: rounding a cost to float32 (3e-5) moves that gradient by some 1e-4 of itself, however it is computed.
TOLERANCES = {"exact": 1e-3}
NAMES = ("npdvae", "torch", "torch.compile", "jax.jit", "jax.scan")
ROUGH = ".bfloat16"                             # behind a name: products of bfloat16, torch's by autocast
ROUNDED = 0.2                                   # by norms: a few units at the bend of their ReLU go the other way


class Ours:
    """npdvae with its default engine for the job."""

    def __init__(self, problem, threads, precision="float32"):
        from npdvae import build
        self.precision = precision
        self.job = problems.job(problem, threads=threads, precision=precision)
        self.engine = self.job.engine
        self.engine.load(build.fresh_state(self.job))
        self.problem, self.epochs, self.images = problem, 0, self.job.dataset.train

    def run(self, order):
        return float(self.engine.run(order).sum()) / self.problem.B

    def epoch(self):
        from npdvae import rng
        order = rng.Generator(0, rng.SHUFFLE).at(self.epochs).permutation(len(self.job.dataset.train))
        self.epochs += 1
        self.engine.run(order)
        return float(self.engine.evaluate(self.job.dataset.test).sum())

    def check(self, x, codes):
        """Loss and gradients of the engine that is timed: m after one step of Adam is a tenth of the gradient."""
        from npdvae import build
        problem = self.problem._replace(B=len(x))
        job = problems.job(problem, precision=self.precision)
        dataset = job.dataset
        images = np.where(x > 0, dataset.levels, 0).astype(np.uint8)
        job.engine.dataset = type(dataset)("check", images, images, dataset.shape, dataset.levels)
        job.engine.load(build.fresh_state(job))
        loss = float(job.engine.run(np.arange(len(x))).sum()) / len(x)
        return loss, {k[2:]: v * 10 for k, v in job.engine.save().moments.items() if k.startswith("m.")}


def make(name, problem, threads):
    """The contestant of a name."""
    kind, rough = name.removesuffix(ROUGH), name.endswith(ROUGH)
    if kind == "npdvae":
        return Ours(problem, threads, "bfloat16" if rough else "float32")
    if kind.startswith("torch"):
        from bench.peers.torch_peer import TorchPeer
        return TorchPeer(problem, kind == "torch.compile", threads, rough)
    from bench.peers.jax_peer import JaxPeer
    return JaxPeer(problem, name == "jax.scan")


def validate(contestant, problem, rough=False):
    """Largest relative error of loss and gradients against float64; ValueError above its products' rounding."""
    x, codes, loss, grads = problems.agreed(problem)
    found, found_grads = contestant.check(x, codes)
    errors = [abs(found - loss) / abs(loss)]
    size = np.linalg.norm if rough else lambda a: np.abs(a).max()
    errors += [float(size(found_grads[k] - g) / size(g)) for k, g in grads.items()]
    if not max(errors) <= (ROUNDED if rough else TOLERANCES.get(problem.estimator, 1e-4)):
        raise ValueError(f"a contestant computes something else: relative error {max(errors):.1e}")
    return max(errors)


def main():
    answers = contest.answers_alone()
    began = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + process_start()
    name, problem = sys.argv[1], problems.row(sys.argv[2])
    threads = int(os.environ.get("BENCH_THREADS", len(os.sched_getaffinity(0))))
    contestant = make(name, problem, threads)
    problems.dataset.cache_clear()              # nobody trains from these bytes
    N, random = len(contestant.images), np.random.default_rng(0)
    contestant.run(random.permutation(N)[:problem.B])
    first = time.time() - began
    for line in sys.stdin:
        command, *words = line.split()
        if command == "check":
            answer = validate(make(name, problem, threads), problem, name.endswith(ROUGH))   # with the first parameters
        elif command == "run":
            steps = int(words[0])
            per = N // problem.B                # whole batches of an epoch
            order = np.concatenate([random.permutation(N)[:per * problem.B] for _ in range(-(-steps // per))])
            start = time.perf_counter()
            contestant.run(order[:steps * problem.B])
            answer = (time.perf_counter() - start) / steps * 1e3
        elif command in ("epoch", "epoch_loss"):
            start = time.perf_counter()
            loss = contestant.epoch()
            answer = time.perf_counter() - start if command == "epoch" else [time.perf_counter() - start, loss]
        elif command == "memory":
            answer = {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "first_step_s": first}
        print(json.dumps(answer), file=answers, flush=True)


def process_start():
    """Seconds since boot at which this process began."""
    with open("/proc/self/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
