"""python -m bench.growth: how the cost of a step grows with B, D, K, S, hidden width and the number of codes.

Ours and the peers', in turns, points of a curve one after the other; results are kept after each point, and the figure
docs/growth.png is drawn at the end (--draw: from the results that are there).
"""
import argparse

from bench import contest, problem, turns

CURVES = {                                      # curve: (field of the problem, its values, other fields, label)
    "B": ("B", (10, 30, 100, 300, 1000, 3000), "D=20,K=10", "batch B (D=20, K=10)"),
    "D": ("D", (2, 8, 32, 128), "K=8", "latents D (K=8, B=100)"),
    "K": ("K", (2, 8, 32, 128, 512), "D=4", "categories K (D=4, B=100)"),
    "S": ("S", (1, 2, 4, 8, 16), "D=20,K=10", "samples S (D=20, K=10, B=100)"),
    "H": ("width", (64, 128, 256, 512, 1024, 2048), "D=20,K=10", "hidden layers H and H/2 (D=20, K=10, B=100)"),
    "codes": ("D", (1, 2, 3, 4), "K=8,estimator=exact", "codes of the exact gradient (K=8, B=100)"),
}


def at(curve, value):
    """The row of one point, as `problem.row` reads it."""
    name, _, others, _ = CURVES[curve]
    return f"{others},{name}={value}"


def point(row, arguments):
    """Validate, time in turns: medians in milliseconds a step, and our ratio to the best peer."""
    contestants = [contest.Contestant(name, row) for name in ["npdvae", *arguments.peers]]
    errors = {c.name: c.ask("check") for c in contestants}
    counts = {c.name: f"run {max(2, round(arguments.seconds * 1e3 / c.ask('run 2')))}" for c in contestants}
    times = contest.rounds(contestants, counts, arguments.rounds)
    for c in contestants:
        c.close()
    return {"validation_error": errors, "rounds": times, **contest.summary(times)}


def draw(result, path):
    """One panel a curve: milliseconds a step, both axes logarithmic."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    for axis, curve in zip(axes.flat, CURVES):
        if not (points := result["rows"].get(curve)):
            axis.set_axis_off()
            continue
        x = [8 ** int(v) if curve == "codes" else int(v) for v in points]
        peers = dict.fromkeys(n for p in points.values() for n in p["median"] if n != "npdvae")
        styles = {"npdvae": ("#d1495b", "-", 2.2)} | {
            n: ("0.3", style, 1.2) for n, style in zip(peers, ("-", "--", ":", "-."))}
        for name, (colour, style, width) in styles.items():
            axis.plot(x, [p["median"].get(name) for p in points.values()], color=colour, ls=style, lw=width, marker=".",
                      label=name)
        axis.set(xscale="log", yscale="log", xlabel=CURVES[curve][3])
        axis.set_xticks(x, [str(v) for v in x])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axis.yaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("ms a step")
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=list(CURVES))
    parser.add_argument("--peers", nargs="+", default=["torch", "torch.compile", "jax.scan"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long one turn lasts")
    parser.add_argument("--resume", action="store_true", help="leave out the points that the results hold already")
    parser.add_argument("--draw", action="store_true", help="draw the figure from the results, measure nothing")
    arguments = parser.parse_args()
    results = turns.Results("growth", "ms/step", fresh=not (arguments.resume or arguments.draw))
    for curve in [] if arguments.draw else arguments.curves:
        for value in CURVES[curve][1]:
            if arguments.resume and results.has(curve, str(value)):
                continue
            found = point(at(curve, value), arguments)
            results.add(curve, str(value), found)
            medians = "  ".join(f"{name} {ms:.3g}" for name, ms in found["median"].items())
            print(f"{problem.row(at(curve, value)).label}: {medians} ms, {found['best_ratio']:.2f} times the best peer",
                  flush=True)
    path = contest.RESULTS.parent.parent / "docs" / "growth.png"
    draw(results.found, path)
    print(f"drew {path.name} in docs")


if __name__ == "__main__":
    main()
