"""python -m npdvae.compare [RUN]: every estimator's gradient against the exact one, on a fresh or trained model."""
from __future__ import annotations

import argparse
import csv
import io
import pathlib
import sys
import time

from npdvae import comparison, estimators
from npdvae.cli import Parser, add_run, guarded
from npdvae.comparison_models import FRESH, IMAGES, bench_of, runs
from npdvae.estimators.parts.baselines import BASELINES
from npdvae.files import write_durably
from npdvae.process import over


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m npdvae.compare", description="Bias, spread, angle and time of every "
               "estimator's gradient against the exact one, by enumeration of all codes.")
    add_run(p, nargs="?", help="run folder (default: a fresh model)")
    p.set_defaults(checkpoint=None)             # to tell what was typed
    p.add_argument("--checkpoints", nargs="*", metavar="FILE",
                   help="along training: these checkpoints of the run (without FILE: all in its folder; train with "
                   "--keep-checkpoints 0 to keep them)")
    p.add_argument("--estimator", nargs="+", metavar="NAME", help='registered names or "module:Class" (default: all)')
    p.add_argument("--images", type=int, metavar="B",
                   help=f"training images (default: {IMAGES}; one at least must be left for baselines)")
    p.add_argument("--draws", type=int, default=1024, metavar="N",
                   help="estimates of each where outcomes are too many to enumerate (default: 1024)")
    p.add_argument("--budget", type=int, default=100, metavar="N",
                   help="decoder evaluations per image of the comparison at equal cost (default: 100)")
    p.add_argument("--samples", type=int, metavar="S", help="samples of estimators that take several")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", metavar="FOLDER", help="where compare.csv and compare.png go (default: RUN)")
    fresh = p.add_argument_group("fresh model, without RUN")
    fresh.add_argument("--preset", help="as python -m npdvae.train")
    fresh.add_argument("--data", default=argparse.SUPPRESS)
    fresh.add_argument("--data-dir", default=argparse.SUPPRESS)
    for name in ("latents", "categories"):
        fresh.add_argument(f"--{name}", type=int, default=argparse.SUPPRESS)
    fresh.add_argument("--hidden", type=int, nargs="+", default=argparse.SUPPRESS)
    return p


def candidates(args, config):
    """(label, name, options) of everything asked for; each baseline of REINFORCE on its own; samples as asked for."""
    for name in args.estimator or estimators.names():
        cls = estimators.find(name)
        options = dict(samples=args.samples) if args.samples and takes(cls, "samples") else {}
        if name == config.estimator:
            yield f"{name} (this run)", name, {**options, **config.estimator_arguments()}
        if takes(cls, "baseline") and name.startswith("reinforce"):
            for baseline in BASELINES:
                yield f"{name} ({baseline.replace('_', ' ')})", name, {**options, "baseline": baseline}
        elif name != config.estimator:
            yield name, name, options


def takes(cls, option):
    """Whether an estimator's constructor has an option."""
    return option in cls.__init__.__code__.co_varnames[:cls.__init__.__code__.co_argcount]


def measure(bench, config, args, show):
    """Results of all applicable estimators on one model, and the reasons of the others."""
    results, left_out = [], []
    for label, name, options in candidates(args, config):
        try:
            estimator = estimators.get(name, **options)
            if estimator.objective == "importance_weighted" and not args.samples:
                estimator = estimators.get(estimator.name, samples=2)          # the exact bound takes K**(D S) terms
                label += " (2 samples)"
            result = comparison.compare(bench, label, estimator, draws=args.draws, budget=args.budget, seed=args.seed)
        except ValueError as error:
            left_out.append(f"{label}: {error}")
            continue
        results.append(result)
        show(line(result))
    return results, left_out


def header(args):
    """Column titles of the table."""
    return (f"{'estimator':44s}{'rel. bias':>18s}{'rel. sd':>9s}{'cosine':>8s}{'evals':>7s}{'ms':>8s}"
            f"{f'sd@{args.budget}':>9s}{f'error@{args.budget}':>11s}  how")


def line(r: comparison.Result) -> str:
    """A result as a line of the table."""
    if not r.draws:
        bias = f"{r.relative_bias:.2g}"
    else:
        bias = f"{r.relative_bias_low:.2g} .. {r.relative_bias_high:.2g}"
    return (f"{r.estimator:44s}{bias:>18s}{r.relative_deviation:9.3g}{r.cosine:8.3f}{r.evaluations:7d}"
            f"{r.milliseconds:8.1f}{r.deviation_at_equal:9.3g}{r.error_at_equal:11.3g}  "
            f"{f'{r.draws} draws' if r.draws else 'enumerated'}")


def write_csv(path, results):
    """All results as rows, full precision."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, comparison.Result._fields)
    writer.writeheader()
    writer.writerows(r._asdict() for r in results)
    write_durably(path, stream.getvalue().encode())


def check(args):
    for name, least in (("images", 1), ("draws", 2 * comparison.BLOCK), ("budget", 1), ("samples", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    for name in args.estimator or ():
        estimators.find(name)
    fresh = [f"--{name.replace('_', '-')}" for name in ("preset", *FRESH) if getattr(args, name, None) is not None]
    if args.run and fresh:
        raise ValueError(f"{args.run} has its own settings: drop {', '.join(fresh)}")
    if not args.run and args.checkpoints is not None:
        raise ValueError("--checkpoints needs RUN, the folder they belong to")
    if not args.run and args.checkpoint:
        raise ValueError("--checkpoint needs RUN, the folder it belongs to")
    if args.checkpoint and args.checkpoints is not None:
        raise ValueError("--checkpoints names all that are compared: drop --checkpoint")


@guarded
def main(argv=None) -> int:
    """Compare as the arguments say; returns the exit code."""
    args = parser().parse_args(argv)
    check(args)
    folder = pathlib.Path(args.out or args.run) if args.out or args.run else None
    results: list[comparison.Result] = []
    start, models = time.perf_counter(), runs(args)
    dataset = models[0].dataset()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    for run in models:
        bench = bench_of(run, dataset, args)
        D, K = run.model.latent.latents, run.model.latent.categories
        print(f"{args.run or 'fresh model'}, step {run.step}: {D} latents of {K} categories, {K ** D} codes, "
              f"{len(bench.x)} images of {run.config.data}\n\n{header(args)}")
        found, left_out = measure(bench, run.config, args, lambda text: print(text, flush=True))
        results += found
        print("".join(f"\n  left out: {reason}" for reason in left_out) + "\n" * bool(left_out))
    print(f"relative to the norm of the exact gradient; @{args.budget}: averaged over what {args.budget} decoder "
          f"evaluations pay for;\nms: one estimate for the {len(bench.x)} images, decoder included; bias by draws: "
          f"two standard errors either side\n\n{time.perf_counter() - start:.0f} s")
    if not results:
        raise ValueError("nothing was compared: every estimator was left out, for the reasons above")
    if folder:
        save(folder, results, args)
    return 0


def save(folder, results, args):
    """Write compare.csv and compare.png."""
    from npdvae import comparison_plots, plots
    write_csv(folder / "compare.csv", results)
    draw = comparison_plots.along if len({r.step for r in results}) > 1 else comparison_plots.scatter
    plots.save(draw(results, args.budget), folder / "compare.png")
    print(f"written: {folder / 'compare.csv'}, {folder / 'compare.png'}")


if __name__ == "__main__":
    sys.exit(over(main()))
