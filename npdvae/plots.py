"""Figures over plain arrays and lists of metrics; matplotlib is imported only when one is drawn, without a display.

Every function returns a matplotlib Figure; `save` and `png` turn it into a file or bytes. Pixels are probabilities
in [0, 1], drawn white on black; ELBOs are in nats.
"""
from __future__ import annotations

import io
import math
import pathlib

import numpy as np

from npdvae.files import write_durably
from npdvae.metrics import curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")   # Okabe & Ito: for all eyes
GAP = 1                                         # pixels between the images of a mosaic


def figure(width, height):
    """An empty Figure of so many inches."""
    from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def check():
    """Raise ValueError where matplotlib cannot be loaded, because of a wrong MPLBACKEND say."""
    try:
        import matplotlib.figure  # noqa: F401
    except (ImportError, ValueError) as error:
        raise ValueError(f"no figures can be drawn (--no-figures does without): {error}") from error


def png(drawn, dpi=110):
    """The bytes of a figure as PNG."""
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", dpi=dpi, facecolor="white", bbox_inches="tight", metadata={"Software": None})
    return stream.getvalue()


def save(drawn, path, dpi=110):
    """Write a figure as a PNG file."""
    write_durably(pathlib.Path(path), png(drawn, dpi))


def mosaic(images, shape):
    """Images in rows and columns as one picture: [R, C, P] -> [R (H + 1) - 1, C (W + 1) - 1], NaN between them."""
    R, C, _ = images.shape
    H, W = shape
    cells = np.full((R, C, H + GAP, W + GAP), np.nan, np.float32)
    cells[:, :, :H, :W] = images.reshape(R, C, H, W)
    picture = cells.swapaxes(1, 2).reshape(R * (H + GAP), C * (W + GAP))
    return picture[:-GAP, :-GAP]


def curves(lines, collapsed=None, title="", bound="ELBO"):
    """The negative bound against epoch, and its two parts: lines of metrics.jsonl."""
    f = figure(10, 3.8)
    left, right = f.subplots(1, 2)
    epochs = [line["epoch"] for line in lines]
    marker = "o" if len(lines) <= 10 else None
    for split, colour in (("train", COLOURS[0]), ("validation", COLOURS[2]), ("test", COLOURS[1])):
        if values := [e.negative_elbo for e in curve(lines, split)]:
            left.plot(epochs, values, color=colour, marker=marker, lw=1.6, label=f"{split} {values[-1]:.2f}")
    if collapsed is not None:
        left.axhline(collapsed, color="#666666", ls="--", lw=1, label=f"collapsed posterior {collapsed:.2f}")
    shown = [[e.negative_elbo for e in curve(lines, split)] for split in ("train", "test")]
    test = curve(lines, "test")
    limit(left, shown, collapsed)
    left.set(xlabel="epoch", ylabel="nats per image", title=f"Negative {bound}")
    right.plot(epochs, [e.cost for e in test], color=COLOURS[1], marker=marker, lw=1.6)
    other = right.twinx()
    other.plot(epochs, [e.kl for e in test], color=COLOURS[3], marker=marker, lw=1.6)
    limit(right, [[e.cost for e in test]])
    right.set(xlabel="epoch", title=f"Its parts, test: cost {test[-1].cost:.2f}, KL {test[-1].kl:.2f}")
    right.set_ylabel("reconstruction cost, nats", color=COLOURS[1])
    other.set_ylabel("KL to the prior, nats", color=COLOURS[3])
    other.set_ylim(0, max(e.kl for e in test) * 1.15 + 1e-3)
    left.legend(edgecolor="none", framealpha=0.85)
    for axes in (left, right):
        _whole(axes)
        axes.set_xlim(0, 1.03 * epochs[-1])
        axes.grid(alpha=0.25)
    f.suptitle(title)
    return f


def comparison(runs, collapsed=None, title="", split="test"):
    """Negative ELBO of several runs against epoch: {label: lines of metrics.jsonl}; each ends in its figure."""
    f = figure(8, 4.2)
    axes = f.subplots()
    ends, shown = [], []
    for (label, lines), colour in zip(runs.items(), COLOURS):
        values = [e.negative_elbo for e in curve(lines, split)]
        axes.plot([line["epoch"] for line in lines], values, color=colour, lw=1.8)
        ends.append((values[-1], f"{label}  {values[-1]:.1f}", colour))
        shown.append(values)
    last = max(lines[-1]["epoch"] for lines in runs.values())
    if collapsed is not None:
        axes.axhline(collapsed, color="#666666", ls="--", lw=1)
        ends.append((collapsed, f"collapsed posterior  {collapsed:.1f}", "#666666"))
    limit(axes, shown, collapsed)
    axes.set(xlabel="epoch", ylabel=f"{split} negative ELBO, nats per image", title=title, xlim=(0, last))
    _label_ends(axes, sorted(ends), last)
    _whole(axes)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return f


def rows_of_images(rows, shape, title="", captions=None):
    """One row of images per kind: {name: [N, P]}, the same N in each; captions: a word per column."""
    names = list(rows)
    picture = mosaic(np.stack([rows[name] for name in names]), shape)
    f, axes = _picture(picture, title, left=1.9, most=10)
    axes.set_yticks([r * (shape[0] + GAP) + (shape[0] - 1) / 2 for r in range(len(names))], names)
    if captions is not None:
        axes.set_xticks([c * (shape[1] + GAP) + (shape[1] - 1) / 2 for c in range(len(captions))], captions)
        axes.xaxis.tick_top()
    return f


