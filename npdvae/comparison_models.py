"""The models that `npdvae.compare` compares on: a fresh one, a run's, or its checkpoints."""
from __future__ import annotations

import pathlib

import numpy as np

from npdvae import backends, build, checkpoint, comparison, estimators, rng
from npdvae.config import with_defaults
from npdvae.estimators.parts.outcomes import MOST_CODES
from npdvae.run import Run
from npdvae.settings import resolve

IMAGES = 16                                     # where nothing is said and the training split has more
OTHERS = 2000                                   # images on which learned baselines are fitted
FRESH = ("data", "data_dir", "latents", "categories", "hidden")     # settings of a fresh model, beside --preset


def runs(args) -> list[Run]:
    """The models to compare on, of the options of the command; ValueError where one of them is not fit for it."""
    if not args.run:
        return [suitable(fresh_run(args), "fresh model")]
    if args.checkpoints is None:
        return [suitable(Run.load(args.run, args.checkpoint or "last", args.trust), args.run)]
    paths = args.checkpoints or [str(p) for p in reversed(checkpoint.listing(pathlib.Path(args.run)))]
    if not paths:
        raise ValueError(f"{args.run}: no checkpoints there")
    return [suitable(Run.load(args.run, path, args.trust), path) for path in paths]


def fresh_run(args) -> Run:
    """A model as training would start with it."""
    given = {k: v for k, v in vars(args).items() if k in FRESH}
    config = with_defaults(resolve({**given, "seed": args.seed}, args.preset))
    dataset, _ = build.load_data(config)
    model = build.build_model(config, dataset.pixels, backends.load("numpy"))
    params = model.init(rng.Generator(config.seed, rng.INIT), np.dtype(config.dtype))
    return Run(None, config, params, 0, dataset.shape, model)


def suitable(run, name):
    """The run. ValueError where its exact gradient cannot be enumerated."""
    D, K = run.config.latents, run.config.categories
    if run.config.latent != "categorical":
        raise ValueError(f"{name}: latent {run.config.latent}: only gradients of latent categorical can be compared "
                         "with the exact one")
    if not run.model.latent.prior.factorised:
        raise ValueError(f"{name}: prior {run.config.prior}: only models of a factorised prior are compared")
    if K ** D > MOST_CODES:
        raise ValueError(f"the exact gradient takes categories**latents = {K}**{D} codes, more than {MOST_CODES}")
    return run


def bench_of(run: Run, dataset, args) -> comparison.Bench:
    """The first images of a random order of the training split, and others, one at least, to fit baselines on."""
    N = len(dataset.train)
    count = args.images or max(min(IMAGES, N - 1), 1)
    if count >= N:
        raise ValueError(f"--images: got {count}, expected fewer than the {N} training images: baselines are fitted on "
                         "the others")
    order = rng.Generator(args.seed, rng.SHUFFLE).permutation(N)
    x = run.targets(dataset, dataset.train[order[:count + OTHERS]], run.step)
    bench = comparison.Bench(run.model, run.params, x[:count], x[count:], run.step)
    if not bench.true(estimators.get("exact")).any():
        raise ValueError(f"{run.folder or 'fresh model'}, step {run.step}: the exact gradient is zero: there is "
                         "nothing to compare with")
    return bench
