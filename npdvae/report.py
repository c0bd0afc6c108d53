"""python -m npdvae.report RUN: the figures of a run as PNG files and one self-contained HTML page."""
from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

from npdvae import data, evaluation, metrics, page, plots, rng
from npdvae.cli import guarded
from npdvae.config import to_toml
from npdvae.data.baselines import collapsed_baseline, irreducible_cost
from npdvae.data.binarize import binarize
from npdvae.run import Run

MOST_CODES = 2 ** 13                            # enumerated here; npdvae.evaluate takes the time for more
MOST = 24                                       # rows or columns of a traversal
CAPTIONS = {
    "elbo": "Negative ELBO by epoch (train: running mean of the epoch's batches; test: one pass with fresh samples), "
            "its parts on the test split. Dashed: a collapsed posterior, which predicts each pixel's training mean.",
    "reconstructions": "Test images: pixel probabilities, the targets the model sees, the decoder's pixel "
                       "probabilities at a code drawn from q(z | x), and pixels drawn from these.",
    "traversals": "The most probable code of one test image with one latent at a time set to each of its categories. "
                  "Framed: the category that the image has.",
    "prior": "Pixel probabilities of codes drawn from the prior.",
    "code_use": "Mean of q(z | x) over the test images, the perplexity of that mean, and the KL of each latent to "
                "the prior. Dashed: the most that K categories allow.",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m npdvae.report", description="Draw a run: ELBO curves, "
                                "reconstructions, latent traversals, prior samples, code usage; PNG files in "
                                "RUN/figures and one self-contained page RUN/report.html.")
    p.add_argument("run", metavar="RUN", help="run folder")
    p.add_argument("--checkpoint", default="last", metavar="last|best|FILE", help="which checkpoint (default: last)")
    p.add_argument("--images", type=int, default=10, metavar="N", help="test images to reconstruct (default: 10)")
    p.add_argument("--samples", type=int, default=10, metavar="S",
                   help="samples of the importance-weighted bound (default: 10)")
    p.add_argument("--seed", type=int, default=0, help="seed of what is drawn for the pictures (default: 0)")
    p.add_argument("--out", metavar="FOLDER", help="where report.html and figures/ go (default: RUN)")
    return p


@guarded
def main(argv=None) -> int:
    """Report as the arguments say; returns the exit code."""
    args = parser().parse_args(argv)
    for name in ("images", "samples"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}: got {getattr(args, name)}, expected at least 1")
    run = Run.load(args.run, args.checkpoint)
    dataset = run.dataset()
    if dataset.pixels != run.pixels:
        raise ValueError(f"{args.run}: the run is for {run.pixels} pixels, the data set {run.config.data} has "
                         f"{dataset.pixels}")
    folder = pathlib.Path(args.out or args.run)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figures = evaluation.summary(run.model, run.params, dataset, dataset.test, run.mode, run.config.seed, run.step,
                                 args.samples, run.dtype, MOST_CODES)
    figures["collapsed_posterior"] = collapsed_baseline(dataset.train, dataset.test, dataset.levels)
    figures["irreducible"] = irreducible_cost(dataset.test, dataset.levels) if run.config.binarize == "none" else 0.0
    lines = [line for line in metrics.read(run.folder) if line["step"] <= run.step]
    images = draw(run, dataset, figures, lines, args.images, args.seed)
    for name, content in images.items():
        (folder / "figures" / f"{name}.png").write_bytes(content)
    path = folder / "report.html"
    path.write_text(write(run, figures, lines, images), encoding="utf-8")
    print(f"{path} ({path.stat().st_size / 1000:.0f} kB); figures in {folder / 'figures'}: {', '.join(images)}")
    return 0


def draw(run, dataset, figures, lines, count=10, seed=0):
    """The figures of a run as PNG bytes by name, in the order of the page."""
    c = run.config
    name = f"{c.estimator}, D={c.latents} K={c.categories}, {c.data}"
    use, kl = np.array(figures["code_use"]), np.array(figures["kl_per_latent"])
    drawn = {"elbo": plots.curves(lines, figures["collapsed_posterior"], name)} if lines else {}
    rows, x, captions = reconstructions(run, dataset, count, seed)
    title = "Test images and the negative ELBO of each, nats"
    drawn["reconstructions"] = plots.rows_of_images(rows, run.shape, title, captions)
    title = "One latent at a time" + (f", the {MOST} of largest KL" if c.latents > MOST else "")
    drawn["traversals"] = plots.traversal(*traversal(run, x[min(3, len(x) - 1)], kl), run.shape, title)
    drawn["prior"] = plots.grid(run.sample(60, seed)[1], run.shape, "Prior samples, pixel probabilities")
    drawn["code_use"] = plots.code_use(use, kl, f"Code of {figures['images']} test images")
    return {key: plots.png(f) for key, f in drawn.items()}


