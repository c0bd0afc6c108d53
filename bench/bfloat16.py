"""python -m bench.bfloat16: a step whose products take bfloat16, ours and torch's autocast, beside ours in float32."""
import argparse
import os
import statistics

from bench import contest, problem

OURS, FLOAT32 = "npdvae.bfloat16", "npdvae"


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.bfloat16", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=["small", "b1000"], choices=list(problem.ROWS))
    parser.add_argument("--peers", nargs="+", default=["torch.bfloat16", "torch.compile.bfloat16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long one turn lasts")
    arguments = parser.parse_args()
    rows = {row: one(row, arguments) for row in arguments.rows}
    threads = int(os.environ.get("BENCH_THREADS", len(os.sched_getaffinity(0))))
    contest.save("bfloat16", {"unit": "ms/step", "threads": threads, "rows": rows})


def one(row, arguments):
    """Validate, then time in turns."""
    contestants = [contest.Contestant(name, row) for name in [OURS, FLOAT32, *arguments.peers]]
    errors = {c.name: c.ask("check") for c in contestants}
    turns = {c.name: f"run {max(5, int(arguments.seconds * 1e3 / c.ask('run 5')))}" for c in contestants}
    times = contest.rounds(contestants, turns, arguments.rounds)
    for c in contestants:
        c.close()
    median = {name: statistics.median(t) for name, t in times.items()}
    found = {"label": problem.ROWS[row].label, "validation_error": errors, "rounds": times, "median": median,
             "gain": over(times, FLOAT32), "best_ratio": min(over(times, name) for name in arguments.peers)}
    print(f"{found['label']}: " + "  ".join(f"{name} {ms:.3g}" for name, ms in median.items())
          + f" ms; {found['gain']:.2f} times float32, {found['best_ratio']:.2f} times the best peer", flush=True)
    return found


def over(times, other):
    """The median of the rounds' ratios to ours."""
    return statistics.median(a / b for a, b in zip(times[other], times[OURS]))


if __name__ == "__main__":
    main()
