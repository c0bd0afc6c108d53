"""Figures of the leaderboard: test curves against three prices, and where every row ends."""
from __future__ import annotations

import statistics

import numpy as np

from bench.leaderboard.results import thinned
from npdvae.plots import COLOURS, figure, limit

KINDS = {True: (COLOURS[0], "unbiased"), False: (COLOURS[1], "biased"), None: (COLOURS[2], "other latent")}


def curves(task, summaries, names):
    """Test negative ELBO against epochs, decoder evaluations and seconds: median and range over seeds."""
    f = figure(11.5, 4.6)
    panels = f.subplots(1, 3, sharey=True)
    chosen = [s for name in names for s in summaries if s["row"].name == name]
    epochs = np.array(thinned(task.settings["epochs"]))
    for i, s in enumerate(chosen):
        values, colour = np.array(s["curves"]), COLOURS[i % len(COLOURS)]           # [seeds, points]
        seconds = 1e-3 * s["ms"] * s["steps"] / epochs[-1]
        for axes, unit in zip(panels, (1, s["evaluations"], seconds)):
            axes.plot(unit * epochs, np.median(values, 0), color=colour, lw=1.8, label=s["row"].name)
            axes.fill_between(unit * epochs, values.min(0), values.max(0), color=colour, alpha=0.18, lw=0)
    middles = [np.median(s["curves"], 0) for s in chosen]
    limit(panels[0], [c[min(2, len(c) - 1):] for c in middles])     # first falls aside, and a seed that fails
    prices = ("epochs", "decoder evaluations per training image", "seconds of training, one thread")
    for axes, what in zip(panels, prices):
        axes.set(xlabel=what, xscale="log")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test negative ELBO, nats per image")
    f.suptitle(f"{task.title}: median over seeds, lowest to highest", fontsize=12, x=0.01, ha="left")
    f.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(chosen), frameon=False,
             fontsize=9)
    return f


def ends(task, summaries):
    """Every seed of every row at the last epoch, the best row on top; what lies far off is written at the edge."""
    found = sorted(summaries, key=lambda s: statistics.mean(s["test"]))
    means = [statistics.mean(s["test"]) for s in found]
    edge = means[0] + 3 * (np.quantile(means, 0.75) - means[0]) + 0.05
    f = figure(8.5, 1.3 + 0.185 * len(found))
    axes = f.subplots()
    for i, (s, mean) in enumerate(zip(found, means)):
        colour, _ = KINDS[s["unbiased"]]
        beyond = sorted(x for x in s["test"] if x > edge or mean > edge)
        if beyond:
            axes.annotate(", ".join(f"{x:.1f}" for x in beyond), (edge, i), ha="right", va="center", fontsize=8,
                          color=colour)
        if mean <= edge:
            axes.plot(s["test"], np.full(len(s["test"]), i), "o", color=colour, ms=3.5, alpha=0.5, mew=0)
            axes.plot(mean, i, "|", color=colour, ms=9, mew=2)
    if max(x for s in found for x in s["test"]) > edge:
        axes.set_xlim(right=edge)
    axes.set_yticks(range(len(found)), [s["row"].name for s in found], fontsize=8)
    axes.set(ylim=(len(found) - 0.3, -0.7), xlabel="test negative ELBO, nats per image: seeds and mean")
    for colour, label in KINDS.values():
        axes.plot([], [], "o", color=colour, ms=5, label=label)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{task.title}: where each row ends", loc="left", fontsize=12)
    return f
