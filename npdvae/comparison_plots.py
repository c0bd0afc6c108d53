"""Figures of `npdvae.compare`: bias against variance with cost as size, and both along training."""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from npdvae.plots import COLOURS, figure

SAMPLING, DECODER, BIASED = COLOURS[0], COLOURS[2], COLOURS[1]      # what an estimator reads and promises
REACH = 300                                     # variances above this many times the median are drawn at the edge
SMALL = 1e-6                                    # no variance, or a bias that is rounding


class Point(NamedTuple):
    """One estimator in one panel."""

    x: float
    y: float                                    # those far above the others are drawn at the edge
    evaluations: int
    colour: str
    name: str
    beyond: bool                                # the true y lies above the edge


def scatter(results, budget):
    """Left, unbiased estimators: variance against evaluations. Right, biased ones: variance against bias. Log axes.

    The area of a marker grows with the evaluations of one estimate.
    """
    drawn = [r for r in results if r.relative_deviation > SMALL]
    top = REACH * float(np.median([r.relative_deviation ** 2 for r in drawn])) if drawn else 1.0
    panels = [[point(r, top) for r in drawn if r.unbiased == kind] for kind in (True, False)]
    f = figure(11.5, max(5.0, 0.23 * max(len(points) for points in panels) + 1.6))
    axes = f.subplots(1, 2, sharey=True)
    low = min((p.y for points in panels for p in points), default=0.1) / 2
    for side, points, title, x in zip(axes, panels, ("Unbiased", "Biased"),
                                      ("decoder evaluations per estimate", "|bias| / |exact gradient|")):
        side.set(xscale="log", yscale="log", ylim=(low, 1.5 * max((p.y for p in points), default=1)), xlabel=x)
        side.set_title(title, loc="left", fontsize=12)
        side.grid(alpha=0.25)
        side.spines[["top", "right"]].set_visible(False)
        panel(side, points)
    highest = max((p.y for points in panels for p in points), default=1)
    axes[0].set(ylim=(low, 1.6 * highest), ylabel="variance of one estimate / |exact gradient|²")
    for side, points in zip(axes, panels):
        names(side, merged(points))
    legend(f, results)
    return f


def point(r, top):
    """A result as a point; left the x is its evaluations, right its bias."""
    variance = r.relative_deviation ** 2
    beyond = variance > top
    kind = BIASED if not r.unbiased else DECODER if r.needs_dcodes else SAMPLING
    x = r.evaluations if r.unbiased else bias(r)[0]
    name = f"{r.estimator}, {variance:.0e}" if beyond else r.estimator
    return Point(x, top * (variance / top) ** 0.02 if beyond else variance, r.evaluations, kind, name, beyond)


def bias(r):
    """A result's relative bias as it is drawn, and how far its interval reaches below and above.

    Where zero is within the interval, the bias is drawn at its upper end, with nothing around it.
    """
    high = max(r.relative_bias_high, SMALL)
    if r.relative_bias_low <= 0:
        return high, 0.0, 0.0
    middle = max(r.relative_bias, SMALL)
    return middle, max(middle - r.relative_bias_low, 0.0), max(high - middle, 0.0)


def panel(axes, points):
    """Markers, and room right of them for the names."""
    for p in points:
        axes.scatter(p.x, p.y, s=size(p.evaluations), color=p.colour, alpha=0.8, lw=0.7, edgecolor="white", zorder=3,
                     marker="^" if p.beyond else "o")
    if not points:
        return
    least, most = min(p.x for p in points), max(p.x for p in points)
    width = max(math.log(most / least), math.log(4))
    axes.set_xlim(least * math.exp(-0.08 * width), least * math.exp(2.7 * width))
    ticks = [m * 10.0 ** e for e in range(-7, 7) for m in (1, 2, 3, 5, 7) if least / 1.2 <= m * 10.0 ** e <= most * 1.2]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)


def size(evaluations):
    """Marker area in points squared."""
    return 36 * (1 + math.log2(evaluations))


def merged(points):
    """Points that coincide, as one with all their names: [(x, y, text)] from low to high."""
    groups: list[tuple[float, float, str]] = []
    for p in sorted(points, key=lambda p: (p.y, p.x)):
        same = groups and max(abs(math.log(p.y / groups[-1][1])), abs(math.log(p.x / groups[-1][0]))) < 0.01
        if same and not p.beyond:
            groups[-1] = (*groups[-1][:2], f"{groups[-1][2]}, {p.name}")
        else:
            groups.append((p.x, p.y, p.name))
    return groups


