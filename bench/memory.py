"""python -m bench.memory: peak memory of a training process, and seconds from its start to its first step's end."""
import argparse
import statistics

from bench import contest, problem


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--row", default="small", choices=list(problem.ROWS))
    parser.add_argument("--peers", nargs="+", default=["torch", "jax.jit"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    found = {name: [] for name in ["npdvae", *arguments.peers]}
    for _ in range(arguments.rounds + 1):                           # the first warms the caches
        for name in found:
            contestant = contest.Contestant(name, arguments.row)
            contestant.ask("run 10")
            found[name].append(contestant.ask("memory"))
            contestant.close()
    result = {name: {key: statistics.median(x[key] for x in answers[1:]) for key in ("peak_mb", "first_step_s")}
              for name, answers in found.items()}
    for name, x in result.items():
        print(f"{name}: {x['peak_mb']:.0f} MB, first step after {x['first_step_s']:.2f} s")
    contest.save("memory", {"label": problem.ROWS[arguments.row].label, "contestants": result})


if __name__ == "__main__":
    main()
