"""python -m bench.step: milliseconds per training step, binarizing included, ours and the peers', in one sitting."""
import argparse

from bench import contest, peaks, problem


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.step", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=["small", "medium", "large", "digits"], choices=list(problem.ROWS))
    parser.add_argument("--peers", nargs="+", default=["torch", "torch.compile", "jax.jit", "jax.scan"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long one turn lasts")
    parser.add_argument("--busy", nargs="*", type=int, default=[1, 3], metavar="N",
                        help="again beside so many busy processes, one number after the other")
    arguments = parser.parse_args()
    gflops, bandwidth = peaks.gflops(), peaks.bandwidth()
    print(f"peaks: {gflops:.0f} GFLOP/s, {bandwidth:.0f} GB/s")
    result = {"unit": "ms/step", "peak_gflops": gflops, "peak_gb_s": bandwidth, "rows": {}}
    for row in arguments.rows:
        result["rows"][row] = one(row, arguments, gflops, bandwidth)
    contest.save("step", result)


def one(row, arguments, gflops, bandwidth):
    """Validate, time in turns, and again beside busy processes."""
    p = problem.ROWS[row]
    contestants = [contest.Contestant(name, row) for name in ["npdvae", *arguments.peers]]
    errors = {c.name: c.ask("check") for c in contestants}
    turns = {c.name: f"run {max(5, int(arguments.seconds * 1e3 / c.ask('run 5')))}" for c in contestants}
    times = contest.rounds(contestants, turns, arguments.rounds)
    found = {"label": p.label, "validation_error": errors, "rounds": times, **contest.summary(times)}
    floor, flops = peaks.floor(p, problem.dataset(p.data).pixels, gflops, bandwidth)
    own = found["median"]["npdvae"]
    found |= {"floor": floor, "times_floor": own / floor, "gflops": flops / own / 1e6}
    found["busy"] = {str(n): beside(n, contestants, turns, arguments.rounds, found["median"]) for n in arguments.busy}
    for c in contestants:
        c.close()
    medians = "  ".join(f"{name} {ms:.3g}" for name, ms in found["median"].items())
    print(f"{p.label}: {medians} ms; {found['best_ratio']:.2f} times the best peer ({found['best_peer']}); "
          f"{own / floor:.2f} floors", flush=True)
    return found


def beside(n, contestants, turns, rounds, quiet):
    """The same turns beside n busy processes, and how much slower each is than when quiet."""
    loads = [contest.busy() for _ in range(n)]
    try:
        found = contest.summary(contest.rounds(contestants, turns, rounds))
    finally:
        for load in loads:
            load.kill()
    return {**found, "slowdown": {name: ms / quiet[name] for name, ms in found["median"].items()}}


if __name__ == "__main__":
    main()
