"""python -m bench.elbo: seconds and epochs to a given test negative ELBO on MNIST, ours and the tutorial's in PyTorch.

D=4 K=8, 784-512-256, dynamic binarization, Adam 5e-4, batch 100, for all. One contestant after the other, alone on the
machine; each epoch trains on every image and evaluates the test split. Start-up (imports, compiling, the first step) is
in the seconds. The figure is docs/elbo.png.
"""
import argparse
import time

from bench import contest, turns

CONTESTANTS = {                                 # label: (contestant, row)
    "npdvae, tutorial's recipe": ("npdvae", "estimator=reinforce"),
    "npdvae, ReinMax": ("npdvae", "estimator=reinmax"),
    "npdvae, RLOO with 4 samples": ("npdvae", "estimator=rloo,S=4"),
    "PyTorch, tutorial's recipe": ("torch", "estimator=reinforce"),
    "JAX (scan), tutorial's recipe": ("jax.scan", "estimator=reinforce"),
}
TARGETS = (140, 135, 130)


def trained(name, row, epochs, target):
    """Epochs until the test negative ELBO is at `target` or `epochs` are done: [[seconds so far, nats], ...]."""
    began, curve = time.perf_counter(), []
    contestant = contest.Contestant(name, row)
    while len(curve) < epochs and not (curve and curve[-1][1] <= target):
        _, loss = contestant.ask("epoch_loss")
        curve.append([time.perf_counter() - began, loss])
    contestant.close()
    return curve


def reached(curve, target):
    """Seconds and epochs to the first epoch at or below a target, or None."""
    return next(({"seconds": s, "epochs": i} for i, (s, loss) in enumerate(curve, 1) if loss <= target), None)


def draw(result, path):
    """Test negative ELBO against seconds."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    colours = {"npdvae": ["#d1495b", "#edae49", "#66a182"], "other": ["0.25", "0.6"]}
    for label, entry in result["rows"]["small"].items():
        ours = label.startswith("npdvae")
        axis.plot(*zip(*entry["curve"]), label=label, color=colours["npdvae" if ours else "other"].pop(0),
                  lw=2 if ours else 1.4)
    for target in TARGETS:
        axis.axhline(target, color="0.8", lw=0.8, zorder=0)
    axis.set(xlabel="seconds, start-up included", ylabel="test negative ELBO, nats", xscale="log", ylim=(124, 190))
    axis.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.elbo", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), metavar="LABEL", help="these alone")
    parser.add_argument("--epochs", type=int, default=80, help="give up after so many")
    parser.add_argument("--target", type=float, default=min(TARGETS), help="stop at this test negative ELBO")
    parser.add_argument("--draw", action="store_true", help="draw the figure from the results, measure nothing")
    arguments = parser.parse_args()
    results = turns.Results("elbo", "s", fresh=not (arguments.only or arguments.draw))
    for label in [] if arguments.draw else arguments.only or CONTESTANTS:
        curve = trained(*CONTESTANTS[label], arguments.epochs, arguments.target)
        entry = {"curve": curve, "reached": {str(t): reached(curve, t) for t in TARGETS}}
        results.add("small", label, entry)
        marks = "  ".join(f"{t} nats: " + (f"{r['seconds']:.1f} s, {r['epochs']} epochs" if r else "not reached")
                          for t, r in entry["reached"].items())
        print(f"{label:32}{marks}", flush=True)
    path = contest.RESULTS.parent.parent / "docs" / "elbo.png"
    draw(results.found, path)
    print(f"drew {path.name} in docs")


if __name__ == "__main__":
    main()
