"""Evaluation in segments: the forward half of `npdvae.fused.segmented`; z as in `evaluation.cost_and_kl`."""
from __future__ import annotations

import numpy as np

from npdvae import rng
from npdvae.fused.segments import A, B


def sums(engine, rows, step, example):
    """Sums of cost and KL over each of at most MOST_STEPS batches of rows, numbered from `example` on: [2] each."""
    model, recipe, params, sizes = engine.model, engine.recipe, engine.params(), engine.sizes(len(rows))
    generator, parts = rng.Generator(recipe.seed, rng.TEST_LATENT, draw_uniform=engine.ops.uniform), []
    with engine.crew(engine.evaluation, len(sizes), rows, np.arange(len(rows)), step, 0,
                     (rng.TEST_BINARIZE, rng.TEST_LATENT), example) as workers:
        for i, n in enumerate(sizes):
            workers.run(i * B + A)
            x, h = engine.encoded(n)
            q = model.latent.posterior(params, h)
            z = model.latent.sample(params, q, generator.at(step, example=example + i * engine.plan.batch), 1)
            engine.once.put_rows(model.latent.rows(params, z), n)
            workers.run(i * B + B)
            cost = (engine.once.cost(n) if engine.costs else
                    model.likelihood.forward(params, engine.once.output(n), x))         # [1, B]
            parts.append([float(part.astype("f8").sum()) for part in (cost, model.latent.kl_of(params, q, z))])
    return parts
