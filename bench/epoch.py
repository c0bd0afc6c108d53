"""python -m bench.epoch: seconds per epoch with shuffling, dynamic binarization and evaluation of the test split."""
import argparse

from bench import contest, problem


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.epoch", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=["small", "medium", "large", "digits"], choices=list(problem.ROWS))
    parser.add_argument("--peers", nargs="+", default=["torch", "torch.compile", "jax.jit", "jax.scan"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    result = {"unit": "s/epoch", "rows": {}}
    for row in arguments.rows:
        contestants = [contest.Contestant(name, row) for name in ["npdvae", *arguments.peers]]
        contest.rounds(contestants, "epoch", 1)                     # compile what the evaluation needs
        times = contest.rounds(contestants, "epoch", arguments.rounds)
        for c in contestants:
            c.close()
        found = {"label": problem.ROWS[row].label, "rounds": times, **contest.summary(times)}
        print(found["label"], {k: round(v, 3) for k, v in found["median"].items()}, f"{found['best_ratio']:.2f} times",
              flush=True)
        result["rows"][row] = found
    contest.save("epoch", result)


if __name__ == "__main__":
    main()
