"""Continuous latents: a plane of decoded digits, densities with draws of the project's own samplers."""
import math

import numpy as np

from npdvae import backends, latents, plots
from npdvae.latents import families as table
from npdvae.ops.gamma import log_gamma_variate
from npdvae.rng import Generator
from pictures.common import GREY, bars, classes, encoded, mosaic, tidy, trained

OPS = backends.load("numpy")
COLOURS = plots.COLOURS
DRAWS = 40_000


def gaussian():
    """Decoded digits at quantiles of the prior; the posterior means and one posterior of the test images."""
    run, side = trained("gaussian", latents=2), 12
    f = plots.figure(9.4, 4.6)
    left, right = f.subplots(1, 2)
    v = table.quantiles(table.Gaussian(OPS), side)                  # [12]
    z = np.stack(np.meshgrid(v, v[::-1]), -1).reshape(-1, 2)
    words = [f"{x:.1f}" for x in v]
    mosaic(left, run.decode(z).reshape(side, side, -1), run.shape, words, words[::-1])
    left.set(title="decoder: pixel probabilities at quantiles", xlabel="$z_0$", ylabel="$z_1$")
    (h, labels), d = encoded(run), run.model.latent.latents
    loc, scale = h[:, :d], np.exp(h[:, d:])
    right.errorbar(*loc.T, *scale.T[::-1], fmt="none", color="#bbbbbb", lw=0.5, zorder=1)
    classes(right, loc, labels)
    tidy(right, xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), aspect="equal", xlabel="$z_0$", ylabel="$z_1$",
         title="encoder: loc ± exp(s) of test images")
    return f


def families():
    """p0 of each family, scaled to the least KL to N(0, 1), with draws and that KL."""
    f, x = plots.figure(9.4, 4.6), np.linspace(-4, 4, 801)
    normal = np.exp(-x ** 2 / 2) / math.sqrt(2 * math.pi)
    for i, (axes, name) in enumerate(zip(f.subplots(2, 3, sharex=True, sharey=True).ravel(), (
            "gaussian", "student_t", "laplace", "logistic", "triangular", "uniform"))):
        family = latents.get(name, latents=1).family
        sigma = 1 / math.sqrt(family.variance)
        kl = 0.5 + math.log(2 * math.pi) / 2 - family.entropy - math.log(sigma)
        e = family.noise(Generator(0).uniform((1, DRAWS, 1, family.uniforms)))[0, :, 0]
        bars(axes, sigma * e, -4, 4, COLOURS[i])
        inside = np.abs(x / sigma) < 1 if family.bounded else np.full(len(x), True)
        density = np.zeros(len(x))
        density[inside] = np.exp(family.log_density(x[inside] / sigma)) / sigma
        axes.plot(x, density, color=COLOURS[i], lw=1.8)
        axes.plot(x, normal, color=GREY, lw=1, ls="--")
        tidy(axes, title=f"{name}{'(5)' if name == 'student_t' else ''}: KL {abs(kl):.3f} nats", ylim=(0, 0.75))
    f.supxlabel("z at loc = 0, exp(s) = 1 / sqrt(v0); dashed: the prior N(0, 1)", size=10)
    f.supylabel("density; filled: 40,000 draws", size=10)
    return f


def transforms():
    """Log-normal and logit-normal densities."""
    f = plots.figure(9.4, 3)
    e = table.Gaussian(OPS).noise(Generator(0).uniform((1, DRAWS, 1, 2)))[0, :, 0]
    for axes, name, high, cases in zip(f.subplots(1, 2), ("exp", "sigmoid"), (5, 1), (
            ((0, 1), (0, 0.4), (0.8, 0.25)), ((0, 1), (0, 2), (-1, 0.5)))):
        x = np.linspace(0, high, 802)[1:-1]
        z, slope = (np.log(x), x) if name == "exp" else (np.log(x / (1 - x)), x * (1 - x))
        for colour, (loc, sigma) in zip(COLOURS, cases):
            y = loc + sigma * e
            bars(axes, np.exp(y) if name == "exp" else 1 / (1 + np.exp(-y)), 0, high, colour)
            label = f"loc {loc}, exp(s) {sigma}" + (", the prior" if (loc, sigma) == (0, 1) else "")
            density = np.exp(-((z - loc) / sigma) ** 2 / 2) / (sigma * math.sqrt(2 * math.pi) * slope)
            axes.plot(x, density, lw=1.8, color=colour, label=label)
        tidy(axes, title="transform=" + name + (": log-normal" if name == "exp" else ": logit-normal"),
             xlabel="what the decoder reads", ylabel="density", xlim=(0, high))
        axes.legend(edgecolor="none", framealpha=0.85, fontsize=8)
    return f


