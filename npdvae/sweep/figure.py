"""The figure of a sweep: means and spreads over seeds, by epoch and at the end."""
from __future__ import annotations

import pathlib

import numpy as np

from npdvae import metrics, plots
from npdvae.sweep import grid

MOST = len(plots.COLOURS)                       # curves that can be told apart


def draw(out: pathlib.Path, keys, found, made):
    """Test negative ELBO by epoch (mean, and from lowest to highest seed) and at the last epoch."""
    made = sorted((g for g in made if g["seeds"]), key=lambda g: g["test_negative_elbo"]["mean"])
    f = plots.figure(10, max(3.6, 1.6 + 0.3 * len(made)))
    left, right = f.subplots(1, 2)
    shown = []
    for i, group in enumerate(made):
        values = [row["test_negative_elbo"] for row in members(group, found)]
        colour = plots.COLOURS[i] if i < MOST else "#999999"
        spread = group["test_negative_elbo"]["std"] or 0
        right.errorbar(np.mean(values), i, xerr=spread, fmt="D", color=colour, ms=5, capsize=4, lw=1.4)
        right.plot(values, np.full(len(values), i + 0.22), "o", color=colour, ms=3, alpha=0.6)
        if i < MOST:
            shown += band(left, [metrics.read(out / row["name"]) for row in members(group, found)], colour)
    plots.limit(left, shown)
    right.set(yticks=range(len(made)), yticklabels=[label(g) for g in made], title="At the end: each seed, mean, std",
              xlabel="test negative ELBO, nats per image", ylim=(len(made) - 0.4, -0.6))
    left.set(xlabel="epoch", ylabel="test negative ELBO, nats per image",
             title="By epoch: mean, lowest to highest seed" + (f" (best {MOST})" if len(made) > MOST else ""))
    right.locator_params(axis="x", nbins=5)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    return f


def members(group, found):
    """The runs of a group that are done."""
    return [row for row in found if row["state"] == "done" and all(row[k] == v for k, v in group["settings"].items())]


def band(axes, runs, colour):
    """One group's curves: the mean over runs of as many epochs as all of them have, and their range."""
    length = min(map(len, runs))
    epochs = [line["epoch"] for line in runs[0][:length]]
    values = np.array([[e.negative_elbo for e in metrics.curve(lines[:length], "test")] for lines in runs])  # [R, E]
    marker = "o" if length <= 10 else None
    axes.plot(epochs, values.mean(0), color=colour, lw=1.6, marker=marker, ms=3)
    axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.2, lw=0)
    return [values.min(0), values.max(0)]


def label(group):
    """A group in a few words."""
    return grid.show(group["settings"]) if group["settings"] else "all runs"
