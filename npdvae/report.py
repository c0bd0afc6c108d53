"""python -m npdvae.report RUN: the figures of a run as PNG files and one self-contained HTML page."""
from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

from npdvae import data, evaluate, evaluation, metrics, page, plots
from npdvae.cli import Parser, add_run, guarded
from npdvae.files import write_durably
from npdvae.process import over
from npdvae.run import Run
from npdvae.settings import to_toml

MOST_ENUMERATED = 2 ** 13                       # codes here; npdvae.evaluate takes the time for more
MOST = 24                                       # rows or columns of a traversal
CAPTIONS = {
    "elbo": "Negative {bound} by epoch (train: running mean of the epoch's batches; test: one pass with fresh "
            "samples), its parts on the test split.{collapsed}",
    "reconstructions": "Test images: {given}, the targets the model sees, the decoder's {shown} at {a_z} drawn from "
                       "q(z | x), and pixels drawn from p(x | z).",
    "traversals": "The most probable code of one test image with one latent at a time set to {each} of its "
                  "categories. Framed: the category that the image has{where}.",
    "quantiles": "The most probable z of one test image with one latent at a time set to 12 quantiles of its prior.",
    "prior": "The {shown} of {z} drawn from the prior.",
    "kl": "KL of each latent to the prior, mean over the test images.",
    "code_use": "Mean of q(z | x) over the test images, the perplexity of that mean, and the KL of each latent to "
                "the prior. Dashed: the most that K categories allow.",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m npdvae.report", description="Draw a run: ELBO curves, "
               "reconstructions, latent traversals, prior samples, use of the code or KL of each "
               "latent; PNG files in "
               "RUN/figures and one self-contained page RUN/report.html, which links to "
               "RUN/explore.html where npdvae.explore has written that.")
    add_run(p)
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
    run = Run.load(args.run, args.checkpoint, args.trust)
    dataset = run.dataset()
    folder = pathlib.Path(args.out or args.run)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    with np.errstate(over="ignore", invalid="ignore"):              # what is not finite is named
        figures = evaluation.summary(run.model, run.params, run.split(dataset, dataset.test), args.samples,
                                     MOST_ENUMERATED, run.way(len(dataset.test), args.samples),
                                     run.shared(len(dataset.test), MOST_ENUMERATED))
    metrics.finite(figures, f"{run.folder}: figures")
    figures["collapsed_posterior"] = run.collapsed(dataset)
    grey = run.config.binarize == "none"
    figures["irreducible"] = run.model.likelihood.floor(dataset.test, dataset.levels) if grey else None
    lines = [line for line in metrics.read(run.folder, print) if line["step"] <= run.step]
    images = draw(run, dataset, figures, lines, args.images, args.seed)
    for name, content in images.items():
        write_durably(folder / "figures" / f"{name}.png", content)
    path, beside = folder / "report.html", (folder / "explore.html").is_file()
    write_durably(path, write(run, figures, lines, images, "explore.html" if beside else None).encode())
    print(f"{path} ({path.stat().st_size / 1000:.0f} kB); figures in {folder / 'figures'}: {', '.join(images)}")
    return 0


def draw(run, dataset, figures, lines, count=10, seed=0):
    """The figures of a run as PNG bytes by name, in the order of the page."""
    c = run.config
    name, kl = f"{c.method}, {c.sizes}, {c.data}", np.array(figures["kl_per_latent"])
    bound, _ = evaluation.bounds(figures)
    drawn = {"elbo": plots.curves(lines, figures["collapsed_posterior"], name, bound)} if lines else {}
    rows, x, captions = reconstructions(run, dataset, count, seed)
    title = f"Test images and the negative {bound} of each, nats"
    drawn["reconstructions"] = plots.rows_of_images(rows, run.shape, title, captions)
    title = "One latent at a time" + (f", the {MOST} of largest KL" if c.latents > MOST else "")
    images, framed, latents, columns = traversal(run, x[min(3, len(x) - 1)], kl)
    drawn["traversals"] = plots.traversal(images, framed, latents, columns, run.shape, title)
    drawn["prior"] = plots.grid(run.sample(60, seed)[1], run.shape, f"Prior samples, {run.model.likelihood.shown}")
    if figures["code_use"]:
        use = np.array(figures["code_use"])
        drawn["code_use"] = plots.code_use(use, kl, f"Code of {figures['images']} test images")
    else:
        drawn["kl"] = plots.kl_bars(kl, f"KL of {figures['images']} test images")
    return {key: plots.png(f) for key, f in drawn.items()}


def reconstructions(run, dataset, count, seed=0):
    """Rows of images {name: [N, P]}, their targets x [N, P], and the ELBO of each image as a caption."""
    chosen = examples(dataset, count)
    grey = data.load(run.config.data, run.config.data_dir)
    x = run.targets(dataset, dataset.test, run.step)[chosen]
    z = run.draw(x, seed, step=1)
    likely = run.model.likelihood.shown.removeprefix("pixel ")
    rows = {f"input\n{given(run)}".rstrip(): grey.to_probabilities(grey.test[chosen])}
    if run.config.binarize != "none" and not grey.binary:
        rows["binarized\ninput"] = x
    rows[f"reconstruction\n{likely}"] = run.decode(z)
    rows["reconstruction\nsample"] = run.draw_images(z, seed)
    captions = [f"{-v:.1f}" for v in run.elbo(x, 10, seed)]
    return rows, x, captions


