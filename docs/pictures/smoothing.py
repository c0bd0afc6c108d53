"""Smoothed bits: the functions, their slopes, the densities that overlap; and the Concrete distribution."""
import math

import numpy as np

from npdvae import backends, plots
from npdvae.estimators.parts.concrete import sampled_kl
from npdvae.estimators.parts.smoothing_functions import smooth
from pictures.common import GREY, tidy

OPS = backends.load("numpy")
COLOURS = plots.COLOURS
P = 0.6                                         # probability of the bit


def smoothing():
    """f1, f2, f3 and their slopes by beta; densities of the overlapping ones."""
    f = plots.figure(10, 5)
    axes, u = f.subplots(2, 4), np.linspace(0, 1, 2002)[1:-1]
    for column, function, betas in ((0, "f1", (1, 3, 8)), (1, "f2", (1.2, 4, 10)), (2, "f3", (1.5, 4, 10))):
        for colour, beta in zip(COLOURS, betas):
            zeta, slope = smooth(np, function, np.float64(P), u, u, float(beta))
            axes[0, column].plot(1 - u, zeta, color=colour, lw=1.8, label=f"beta {beta}")
            for side in ((u > P), (u < P)):
                axes[1, column].plot((1 - u)[side], slope[side], color=colour, lw=1.8)
        for row in (0, 1):
            axes[row, column].axvline(1 - P, color=GREY, lw=1, ls=":")
        tidy(axes[0, column], title=function, xlim=(0, 1), ylabel="$\\zeta$" if column == 0 else None)
        tidy(axes[1, column], xlabel="1 - u", xlim=(0, 1), ylim=(-0.1, 4.2),
             ylabel="$d\\zeta / da$, a = logit p" if column == 0 else None)
    peak = smooth(np, "f1", np.float64(P), np.array(P * (1 - 1e-12)), np.array(0.0), 8.0)[1]
    axes[1, 0].text(0.46, 3.7, f"beta 8: up to {peak:.0f}", color=COLOURS[2], size=8)
    x = np.linspace(0, 1, 2002)[1:-1]
    for row, name, betas in ((0, "exponential", (4, 8, 14)), (1, "power", (4, 10, 30))):
        for colour, beta in zip(COLOURS, betas):
            r0, r1 = (beta * np.exp(-beta * v) / -math.expm1(-beta) if row == 0 else v ** (1 / beta - 1) / beta
                      for v in (x, 1 - x))
            axes[row, 3].plot(x, P * r1 + (1 - P) * r0, color=colour, lw=1.8, label=f"beta {beta}")
        tidy(axes[row, 3], xlim=(0, 1), ylim=(0, 4), ylabel="density")
        axes[row, 3].set_title(f"overlapping_{name}", size=10)
    axes[1, 3].set_xlabel("$\\zeta$")
    for a in (*axes[0], axes[1, 3]):
        a.legend(edgecolor="none", framealpha=0.85, fontsize=8)
    f.suptitle(f"bits of probability p = {P}; dotted: u = p, where the bit changes", size=11)
    return f


def logistic(x, loc, scale):
    """Density of the difference of two Gumbel variates, scaled."""
    v = np.abs(x - loc) / scale
    return np.exp(-v) / (1 + np.exp(-v)) ** 2 / scale


def concrete():
    """Densities of one of two relaxed categories by temperature; the KL of rows beside that of codes."""
    f, y = plots.figure(9.4, 3), np.linspace(0, 1, 1002)[1:-1]
    left, right = f.subplots(1, 2)
    for colour, tau in zip(COLOURS, (0.3, 0.5, 1.0, 2.0)):
        density = logistic(np.log(y / (1 - y)), 0.7 / tau, 1 / tau) / (y * (1 - y))
        left.plot(y, density, color=colour, lw=1.8, label=f"temperature {tau}")
    tidy(left, xlim=(0, 1), ylim=(0, 4), xlabel="$y_1$", ylabel="density",
         title="K = 2, $\\varphi_1 - \\varphi_0$ = 0.7: p = 0.67")
    a, g = np.linspace(-8, 8, 81), np.linspace(-40, 40, 2001)
    gumbels, weight = np.stack([0 * g, g], -1)[:, None, None], logistic(g, 0, 1) * (g[1] - g[0])
    logits = np.stack([0 * a, a], -1)[:, None]                      # [B, 1, 2]
    for colour, tau in zip(COLOURS, (0.3, 0.5, 1.0, 2.0)):
        kl = sampled_kl(OPS, gumbels, OPS.log_softmax((logits + gumbels) / tau), tau, 0.5)[..., 0]
        right.plot(a, weight @ kl, color=colour, lw=1.8, label=f"temperature {tau}")
    p = 1 / (1 + np.exp(-a))
    right.plot(a, p * np.log(2 * p) + (1 - p) * np.log(2 - 2 * p), color="k", ls="--", lw=1.4, label="of codes")
    tidy(right, xlabel="$\\varphi_1 - \\varphi_0$", ylabel="KL, nats", xlim=(-8, 8), ylim=(0, 5),
         title="kl=concrete, prior_temperature 0.5")
    for axes in (left, right):
        axes.legend(edgecolor="none", framealpha=0.85, fontsize=8, loc="upper center")
    return f
