"""python -m bench.exact: the exact gradient at 8^4 codes shared by the batch; exact log p(x) of the MNIST test set.

Steps from the first parameters on, then over whole epochs: a trained posterior leaves out most codes, and npdvae does
not decode those. log p(x) is held against the one matrix product that it needs: images [10000, 784] times pixel logits
[784, 4096].
"""
import argparse
import resource
import statistics
import time

import numpy as np

from bench import contest, problem
from npdvae import evaluation


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.exact", description=__doc__)
    parser.add_argument("--peers", nargs="+", default=["torch", "torch.compile", "jax.jit"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2, help="MNIST epochs after the rounds, at least 1 (default 2)")
    arguments = parser.parse_args()
    contestants = [contest.Contestant(name, "exact") for name in ["npdvae", *arguments.peers]]
    errors = {c.name: c.ask("check") for c in contestants}
    times = contest.rounds(contestants, "run 5", arguments.rounds)
    epochs = contest.rounds(contestants, "run 600", arguments.epochs)
    for c in contestants:
        c.close()
    memory = {name: peak(name) for name in times}
    found = {"unit": "ms/step", "label": problem.ROWS["exact"].label, "validation_error": errors, "rounds": times,
             "epochs": epochs, "peak_mb": memory, **contest.summary(times)}
    print({k: [round(v, 1) for v in t] for k, t in epochs.items()}, "ms/step in each epoch")
    print({k: round(v, 1) for k, v in found["median"].items()}, f"{found['best_ratio']:.2f} times the best peer",
          {k: round(v) for k, v in memory.items()}, "MB")
    contest.save("exact", {**found, "log_prob": log_prob(arguments.rounds)})


def peak(name):
    """Peak memory in MB of a process that trains and does nothing else: the check needs more than the training."""
    contestant = contest.Contestant(name, "exact")
    contestant.ask("run 5")
    found = contestant.ask("memory")["peak_mb"]
    contestant.close()
    return found


def log_prob(rounds):
    """Seconds of log p(x) of all test images, and of the product alone, in turns."""
    job = problem.job(problem.ROWS["exact"])
    x = (job.dataset.to_probabilities(job.dataset.test) > 0.5).astype(np.float32)   # [N, P]
    params = problem.params(problem.ROWS["exact"])
    logits = np.random.default_rng(0).standard_normal((8 ** 4, x.shape[1]), np.float32)   # [C, P]
    ours, product = [], []
    for _ in range(rounds):
        for times, function in ((ours, lambda: evaluation.log_prob(job.model, params, x)),
                                (product, lambda: x @ logits.T)):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    found = {"unit": "s", "images": len(x), "log_prob": statistics.median(ours), "product": statistics.median(product),
             "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    found["times_product"] = found["log_prob"] / found["product"]
    print(f"log p(x) of {len(x)} images: {found['log_prob']:.2f} s, {found['times_product']:.2f} times the product")
    return found


if __name__ == "__main__":
    main()
