"""python docs/latents.py [RUN ...]: latents beside each other, digits and MNIST; the tables of docs/latents.md.

With run folders, their figures are first stored in docs/latents.json in place of what is there of the same settings
and seed. Each run: python -m npdvae.train --epochs 100 --latent NAME --latents D ... --seeds 0 1 2. Those on MNIST
are of bench/latents.py and stored by it.
"""
import json
import pathlib
import statistics
import sys

from npdvae import evaluation, metrics
from npdvae.run import Run

FOLDER = pathlib.Path(__file__).parent
STORE, PAGE = FOLDER / "latents.json", FOLDER / "latents.md"
MNIST = FOLDER.parent / "bench/results/latents.json"
BEGIN, BEGIN_MNIST, END = "<!-- python docs/latents.py -->", "<!-- python docs/latents.py: MNIST -->", "<!-- end -->"
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
    "categorical D=12 K=2, estimator=exact": "18.61 ± 0.10",
    "categorical D=12 K=2, estimator=gumbel_softmax, temperature=1 to 0.5, steps=3000": "19.41 ± 0.18",
    "categorical D=12 K=2, estimator=straight_through": "20.78 ± 0.09",
    "categorical D=12 K=2, estimator=smoothing, samples=4, function=f1, beta=1 to 3, steps=3000": "20.30 ± 0.1",
    "categorical D=12 K=2, estimator=smoothing, samples=4, function=f2, beta=1.2 to 4, steps=3000": "20.06 ± 0.1",
    "categorical D=12 K=2, estimator=smoothing, samples=4, function=f3, beta=1.5 to 6, steps=1500": "21.42 ± 0.1",
    "categorical D=12 K=2, estimator=smoothing, samples=1, function=f1, beta=2 to 8, steps=3000": "21.91 ± 0.3, to 10",
    "categorical D=12 K=2, estimator=smoothing, samples=1, function=f2, beta=2 to 10, steps=3000": "20.77 ± 0.3",
    "categorical D=12 K=2, estimator=smoothing, samples=1, function=f3, beta=2 to 10, steps=1500": "21.13 ± 0.3",
    "bsq D=12 K=2": "21.27 ± 0.3", "soft_vq D=4 K=8, estimator=gumbel_softmax": "18.83 ± 0.11",
}


def label(config):
    """Latent, sizes and the options that were set."""
    options = {**config.given("prior", "estimator"), **config.estimator_arguments(), **config.latent_options}
    if config.likelihood != "bernoulli":
        options["likelihood"] = config.likelihood
    if options.get("anneal") == "linear":
        first, last, rate = (options.pop(k) for k in ("temperature", "anneal_min", "anneal_rate"))
        smooth = config.estimator == "smoothing"
        name, ends = ("beta", (1 / first, 1 / last)) if smooth else ("temperature", (first, last))
        options |= {name: f"{ends[0]:.4g} to {ends[1]:.4g}", "steps": round((first - last) / rate)}
        del options["anneal"]
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
    """Mean and, of several seeds, standard deviation; nothing where there is no such figure."""
    if not values or None in values:
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


def grouped(path):
    """What is stored in a file, by run."""
    groups = {}
    for r in json.loads(path.read_text()):
        groups.setdefault(r["run"], []).append(r)
    return groups


def mnist_table(groups):
    """Markdown: ours beside the sketch, test images after the last epoch."""
    lines = ["| run | npdvae: seeds | bound | of it KL | PyTorch: seeds | bound | of it KL |",
             "|---|---|---|---|---|---|---|"]
    for name, runs in groups.items():
        sides = [[r for r in runs if r["side"] == side] for side in ("npdvae", "torch")]
        cells = [str(len(s)) if c is None else figures([r[c] for r in s]) for s in sides for c in (None, "test", "kl")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def put(text, begin, lines):
    """The text with these lines between a mark and the next end."""
    head, rest = text.split(begin + "\n")
    return f"{head}{begin}\n{lines}\n{END}{rest.split(END, 1)[1]}"


def page():
    """docs/latents.md with its tables from what is stored."""
    text = put(PAGE.read_text(), BEGIN, table(grouped(STORE)))
    return put(text, BEGIN_MNIST, mnist_table(grouped(MNIST)))


def main(folders):
    if folders:
        store(folders)
    PAGE.write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