def kumaraswamy():
    """Densities, and the inverse CDF that a gradient at fixed u goes through."""
    f, x = plots.figure(9.4, 3), np.linspace(0, 1, 802)[1:-1]
    left, right = f.subplots(1, 2)
    latent, u = latents.get("kumaraswamy", latents=1), Generator(0).uniform((1, DRAWS))[0]
    for colour, (a, b) in zip(COLOURS, ((1, 1), (0.5, 0.5), (5, 1), (2, 5), (3, 3))):
        q = latent.posterior({}, np.log([[a, b]]))
        bars(left, np.exp(latent.draw(q, u[:, None])[1])[:, 0], 0, 1, colour, 50)
        label = f"a = {a}, b = {b}: KL {q.kl[0, 0]:.2f} nats"
        left.plot(x, a * b * x ** (a - 1) * (1 - x ** a) ** (b - 1), color=colour, lw=1.8, label=label)
        right.plot(x, np.exp(latent.draw(q, x[:, None])[1])[:, 0], color=colour, lw=1.8)
    tidy(left, ylim=(0, 4.5), xlim=(0, 1), xlabel="x", ylabel="density", title="density, with 40,000 draws")
    tidy(right, xlim=(0, 1), ylim=(0, 1), xlabel="u", ylabel="x", title="$x = (1 - u^{1/b})^{1/a}$")
    left.legend(edgecolor="none", framealpha=0.85, fontsize=8, loc="upper center")
    return f


def gamma():
    """Densities, and variates at fixed uniforms with the implicit derivative as tangents."""
    f, x = plots.figure(9.4, 3), np.linspace(0, 8, 802)[1:]
    left, right = f.subplots(1, 2)
    u = Generator(0).uniform((1, DRAWS))[0]
    for colour, alpha in zip(COLOURS, (0.5, 1, 2, 4)):
        bars(left, np.exp(log_gamma_variate(np, np.array(alpha), u)[0]), 0, 8, colour)
        left.plot(x, np.exp((alpha - 1) * np.log(x) - x - math.lgamma(alpha)), color=colour, lw=1.8,
                  label=f"alpha = {alpha}" + (", the prior" if alpha == 1 else ""))
    tidy(left, xlim=(0, 8), ylim=(0, 1.2), xlabel="g", ylabel="density", title="density, with 40,000 draws")
    left.legend(edgecolor="none", framealpha=0.85, fontsize=8)
    alpha, at = np.linspace(0.05, 5, 200), np.array([0.4, 0.9, 1.8, 3.2])
    for colour, u in zip(COLOURS, (0.95, 0.75, 0.5, 0.25, 0.05)):
        right.plot(alpha, log_gamma_variate(np, alpha, np.array(u))[0], color=colour, lw=1.6, label=f"u = {u}")
        for a, log_g, slope in zip(at, *log_gamma_variate(np, at, np.array(u))):
            reach = 0.55 / math.hypot(1, 5 / 12 * slope)            # of equal length on the page
            right.plot([a - reach, a + reach], [log_g - reach * slope, log_g + reach * slope], color="k", lw=1)
            right.plot(a, log_g, ".", color="k", ms=4)
    tidy(right, xlim=(0, 5), ylim=(-9, 3), xlabel="alpha", ylabel="log g",
         title="log g at fixed u, with its implicit derivative")
    right.legend(edgecolor="none", framealpha=0.85, fontsize=8, loc="lower right")
    return f


CORNERS = np.array([[0, 0], [1, 0], [0.5, math.sqrt(3) / 2]])       # of the triangle


def dirichlet():
    """The simplex of three components: draws of three posteriors, decoded digits, means of the test images."""
    run, f = trained("dirichlet", latents=3), plots.figure(10, 3.6)
    first, second, third = f.subplots(1, 3)
    latent = run.model.latent
    for colour, alpha in zip(COLOURS, ((0.6, 0.6, 0.6), (12, 3, 3), (4, 30, 40))):
        q = latent.posterior({}, np.log([alpha]).repeat(400, 0))
        z = np.exp(latent.sample({}, q, Generator(0), 1)[0]) @ CORNERS
        first.plot(*z.T, ".", ms=2.5, color=colour, label=f"alpha = {alpha}")
    n = 9
    cells = [(i, j, n - i - j) for j in range(n + 1) for i in range(n + 1 - j)]
    shares = (np.array(cells) + 0.25) / (n + 0.75)
    for axes in (first, second, third):
        axes.plot(*np.append(CORNERS, CORNERS[:1], 0).T, color=GREY, lw=1)
        for name, (x, y), where in zip(("$x_0$", "$x_1$", "$x_2$"), CORNERS, ("top", "top", "bottom")):
            axes.text(x, y + (0.03 if where == "bottom" else -0.03), name, ha="center", va=where)
        axes.set(aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for at, pixels in zip(shares @ CORNERS, run.decode(np.log(shares))):
        second.imshow(pixels.reshape(run.shape), extent=(at[0] - 0.04, at[0] + 0.04, at[1] - 0.04, at[1] + 0.04),
                      cmap="gray", vmin=0, vmax=1, zorder=3)
    h, labels = encoded(run)
    classes(third, np.exp(h) / np.exp(h).sum(-1, keepdims=True) @ CORNERS, labels)
    for axes, title in ((first, "400 draws each"), (second, "decoder: pixel probabilities"),
                        (third, "encoder: means of test images")):
        axes.set(xlim=(-0.08, 1.08), ylim=(-0.12, 1.0), title=title)
    first.legend(edgecolor="none", framealpha=0.85, fontsize=8, loc="upper left", markerscale=3, handletextpad=0,
                 borderaxespad=0, bbox_to_anchor=(-0.04, 1))
    return f
