"""python docs/reinmax_8x4.py [RUN ...]: estimators in the ReinMax setting; table in docs/recipes.md, and a figure.

With run folders, their curves are first stored in docs/reinmax_8x4.json in place of what is there of the same
estimator and seed. Each run: python -m npdvae.train --preset reinmax-8x4 --seed SEED [--estimator ...].
"""
import json
import pathlib
import statistics
import sys
import tomllib

from npdvae import metrics

FOLDER = pathlib.Path(__file__).parent
STORE, FIGURE, PAGE = FOLDER / "reinmax_8x4.json", FOLDER / "reinmax_8x4.png", FOLDER / "recipes.md"
BEGIN, END = "<!-- python docs/reinmax_8x4.py -->", "<!-- end -->"
LABELS = {"exact": "exact gradient", "reinmax": "ReinMax, temperature 1.3", "rloo": "RLOO, 4 samples",
          "straight_through": "straight-through, temperature 1.3",
          "straight_through_gumbel": "straight-through Gumbel, temperature 0.5"}
COLOURS = dict(zip(LABELS, ("#222222", "#d1495b", "#00798c", "#edae49", "#8d6a9f")))


def read(folder):
    """One run: estimator, seed, and the negative ELBO after every epoch, in nats."""
    config = tomllib.loads((folder / "config.toml").read_text())
    lines = metrics.read(folder)
    return {"estimator": config["estimator"], "seed": config["seed"],
            **{split: [round(e.negative_elbo, 3) for e in metrics.curve(lines, split)] for split in ("train", "test")}}


def store(folders):
    """Add runs to the stored ones."""
    runs = json.loads(STORE.read_text()) if STORE.exists() else []
    new = [read(pathlib.Path(f)) for f in folders]
    names = {(r["estimator"], r["seed"]) for r in new}
    runs = [r for r in runs if (r["estimator"], r["seed"]) not in names] + new
    runs.sort(key=lambda r: (list(LABELS).index(r["estimator"]), r["seed"]))
    STORE.write_text("[" + ",\n ".join(json.dumps(r) for r in runs) + "]\n")


def figures(values):
    """Mean and, of several seeds, standard deviation."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def table(groups):
    """Markdown: the last epoch of each estimator."""
    lines = ["| estimator | seeds | epochs | train | test |", "|---|---|---|---|---|"]
    for name, runs in groups.items():
        last = {split: figures([r[split][-1] for r in runs]) for split in ("train", "test")}
        seeds = ", ".join(str(r["seed"]) for r in runs)
        lines.append(f"| {LABELS[name]} | {seeds} | {len(runs[0]['train'])} | {last['train']} | {last['test']} |")
    return "\n".join(lines)


def draw(groups):
    """Train curves of every run, one colour an estimator."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for name, runs in groups.items():
        for i, r in enumerate(runs):
            axis.plot(range(1, len(r["train"]) + 1), r["train"], color=COLOURS[name], lw=1.4, alpha=0.9,
                      label=LABELS[name] if i == 0 else None)
    axis.set(xlabel="epoch", ylabel="negative ELBO on train (nats)", xlim=(1, 160), ylim=(115, 165),
             title="MNIST in grey, 4 latents of 8 categories, Adam 5e-4")
    axis.grid(alpha=0.25)
    figure.legend(frameon=False, ncols=2, fontsize=9, loc="outside lower center")
    figure.savefig(FIGURE, dpi=120)


def main(folders):
    if folders:
        store(folders)
    groups = {}
    for r in json.loads(STORE.read_text()):
        groups.setdefault(r["estimator"], []).append(r)
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table(groups)}\n{END}{rest.split(END)[1]}")
    draw(groups)


if __name__ == "__main__":
    main(sys.argv[1:])
