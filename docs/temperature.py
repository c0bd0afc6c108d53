"""python docs/temperature.py: bias and deviation of every tempered estimator against its temperature, on one model.

Trains the exact gradient on the digits (4 latents of 4 categories; 8 bits for `smoothing`), then compares. Two minutes
of one core. Writes docs/temperature.png.
"""
import inspect
import pathlib
import sys

import numpy as np

from npdvae import comparison, estimators, plots

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER / "guide"))

from small import images, train  # noqa: E402

FIGURE = FOLDER / "temperature.png"
TEMPERATURES = (0.1, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
DRAWS, IMAGES = 4096, 16
SIZES = {False: dict(latents=4, categories=4), True: dict(latents=8, categories=2)}   # 256 codes either way
COLOURS = {                                     # a hue a family
    "straight_through": "#0072B2", "decoupled_straight_through": "#56B4E9", "gapped_straight_through": "#7A4FBF",
    "straight_through_gumbel": "#009E73", "gr_mc": "#8FBF3F", "gumbel_softmax": "#D55E00", "reinmax": "#CC79A7",
    "reinmax_cv": "#8E2A5B", "reinmax_rao": "#E69F00", "rebar": "#000000", "relax": "#999999", "smoothing": "#8C564B"}


def tempered():
    """Names of the estimators with a temperature, those for bits last."""
    found = [n for n in estimators.names() if "temperature" in inspect.signature(estimators.find(n)).parameters]
    return sorted(found, key=lambda n: (estimators.find(n).binary, n))


def bench(binary):
    """A trained model and images to compare gradients on, others for what estimators learn."""
    run, _ = train(epochs=40, estimator="exact", lr=2e-3, **SIZES[binary])
    x = images(run, IMAGES + 500, "train")
    return comparison.Bench(run.model, run.params, x[:IMAGES], x[IMAGES:])


def measure(names, temperatures=TEMPERATURES, draws=DRAWS):
    """{name: a result for each temperature}."""
    benches = {binary: bench(binary) for binary in {estimators.find(n).binary for n in names}}
    found = {}
    for name in names:
        made = [estimators.get(name, temperature=t) for t in temperatures]
        found[name] = [comparison.compare(benches[e.binary], name, e, draws=draws) for e in made]
        print(f"{name:28s}", *(f"{r.relative_bias:6.2f}" for r in found[name]), flush=True)
    return found


def draw(found, temperatures=TEMPERATURES):
    """Bias left, deviation of one estimate right, relative to the exact gradient."""
    f = plots.figure(11.5, 5.4)
    panels = f.subplots(1, 2)
    for name, rows in found.items():
        style = dict(color=COLOURS.get(name, "#C22345"), lw=1.6, marker=".", label=name.replace("_", " "),
                     ls="--" if rows[0].draws else "-")
        if not rows[0].unbiased:
            panels[0].plot(temperatures, [max(r.relative_bias, 1e-3) for r in rows], **style)
        if not rows[0].unbiased and rows[0].draws:
            panels[0].fill_between(temperatures, [r.relative_bias_low for r in rows],
                                   [r.relative_bias_high for r in rows], color=style["color"], alpha=0.15, lw=0)
        panels[1].plot(temperatures, [r.relative_deviation for r in rows], **style)
        default = estimators.get(name).temperature
        for axes, value in zip(panels, ("relative_bias", "relative_deviation")):
            if default in temperatures and (axes is panels[1] or not rows[0].unbiased):
                axes.plot(default, getattr(rows[temperatures.index(default)], value), "o", ms=9, mfc="none",
                          color=style["color"])
    titles = ("|bias| / |exact gradient|", "standard deviation of one estimate / |exact gradient|")
    for axes, title in zip(panels, titles):
        axes.set(xscale="log", yscale="log", xlabel="temperature")
        axes.set_title(title, loc="left", fontsize=12)
        axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 3], ["0.1", "0.2", "0.5", "1", "2", "3"])
        axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
        axes.tick_params(which="minor", labelbottom=False, labelleft=False)
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0.08, 3.2)
    panels[1].set_ylim(0.3, 13)                 # the gapped estimate hardly moves at low temperature
    f.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return f


def main():
    np.seterr(over="ignore")
    plots.save(draw(measure(tempered())), FIGURE, dpi=120)
    print(f"written: {FIGURE}")


if __name__ == "__main__":
    main()