def grid(images, shape, title="", columns=None):
    """Images [N, P] in rows of `columns` (about twice as wide as high where not given)."""
    N = len(images)
    wide = math.sqrt(2 * N * shape[0] / shape[1])
    near = range(max(1, int(0.75 * wide)), max(1, int(1.3 * wide)) + 1)
    columns = min(N, columns or min(near, key=lambda c: (-N % c, abs(c - wide))))        # the fewest empty places
    rows = -(-N // columns)
    filled = np.full((rows * columns, images.shape[1]), np.nan, np.float32)
    filled[:N] = images
    return _picture(mosaic(filled.reshape(rows, columns, -1), shape), title, most=9)[0]


def traversal(images, code, latents, categories, shape, title=""):
    """What one category changes: row of latent d, column of category k: the code with z_d = k.

    images [R, C, P]; code [R]: the column that shows the image's own z in each row, framed (None: none does, and
    columns are quantiles); latents [R] and categories [C]: the numbers written beside the rows and columns.
    """
    from matplotlib.patches import Rectangle
    H, W = shape[0] + GAP, shape[1] + GAP
    f, axes = _picture(mosaic(images, shape), title, left=0.9, most=9)
    axes.set_yticks([r * H + (shape[0] - 1) / 2 for r in range(len(latents))], [f"$z_{{{d}}}$" for d in latents])
    axes.set_xticks([c * W + (shape[1] - 1) / 2 for c in range(len(categories))], categories)
    axes.set_xlabel("quantile of the prior" if all(k is None for k in code) else "category")
    for r, k in enumerate(code):
        if k in categories:
            c = list(categories).index(k)
            axes.add_patch(Rectangle((c * W - 1, r * H - 1), W, H, fill=False, ec=COLOURS[1], lw=2, clip_on=False))
    return f


def code_use(use, kl, title=""):
    """How often each category is used [D, K] (aggregate posterior), its perplexity, and the KL of each latent [D]."""
    D, K = use.shape
    perplexity = np.exp(-(use * np.log(np.maximum(use, 1e-300))).sum(1))                 # [D]
    f = figure(10, min(9, max(3, 1.3 + 0.36 * D)))
    left, middle, right = f.subplots(1, 3, width_ratios=(3, 1, 1), sharey=True)
    shown = left.imshow(100 * use, cmap="viridis", vmin=0, aspect="auto", interpolation="nearest")
    f.colorbar(shown, ax=left, label="use, %", pad=0.02)
    if D <= 16 and K <= 16:
        for d in range(D):
            for k in range(K):
                dark = use[d, k] < 0.6 * use.max()
                left.text(k, d, f"{100 * use[d, k]:.0f}", ha="center", va="center", size=8, color="w" if dark else "k")
    step = max(1, math.ceil(D / 24))
    left.set(xlabel="category", ylabel="latent", title="Use of each category", yticks=range(0, D, step))
    if K <= 32:
        left.set_xticks(range(K))
    middle.barh(range(D), perplexity, color=COLOURS[2])
    middle.axvline(K, color="#666666", ls="--", lw=1)
    middle.set(xlabel=f"of at most {K}", title="Perplexity", xlim=(0, K * 1.05))
    _whole(middle, 5)
    right.barh(range(D), kl, color=COLOURS[3])
    right.axvline(math.log(K), color="#666666", ls="--", lw=1)
    right.set(xlabel=f"nats, of at most {math.log(K):.2f}", title="KL", xlim=(0, max(math.log(K), 0.1) * 1.05))
    f.suptitle(title)
    return f


def kl_bars(kl, title=""):
    """The KL of each latent [D]."""
    f = figure(7, 3.2)
    axes = f.subplots()
    axes.bar(range(len(kl)), kl, color=COLOURS[3])
    axes.set(xlabel="latent", ylabel="nats", title=title)
    _whole(axes)
    return f


def _picture(picture, title, left=0.2, most=10.0):
    """A figure that fits a mosaic, and its axes without a frame."""
    height, width = picture.shape
    scale = min((most - left) / width, 9 / height, 1 / 12)          # inches per pixel
    f = figure(max(width * scale + left, 3.2), height * scale + 0.8)
    axes = f.subplots()
    colours = _greys()
    axes.imshow(picture, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axes.tick_params(length=0)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, size=11)
    return f, axes


def _greys():
    from matplotlib import colormaps
    return colormaps["gray"].with_extremes(bad="white")


def limit(axes, shown, line=None):
    """Fit several curves and a line, less the first 3 % of the epochs, whose fall would flatten the rest."""
    values = [v for curve in shown for v in curve[len(curve) // 30:] if math.isfinite(v)]
    values += [] if line is None else [line]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.08 * (high - low) + 0.002 * abs(high) + 1e-3
    axes.set_ylim(low - margin, high + margin)


def _whole(axes, most=8):
    from matplotlib.ticker import MaxNLocator
    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]))


def _label_ends(axes, ends, x):
    """Write each (value, text, colour), lowest first, right of the curves, no two closer than a line of text."""
    low, high = axes.get_ylim()
    line, at = 0.058 * (high - low), -math.inf
    for value, text, colour in ends:
        at = max(value, at + line)
        axes.annotate(text, (x, at), (6, 0), textcoords="offset points", color=colour, va="center",
                      annotation_clip=False)
