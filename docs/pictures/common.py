"""What the pictures share: a short training on the digits, images inside a plot, axes without clutter."""
import contextlib
import io
import pathlib
import tempfile

import numpy as np
from matplotlib import colormaps

from npdvae import plots, train
from npdvae.run import Run

GREY, GREYS = "#666666", colormaps["gray"].with_extremes(bad="white")


def trained(latent, epochs=100, seed=0, **settings):
    """A run on the digits, 64-128-64 and mirrored, batch 50, Adam 1e-3."""
    options = settings.pop("options", {})
    words = [f"--{k.replace('_', '-')}={v}" for k, v in settings.items()]
    words += ["--latent-options", *(f"{k}={v}" for k, v in options.items())] if options else []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        out = pathlib.Path(folder) / "run"
        if train.main(["--latent", latent, "--epochs", str(epochs), "--seed", str(seed), "--no-figures", "--out",
                       str(out), *words]):
            raise SystemExit(f"training {latent} failed")
        return Run.load(out)


def encoded(run):
    """Encoder outputs h [N, E] of the test images, and their labels [N]."""
    data = run.dataset()
    return run.model.encoder.forward(run.params, run.targets(data, data.test))[0], data.test_labels


def classes(axes, points, labels):
    """The label of each image at its point [N, 2]: seven colours, then bold."""
    for (x, y), k in zip(points, labels):
        axes.text(x, y, str(k), color=plots.COLOURS[k % 7], size=7.5, ha="center", va="center", clip_on=True, zorder=2,
                  weight="bold" if k > 6 else "normal")


def mosaic(axes, rows, shape, columns, names):
    """Images [R, C, P] with words below the columns and beside the rows."""
    axes.imshow(plots.mosaic(rows, shape), cmap=GREYS, vmin=0, vmax=1, interpolation="nearest")
    H, W = shape[0] + plots.GAP, shape[1] + plots.GAP
    axes.set_xticks([c * W + (shape[1] - 1) / 2 for c in range(len(columns))], columns, size=8)
    axes.set_yticks([r * H + (shape[0] - 1) / 2 for r in range(len(names))], names, size=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def tidy(axes, **settings):
    """No upper and right frame, a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set(**settings)


def bars(axes, draws, low, high, colour, bins=60):
    """Draws as a density, filled."""
    height, edges = np.histogram(draws, bins, (low, high))
    axes.stairs(height / (len(draws) * (edges[1] - edges[0])), edges, fill=True, color=colour, alpha=0.25)
