"""python -m bench.latent_steps: milliseconds a step of Gaussian, VQ, FSQ and smoothed bits, beside the same in PyTorch.

In turns, after comparing gradients: ours, PyTorch eager and compiled, and vector-quantize-pytorch for VQ. Results are
kept after each latent.
"""
import argparse
import time

from bench import contest, tables, tasks, turns

LATENTS = ("gaussian", "vq", "fsq", "smoothing")
OURS = 1e-4                                     # float32, pathwise
BOUNDS = {"npdvae": OURS, "torch": 1e-6, "torch.compile": 1e-6, "vector-quantize": 1e-5}    # its codebook is float32


def task_of(row, name):
    """D and K of the row; K = 2 and as many logits for bits."""
    if name == "smoothing":
        return tasks.of_estimator(row, name)
    D, K = tasks.ROWS[row]
    return tasks.Task(D, 0 if name == "gaussian" else K, name)


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.latent_steps", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=list(tasks.ROWS), choices=list(tasks.ROWS))
    parser.add_argument("--only", nargs="+", default=LATENTS, choices=LATENTS, help="the others keep their entries")
    parser.add_argument("--peers", nargs="+", default=list(BOUNDS)[1:], choices=list(BOUNDS)[1:])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long one turn lasts")
    parser.add_argument("--resume", action="store_true", help="leave out what the results hold already")
    arguments = parser.parse_args()
    fresh = not arguments.resume and set(arguments.only) == set(LATENTS)
    results = turns.Results("latent_steps", "ms/step", fresh)
    turns.all_of(arguments.rows, arguments.only, one, results, arguments)
    tables.main()


def one(row, name, servers, arguments):
    """Validate, time in turns, report."""
    began, task = time.perf_counter(), task_of(row, name)
    entrants = [turns.Entrant(make, server, task) for make, server in servers.items()
                if name == "vq" or make != "vector-quantize"]
    errors, found = turns.measured(entrants, BOUNDS, arguments)
    entry = {"D": task.D, "K": task.K, "validation_error": errors, "rounds": found, **contest.summary(found)}
    medians = "  ".join(f"{make} {ms:.3g}" for make, ms in entry["median"].items())
    print(f"{row:7}{name:10} {medians} ms; {entry['best_ratio']:.2f} times the best peer ({entry['best_peer']})  "
          f"[{time.perf_counter() - began:.1f} s]", flush=True)
    return entry


if __name__ == "__main__":
    main()
