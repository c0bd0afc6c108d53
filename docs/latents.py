"""python docs/latents.py [RUN ...]: latents beside each other on the digits; the table of docs/latents.md.

With run folders, their figures are first stored in docs/latents.json in place of what is there of the same settings
and seed. Each run: python -m npdvae.train --epochs 100 --latent NAME --latents D ... --seeds 0 1 2.
"""
import json
import pathlib
import statistics
import sys

from npdvae import evaluation, metrics
from npdvae.run import Run

FOLDER = pathlib.Path(__file__).parent
STORE, PAGE = FOLDER / "latents.json", FOLDER / "latents.md"
BEGIN, END = "<!-- python docs/latents.py -->", "<!-- end -->"
SAMPLES = 100                                   # of the importance-weighted bound
REFERENCE = {                                   # the same runs in PyTorch, negative ELBO of the test split
    "gaussian D=2": "19.67 ± 0.08", "gaussian D=4": "18.41 ± 0.28", "gaussian D=16": "18.47 ± 0.07",
    "gaussian D=4, samples=4": "18.12 ± 0.18", "gaussian D=4, samples=4, gradient=score": "18.41 ± 0.16",
    "gaussian D=4, kl=parameters": "25.86 ± 1.36", "laplace D=4": "18.70 ± 0.12", "logistic D=4": "18.48 ± 0.13",
    "student_t D=4": "18.70 ± 0.26", "triangular D=4": "18.91 ± 0.06", "uniform D=4": "19.79 ± 0.53",
    "vq D=4 K=8": "20.57 ± 0.33", "vq D=4 K=8, size=16": "20.85 ± 0.27", "vq D=4 K=64": "26.63 ± 0.21",
    "vq D=4 K=64, size=16": "26.89 ± 0.26", "vq D=4 K=8, codebook=gradient": "20.42 ± 0.3",
    "vq D=4 K=8, grouped=True": "20.16 ± 0.3", "vq D=4 K=8, cosine=True": "21.05 ± 0.27",
    "vq D=4 K=8, rotation=True": "30.08 ± 1.15", "vq D=4 K=64, rotation=True": "27.31",
    "vq D=4 K=8, codebook=simvq": "20.07 ± 0.2", "vq D=4 K=64, codebook=simvq": "25.84 ± 0.2",
    "vq D=4 K=8, prior=learned": "19.55, fitted afterwards", "vq D=4 K=64, prior=learned": "22.03, afterwards",
    "vq D=4 K=8, prior=autoregressive": "19.14, afterwards", "vq D=4 K=64, prior=autoregressive": "21.39, afterwards",
    "vq D=4 K=8, levels=2": "20.13 ± 0.13", "fsq D=4 K=8": "20.60 ± 0.3", "fsq D=6 K=4": "20.35 ± 0.3",
    "fsq D=16 K=5": "33.05 ± 0.2", "fsq D=12 K=2": "20.88 ± 0.2", "lfq D=12 K=2": "20.57 ± 0.3",
    "bsq D=12 K=2": "21.27 ± 0.3", "soft_vq D=4 K=8, estimator=gumbel_softmax": "18.83 ± 0.11",
}


def label(config):
    """Latent, sizes and the options that were set."""
    options = {**config.given("prior", "estimator"), **config.estimator_arguments(), **config.latent_options}
    if config.likelihood != "bernoulli":
        options["likelihood"] = config.likelihood
    unset = {"prior": "uniform", "estimator": "rloo"}
    shown = [f"{k}={v}" for k, v in options.items() if unset.get(k) != v]
    return ", ".join([f"{config.latent} {config.sizes}", *shown])


def read(folder):
    """One run: its label, seed and figures at the last epoch, nats per test image."""
    run = Run.load(folder)
    data, last = run.dataset(), metrics.read(folder)[-1]
    f = evaluation.summary(run.model, run.params, run.split(data, data.test), SAMPLES)
    figures = {"train": metrics.elbo(last, "train").negative_elbo, "test": metrics.elbo(last, "test").negative_elbo,
               "kl": metrics.elbo(last, "test").kl, "importance_weighted": -f["importance_weighted_bound"],
               "exact": None if f["log_prob"] is None else -f["log_prob"]}
    return {"run": label(run.config), "seed": run.config.seed, "epochs": last["epoch"],
            **{k: v if v is None else round(v, 3) for k, v in figures.items()}}


def store(folders):
    """Add runs to the stored ones."""
    runs = json.loads(STORE.read_text()) if STORE.exists() else []
    new = [read(path) for f in map(pathlib.Path, folders) for path in (sorted(f.glob("seed*")) or [f])]
    names = {(r["run"], r["seed"]) for r in new}
    runs = [r for r in runs if (r["run"], r["seed"]) not in names] + new
    STORE.write_text("[" + ",\n ".join(json.dumps(r) for r in runs) + "]\n")


def figures(values):
    """Mean and, of several seeds, standard deviation; nothing where a latent has no such figure."""
    if None in values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def table(groups):
    """Markdown: the last epoch of each set of runs."""
    columns = ("train", "test", "kl", "importance_weighted", "exact")
    lines = ["| run | seeds | train | test | of it KL | importance-weighted | exact | reference, test |",
             "|---|---|---|---|---|---|---|---|"]
    for name, runs in groups.items():
        cells = [figures([r[c] for r in runs]) for c in columns]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {REFERENCE.get(name, '')} |")
    return "\n".join(lines)


def page():
    """The page with the table of what is stored."""
    groups = {}
    for r in json.loads(STORE.read_text()):
        groups.setdefault(r["run"], []).append(r)
    head, rest = PAGE.read_text().split(BEGIN)
    return f"{head}{BEGIN}\n{table(groups)}\n{END}{rest.split(END)[1]}"


def main(folders):
    if folders:
        store(folders)
    PAGE.write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