def given(run):
    """What the pixels of an image are called: probabilities where the likelihood is of 0 and 1."""
    return "" if run.model.likelihood.grey else "probabilities"


def caption(run, name, figures):
    """What is below a picture, in the words of the run's latent and likelihood."""
    discrete, collapsed = run.config.categories is not None, figures["collapsed_posterior"] is not None
    cut = discrete and run.config.categories > MOST
    return CAPTIONS["quantiles" if name == "traversals" and not discrete else name].format(
        given=f"pixel {given(run)}" if given(run) else "as they are", shown=run.model.likelihood.shown,
        a_z="a code" if discrete else "a z", z="codes" if discrete else "z", bound=evaluation.bounds(figures)[0],
        each=f"the first {MOST}" if cut else "each", where=", where it is among them" if cut else "",
        collapsed=" Dashed: a collapsed posterior, which predicts each pixel's training mean." if collapsed else "")


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
    """Arguments of plots.traversal for the most probable z of an image [P]: the latents of the largest KL."""
    z = run.mode_of(image[None])[0]
    latents = np.sort(np.argsort(-kl, kind="stable")[:MOST])
    rows = [run.model.latent.traverse(run.params, z, d)[:MOST] for d in latents]    # [n, ...] each
    images = np.stack([run.decode(row) for row in rows])            # [latents, n, P]
    framed = [int(z[d]) if run.config.categories else None for d in latents]
    return images, framed, latents, np.arange(images.shape[1])


def write(run, f, lines, images, explorer=None):
    """The page as text, with a link to the `explorer` where there is one."""
    c, epochs = run.config, lines[-1]["epoch"] if lines else 0
    bound, samples = evaluation.bounds(f)
    rows = [
        (f"negative {bound}", f["negative_elbo"], f"cost {f['cost']:.2f} + KL {f['kl']:.2f}"),
        ("negative importance-weighted bound", -f["importance_weighted_bound"], samples)]
    if c.categories:
        few = c.categories ** c.latents <= evaluation.MOST_CODES
        too_many = f"{c.categories}^{c.latents} codes: {'python -m npdvae.evaluate has it' if few else 'too many'}"
        too_many = "grey targets have none" if f["grey_targets"] else too_many
        rows.append(("negative log p(x), exact", "-" if f["log_prob"] is None else -f["log_prob"],
                     too_many if f["log_prob"] is None else f"all {c.categories ** c.latents} codes"))
    if f["collapsed_posterior"] is not None:
        gain = f["collapsed_posterior"] - f["negative_elbo"]
        rows.append(("collapsed posterior", f["collapsed_posterior"], f"each pixel's training mean; the {bound} is "
                     f"{abs(gain):.2f} nats {'better' if gain >= 0 else 'worse'}"))
    if f["irreducible"]:
        rows.append(("floor of grey targets", f["irreducible"], "entropy of the pixels: no model costs less"))
    rows.append(("active latents", f["active_latents"], f"of {c.latents} (KL above {evaluation.ACTIVE} nats)"))
    if f["codebook_use"]:
        rows.append(("codebook perplexity", f["codebook_perplexity"], f"all latents; {evaluate.used(f)} codes in use"))
    if f["grey_targets"]:
        rows.append(("note", "", evaluate.GREY))
    if f["bits_per_dimension"] is not None:
        rows.append(("bits per dimension", f["bits_per_dimension"], f"of the {bound}"))
    head = ("epoch", "train", "test", "test cost", "test KL", "ms/step")
    some = lines[::max(1, len(lines) // 10)]
    some += [] if not lines or some[-1] is lines[-1] else [lines[-1]]
    history = [(line["epoch"], metrics.elbo(line, "train").negative_elbo, *metrics.elbo(line, "test"),
                1e3 * line["seconds_per_step"]) for line in some]
    titles = {"elbo": "Training", "reconstructions": "Reconstructions", "traversals": "Latent traversals",
              "prior": "Prior samples", "code_use": "Use of the code", "kl": "KL of each latent"}
    sections = [("Test split, nats per image", [page.table(rows), page.pointer(
        "Explore it by hand: ", explorer, f"python -m npdvae.explore {run.folder}")])]
    for name, content in images.items():
        blocks = [page.picture(content, caption(run, name, f))]
        if name == "elbo":
            blocks.append(page.table(history, head))
        sections.append((titles[name], blocks))
    sections.append(("Settings", [page.folded("config.toml", to_toml(c))]))
    sizes = "-".join(map(str, [run.pixels, *(c.hidden or [])]))
    subtitle = (f"{c.data}, {f['images']} test images, binarize {c.binarize}; {c.sizes}, "
                f"{sizes}; {epochs} epochs, step {run.step}, seed {c.seed}")
    return page.html(f"{c.method} on {pathlib.Path(c.data).stem}: {f['negative_elbo']:.2f} nats", subtitle, sections)


if __name__ == "__main__":
    sys.exit(over(main()))