def reconstructions(run, dataset, count, seed=0):
    """Rows of images {name: [N, P]}, their targets x [N, P], and the ELBO of each image as a caption."""
    chosen = examples(dataset, count)
    grey = data.load(run.config.data, run.config.data_dir)
    x = run.targets(dataset, dataset.test, run.step)[chosen]
    codes = _draw_codes(run, x, seed)
    p = run.decode(codes)
    rows = {"input\nprobabilities": grey.to_probabilities(grey.test[chosen])}
    if run.config.binarize != "none" and not grey.binary:
        rows["binarized\ninput"] = x
    rows["reconstruction\nprobabilities"] = p
    rows["reconstruction\nsample"] = binarize(p, "dynamic", rng.Generator(seed, rng.PRIOR, step=1))
    captions = [f"{-v:.1f}" for v in run.elbo(x, 10, seed)]
    return rows, x, captions


def examples(dataset, count):
    """Indices of test images to show: one of each label in turn where there are labels, else the first."""
    if dataset.test_labels is None:
        return np.arange(min(count, len(dataset.test)))
    labels = dataset.test_labels
    turn = np.zeros(len(labels), int)                               # how many of its label came before
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        turn[where] = np.arange(len(where))
    return np.lexsort((labels, turn))[:count]


def traversal(run, image, kl):
    """Arguments of plots.traversal for the most probable code of an image [P]: the latents of the largest KL first."""
    D, K = run.config.latents, run.config.categories
    code = run.encode(image[None])[0].argmax(-1)                    # [D]
    latents = np.sort(np.argsort(-kl, kind="stable")[:MOST])
    categories = np.arange(min(K, MOST))
    codes = np.broadcast_to(code, (len(latents), len(categories), D)).copy()
    for r, d in enumerate(latents):
        codes[r, :, d] = categories
    images = run.decode(codes.reshape(-1, D)).reshape(len(latents), len(categories), -1)
    return images, code[latents], latents, categories


def write(run, f, lines, images):
    """The page as text."""
    c, epochs = run.config, lines[-1]["epoch"] if lines else 0
    too_many = f"{c.categories}^{c.latents} codes: see npdvae.evaluate up to 2^20"
    gain = f["collapsed_posterior"] - f["negative_elbo"]
    rows = [
        ("negative ELBO", f["negative_elbo"], f"cost {f['cost']:.2f} + KL {f['kl']:.2f}"),
        ("negative importance-weighted bound", -f["importance_weighted_bound"], f"{f['importance_samples']} samples"),
        ("negative log p(x), exact", "-" if f["log_prob"] is None else -f["log_prob"],
         too_many if f["log_prob"] is None else f"all {c.categories ** c.latents} codes"),
        ("collapsed posterior", f["collapsed_posterior"], "each pixel's training mean; the ELBO is "
         f"{abs(gain):.2f} nats {'better' if gain >= 0 else 'worse'}"),
        ("active latents", f["active_latents"], f"of {c.latents} (KL above {evaluation.ACTIVE} nats)"),
        ("bits per dimension", f["bits_per_dimension"], "of the ELBO"),
    ]
    if f["irreducible"]:
        rows.insert(4, ("floor of grey targets", f["irreducible"], "entropy of the pixels: no model costs less"))
    head = ("epoch", "train", "test", "test cost", "test KL", "ms/step")
    keys = ("epoch", "train_negative_elbo", "test_negative_elbo", "test_cost", "test_kl")
    some = lines[::max(1, len(lines) // 10)]
    some += [] if not lines or some[-1] is lines[-1] else [lines[-1]]
    history = [tuple(line[k] for k in keys) + (1e3 * line["seconds_per_step"],) for line in some]
    titles = {"elbo": "Training", "reconstructions": "Reconstructions", "traversals": "Latent traversals",
              "prior": "Prior samples", "code_use": "Use of the code"}
    sections = [("Test split, nats per image", [page.table(rows)])]
    for name, content in images.items():
        blocks = [page.picture(content, CAPTIONS[name])]
        if name == "elbo":
            blocks.append(page.table(history, head))
        sections.append((titles[name], blocks))
    sections.append(("Settings", [page.folded("config.toml", to_toml(c))]))
    sizes = "-".join(map(str, [run.pixels, *(c.hidden or [])]))
    subtitle = (f"{c.data}, {f['images']} test images, binarize {c.binarize}; D={c.latents} latents of "
                f"K={c.categories} categories, {sizes}; {epochs} epochs, step {run.step}, seed {c.seed}")
    return page.html(f"{c.estimator} on {pathlib.Path(c.data).stem}: {f['negative_elbo']:.2f} nats", subtitle, sections)


def _draw_codes(run, x, seed):
    """Codes drawn from q(z | x): int [N, D]."""
    log_q = np.log(np.maximum(run.encode(x), np.finfo(run.dtype).tiny))
    return evaluation.hard_codes(run.model, log_q, rng.Generator(seed, rng.TEST_LATENT, step=1), 1)[0]


if __name__ == "__main__":
    sys.exit(main())