def names(axes, groups):
    """Names in a column right of all points, pushed apart, with a thin line to each point."""
    if not groups:
        return
    low, high = (math.log(v) for v in axes.get_ylim())
    left, right = (math.log(v) for v in axes.get_xlim())
    wanted = [(math.log(y) - low) / (high - low) for _, y, _ in groups]
    rightmost = max(math.log(x) for x, _, _ in groups)
    column = math.exp(rightmost + 0.1 * (right - left))
    for (x, y, text), place in zip(groups, spread(wanted, 0.205 / (axes.figure.get_figheight() - 1.4))):
        label = axes.annotate(text, (x, y), (column, math.exp(low + place * (high - low))), va="center", fontsize=8.5,
                              arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "#999999", "shrinkA": 1, "shrinkB": 4,
                                          "relpos": (0, 0.5)})
        label.set_in_layout(False)


def spread(wanted, gap):
    """Places as near as possible to those wanted (ascending, in [0, 1]) and at least `gap` apart."""
    gap = min(gap, 1 / max(len(wanted), 1))
    blocks: list[list[float]] = []              # [sum of wanted - gap * rank, count]: pool adjacent violators
    for rank, w in enumerate(wanted):
        blocks.append([w - gap * rank, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    starts = np.concatenate([[total / count] * int(count) for total, count in blocks])
    starts = np.clip(starts, 0.015, max(0.985 - gap * (len(wanted) - 1), 0.015))
    return starts + gap * np.arange(len(wanted))


def legend(f, results):
    """What colours and areas mean, and which estimators have no variance to draw."""
    from matplotlib.lines import Line2D

    def mark(colour, area, text):
        return Line2D([], [], marker="o", ls="", color=colour, ms=math.sqrt(area), label=text)
    handles = [mark(SAMPLING, 60, "unbiased, reads costs alone"),
               mark(DECODER, 60, "unbiased, reads decoder gradients"),
               mark(BIASED, 60, "biased"), *(mark("#bbbbbb", size(n), f"{n} evaluations") for n in (2, 8, 32))]
    still = [f"{r.estimator} ({r.evaluations} evaluations)" for r in results if not r.relative_deviation > SMALL]
    if still:
        handles.append(Line2D([], [], ls="", label=f"not drawn, no variance: {', '.join(dict.fromkeys(still))}"))
    f.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=8, handletextpad=0.2,
             columnspacing=1.2)


def alike(rows, others):
    """Whether two lines of results coincide, within 1 %."""
    if rows[0].unbiased != others[0].unbiased or len(rows) != len(others):
        return False
    pairs = [(value(r), value(s)) for r, s in zip(rows, others) for value in (
        lambda r: bias(r)[0], lambda r: max(r.relative_deviation, SMALL))]
    return all(abs(math.log(x / y)) < 0.01 for x, y in pairs)


def lines(results):
    """{names of estimators whose lines coincide: their results by step}."""
    found: dict[str, list] = {}
    for name in dict.fromkeys(r.estimator for r in results):
        rows = sorted((r for r in results if r.estimator == name), key=lambda r: r.step)
        same = next((n for n, others in found.items() if alike(rows, others)), None)
        found = {f"{n}, {name}" if n == same else n: others for n, others in found.items()}
        if same is None:
            found[name] = rows
    return found


def along(results, budget):
    """Relative bias and deviation of one estimate against the training step, a line for each estimator.

    Bars: two standard errors of a bias by draws; a triangle: of which no bias is seen, at most so much.
    """
    f = figure(11.5, 5)
    axes = f.subplots(1, 2)
    for i, (name, rows) in enumerate(lines(results).items()):
        steps, style = [r.step for r in rows], dict(color=COLOURS[i % len(COLOURS)], marker="o", ms=4, lw=1.4,
                                                    ls=("-", "--", ":", "-.")[i // len(COLOURS) % 4])
        if not rows[0].unbiased:
            y, below, above = zip(*map(bias, rows))
            axes[0].errorbar(steps, y, (below, above), label=name, elinewidth=0.8, **style)
            most = [(r.step, bias(r)[0]) for r in rows if r.relative_bias_low <= 0]
            axes[0].plot(*zip(*most), color=style["color"], marker="v", ms=9, ls="") if most else None
        if rows[0].relative_deviation > SMALL:
            axes[1].plot(steps, [r.relative_deviation for r in rows], label=name, **style)
    for side, title in zip(axes, ("|bias|, biased estimators", "standard deviation of one estimate")):
        side.set(xlabel="training step", ylabel="relative to |exact gradient|", yscale="log")
        side.set_title(title, loc="left", fontsize=12)
        side.grid(alpha=0.25)
        side.spines[["top", "right"]].set_visible(False)
    f.legend(*axes[1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return f
