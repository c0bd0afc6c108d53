"""Bias and deviation of every row's estimator on one trained model of its task, as npdvae.compare finds them."""
from __future__ import annotations

import types

from bench.leaderboard import campaign
from npdvae import compare, comparison, estimators
from npdvae.estimators.parts.outcomes import MOST_CODES
from npdvae.run import Run

IMAGES, DRAWS = 16, 1024
CODES = 2 ** 13                                 # of models compared: the exact gradient takes all of them


def measurable(task, row) -> bool:
    """Whether there is an exact gradient to compare with: a categorical latent of few codes."""
    sizes = {**task.settings, **(task.bits if row.bits else {})}
    return (row.latent == "categorical" and row.name not in task.without
            and sizes["categories"] ** sizes["latents"] <= min(CODES, MOST_CODES))


def work(grid, task, rows, results, out, say=print):
    """Measure what the results lack, of rows with a rate, on the trained model of `models` that has their size."""
    benches: dict[str, comparison.Bench] = {}
    for row in rows:
        if not measurable(task, row) or not campaign.finals(task, row, results):
            continue
        model = next(grid.rows[name] for name in grid.models if grid.rows[name].bits == row.bits)
        known = campaign.finals(task, model, results)
        if not known:
            continue
        run = known[0]
        key = {"of": f"{run.digest} {campaign.finals(task, row, results)[0].digest}"}
        if key.items() <= results.found["gradients"].get(row.name, {}).items():
            continue
        if row.bits not in benches:
            benches[row.bits] = bench(run, results, out, grid.models, say)
        found = measure(benches[row.bits], campaign.finals(task, row, results)[0].config())
        results.put("gradients", row.name, {**key, **found})
        say(f"{task.name}: {row.name}: bias {found['bias']:.2g}, deviation {found['deviation']:.3g}")


def bench(run, results, out, keep, say):
    """The model that a run has trained, trained again where its folder is gone, and images."""
    folder = out / run.folder
    if not (folder / "done.json").is_file():
        campaign.work([run], results, out, 1, keep, say)
    trained = Run.load(folder)
    return compare.bench_of(trained, trained.dataset(), types.SimpleNamespace(seed=0, images=IMAGES))


def measure(bench, config):
    """Relative bias with two standard errors either side, and relative deviation of one estimate."""
    estimator, note = estimators.get(config.estimator, **config.estimator_arguments()), {}
    if estimator.objective == "importance_weighted":
        estimator, note = estimators.get(estimator.name, samples=2), {"samples": 2}     # exact: K**(D S) terms
    r = comparison.compare(bench, config.estimator, estimator, draws=DRAWS)
    return {"bias": float(f"{r.relative_bias:.4g}"), "low": float(f"{r.relative_bias_low:.4g}"),
            "high": float(f"{r.relative_bias_high:.4g}"), "deviation": float(f"{r.relative_deviation:.4g}"),
            "draws": r.draws, "unbiased": r.unbiased, **note}
