"""Quantisers: cells of a codebook and their use, revival, soft codes, the grid of FSQ, signs and the sphere."""
import numpy as np
from matplotlib.patches import Rectangle

from npdvae import backends, build, plots
from npdvae.config import Config
from npdvae.evaluation import perplexity
from pictures.common import GREY, classes, encoded, mosaic, tidy, trained

OPS = backends.load("numpy")
COLOURS = plots.COLOURS


def plane(points, margin=0.08, n=400):
    """A grid over points [N, 2]: corners (left, right, low, high), places [n, n, 2]."""
    low, high = np.quantile(points, 0.002, 0), np.quantile(points, 0.998, 0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    x, y = np.linspace(low[0], high[0], n), np.linspace(low[1], high[1], n)
    return (low[0], high[0], low[1], high[1]), np.stack(np.meshgrid(x, y), -1)


def cells(axes, box, nearest):
    """Boundaries between the cells of a map of codes int [n, n]."""
    edge = np.zeros(nearest.shape)
    edge[:, 1:] += nearest[:, 1:] != nearest[:, :-1]
    edge[1:] += nearest[1:] != nearest[:-1]
    axes.imshow(np.where(edge > 0, 0.55, np.nan), extent=box, origin="lower", aspect="auto", cmap="gray", vmin=0,
                vmax=1, interpolation="nearest", zorder=1)


def vq():
    """Encoder outputs in the cells of a codebook in the plane; one image with one code changed."""
    run, f = trained("vq", latents=3, categories=10, options={"size": 2}), plots.figure(10, 4.2)
    left, right = f.subplots(1, 2, width_ratios=(1, 1.2))
    (h, _), e = encoded(run), run.params["latent.codebook"][0]      # [K, 2]
    v = h.reshape(-1, 3, 2)
    box, places = plane(v.reshape(-1, 2))
    cells(left, box, OPS.nearest(places.reshape(-1, 1, 2).astype(e.dtype), e[None]).reshape(places.shape[:2]))
    for p, marker in enumerate("o^s"):
        left.plot(*v[:, p].T, marker, ms=2.2, color=COLOURS[p], label=f"$h_{p}$", alpha=0.8)
    codes = run.model.latent.quantise(run.params, h)                # [N, D]
    use = np.bincount(codes.ravel(), minlength=len(e)) / codes.size
    left.scatter(*e.T, s=60 + 2000 * use, facecolor="w", edgecolor="k", lw=1.2, zorder=4)
    for k, at in enumerate(e):
        left.text(*at, str(k), size=8, ha="center", va="center", zorder=5)
    tidy(left, xlim=box[:2], ylim=box[2:], xlabel="first component", ylabel="second component",
         title=f"test images in the cells of 10 codes\n(area: use; perplexity {perplexity(use):.1f})")
    left.grid(False)
    left.legend(edgecolor="none", framealpha=0.85, fontsize=8, markerscale=2.5, handletextpad=0)
    shown = [3, 0, 4]                                               # images
    rows = [run.decode(run.model.latent.traverse(run.params, codes[n], d)) for n in shown for d in range(3)]
    mosaic(right, np.stack(rows), run.shape, range(10), [f"image {i}, $z_{d}$" for i in range(3) for d in range(3)])
    for r in range(9):
        right.add_patch(_frame(9 * codes[shown[r // 3], r % 3] - 1, 9 * r - 1))
    right.set(xlabel="code", title="three images with one code changed\n(framed: their own)")
    return f


def _frame(x, y, size=9):
    return Rectangle((x, y), size, size, fill=False, ec=COLOURS[1], lw=2, clip_on=False)


def revival():
    """Perplexity of a codebook by epoch: where it starts, and whether dead codes start again."""
    f = plots.figure(6.4, 3.2)
    axes = f.subplots()
    for colour, label, options in (
            (COLOURS[1], "start=uniform", dict(start="uniform")),
            (COLOURS[0], "start=uniform revive=0.05", dict(start="uniform", revive=0.05)),
            (COLOURS[2], "start=kmeans", {})):
        values = codes_by_epoch(30, dict(options, decay=0.9))
        axes.plot(range(len(values)), values, color=colour, lw=1.8, label=label)
    axes.axhline(256, color=GREY, ls="--", lw=1)
    tidy(axes, xlabel="epoch", ylabel="perplexity, of 256 codes", title="Use of one codebook by the training images",
         xlim=(0, 30), ylim=(0, 266))
    axes.legend(edgecolor="none", framealpha=0.85, fontsize=8)
    return f


def codes_by_epoch(epochs, options):
    """Perplexity of the codes of all training images after each epoch: D = 4, K = 256."""
    job = build.build(Config(latent="vq", latents=4, categories=256, latent_options=options, engine="readable").check())
    engine, order, found = job.engine, np.random.default_rng(0), []
    engine.load(build.fresh_state(job))
    for _ in range(epochs + 1):
        params = engine.save().params
        h = job.model.encoder.forward(params, job.dataset.to_probabilities(job.dataset.train))[0]
        codes = job.model.latent.quantise(params, h)
        found.append(float(perplexity(np.bincount(codes.ravel(), minlength=256) / codes.size)))
        engine.run(order.permutation(len(job.dataset.train)))
    return found


def soft_vq():
    """How many codes share a place of the plane, after one epoch and after a hundred."""
    f = plots.figure(9.4, 4)
    for axes, epochs in zip(f.subplots(1, 2), (1, 100)):
        run = trained("soft_vq", epochs, latents=4, categories=8, estimator="gumbel_softmax", options={"size": 2})
        (h, _), e = encoded(run), run.params["latent.codebook"]
        box, places = plane(np.concatenate([h.reshape(-1, 2), np.repeat(e, 20, 0)]))    # with every code inside
        q = OPS.softmax(-np.exp(run.params["latent.log_scale"]) * ((places[:, :, None] - e) ** 2).sum(-1))
        shown = axes.contourf(*places.transpose(2, 0, 1), perplexity(q), np.linspace(1, 8, 15), cmap="viridis")
        axes.plot(*h.reshape(-1, 2).T, ".", ms=1.2, color="w", alpha=0.6)
        axes.plot(*e.T, "o", ms=13, mfc="w", mec="k")
        for k, at in enumerate(e):
            axes.text(*at, str(k), size=8, ha="center", va="center", clip_on=True)
        scale = float(np.exp(run.params["latent.log_scale"][0]))
        axes.set(xlim=box[:2], ylim=box[2:], xlabel="first component", ylabel="second component",
                 title=f"{epochs} epoch{'s' * (epochs > 1)}: exp(t) = {scale:.2f}")
    f.colorbar(shown, ax=f.axes, label="perplexity of q(z | h), of 8 codes", pad=0.02)
    return f


def fsq():
    """Rounding and what stands for its derivative; encoder outputs in the cells; all codes decoded."""
    run, f, K = trained("fsq", latents=2, categories=8), plots.figure(10, 3.5), 8
    left, middle, right = f.subplots(1, 3)
    x = np.linspace(-4, 4, 1601)
    for k, colour in ((8, COLOURS[0]), (5, COLOURS[1])):
        z = 2 * np.clip(np.floor((k - 1) / 2 * np.tanh(x) + k / 2), 0, k - 1) / (k - 1) - 1
        left.plot(x, z, ".", ms=1.5, color=colour)
        left.plot([], [], color=colour, label=f"K = {k}")
    left.plot(x, np.tanh(x), color=GREY, lw=1, ls="--", label="tanh h, whose slope stands for it")
    tidy(left, xlabel="h", ylabel="z", title="levels", ylim=(-1.1, 1.5))
    left.legend(edgecolor="none", framealpha=0.85, fontsize=8, loc="upper left")
    h, labels = encoded(run)
    classes(middle, np.tanh(h), labels)
    for v in (np.arange(1, K) - K / 2) / ((K - 1) / 2):
        middle.axvline(v, color=GREY, lw=0.6)
        middle.axhline(v, color=GREY, lw=0.6)
    middle.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal", xlabel="tanh $h_0$", ylabel="tanh $h_1$",
               title="encoder: test images in their cells")
    codes = np.stack(np.meshgrid(np.arange(K), np.arange(K)[::-1]), -1).reshape(-1, 2)
    mosaic(right, run.decode(codes).reshape(K, K, -1), run.shape, range(K), range(K)[::-1])
    right.set(xlabel="code $z_0$", ylabel="code $z_1$", title="decoder: all 64 codes")
    return f


def binary():
    """LFQ without and with its entropy losses; BSQ on the sphere."""
    f = plots.figure(10, 3.6)
    for i, weight in enumerate((0, 1.0)):
        axes = f.add_subplot(1, 3, i + 1)
        h, labels = encoded(trained("lfq", latents=2, categories=2, options={"entropy_weight": weight}))
        classes(axes, h, labels)
        axes.plot([-1, -1, 1, 1], [-1, 1, -1, 1], "s", ms=9, mfc="none", mec="k")
        axes.axhline(0, color=GREY, lw=1)
        axes.axvline(0, color=GREY, lw=1)
        tidy(axes, xlim=(-5, 5), ylim=(-5, 5), aspect="equal", xlabel="$h_0$", ylabel="$h_1$",
             title=f"lfq, entropy_weight = {weight:g}: {100 * (abs(h) < 0.5).mean():.0f} % of |h| < 0.5")
        axes.title.set_size(10)
    axes = f.add_subplot(1, 3, 3, projection="3d")
    h, labels = encoded(trained("bsq", latents=3, categories=2))
    y = h / np.sqrt((h * h).sum(-1, keepdims=True))
    corners = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) / np.sqrt(3)
    for c, corner in enumerate(corners):
        mine = (np.sign(y) == np.sign(corner)).all(-1)
        axes.scatter(*y[mine].T, s=5, color=COLOURS[c % 7], alpha=0.8, marker="o" if c < 7 else "^")
    axes.scatter(*corners.T, s=60, marker="s", facecolor="none", edgecolor="k")
    axes.set(xlabel="$y_0$", ylabel="$y_1$", zlabel="$y_2$", title="bsq: y on the sphere, eight codes",
             xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1), box_aspect=(1, 1, 1), xticks=(-1, 0, 1), yticks=(-1, 0, 1),
             zticks=(-1, 0, 1))
    axes.title.set_size(10)
    axes.tick_params(labelsize=8)
    return f
