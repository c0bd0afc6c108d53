"""-log p(x | z) of many z for each image, in nats: what evaluation spends its time on, and the ways to it.

A way is a function (model, params) -> of(x [B, P]) -> cost(z [S, B, ...]) -> [S, B].
"""
from __future__ import annotations

import numpy as np

TABLE = 2 ** 23                                 # costs, of all codes for some images, that are held at a time
TILE = 512                                      # codes whose costs are computed together
MANY = 5e10                                     # products of a decoder, 2 s, from which compiled workers repay loading


def cost_of(model, params, z, x):
    """-log p(x | z) of z [S, B, ...] for images x [B, P]: [S, B]."""
    return model.likelihood.forward(params, model.decode(params, z)[0], x)


def of_each(model, params):
    """Every z through the decoder."""
    return lambda x: lambda z: cost_of(model, params, z, x)


def of_codes(model, params):
    """Every code there is through the decoder, once; those of z int [S, B, D] are looked up."""
    ops, D, K = model.ops, model.latent.latents, model.latent.categories
    codes, place = model.latent.codes(), ops.xp.asarray(K ** np.arange(D)[::-1])
    a = model.decode(params, codes)[0][:, None]                     # [C, 1, P]

    def of(x):
        costs = ops.xp.concatenate([model.likelihood.forward(params, a[i:i + TILE], x)
                                    for i in range(0, len(codes), TILE)])           # [C, B]
        return lambda z: costs[z @ place, ops.xp.arange(len(x))]    # [S, B]
    return of


def shared(model, params, x, tile):
    """Codes shared by all images x [N, P]: their decoder's output a [C, 1, P] -> (here -> cost [C, n] of x[here]).

    `here` is a slice, C at most `tile`.
    """
    return lambda a: lambda here: model.likelihood.forward(params, a, x[here])


def products(model):
    """Multiplications of one pass through the decoder."""
    sizes = model.decoder.sizes
    return sum(n * m for n, m in zip(sizes[:-1], sizes[1:]))


def few_codes(model, samples):
    """Whether `of_codes` is less work than `of_each` with so many samples, and its table fits."""
    count = model.latent.code_count()           # of an image: P products a code, those of the decoder a sample
    return count is not None and count <= min(TABLE // 1000, samples * products(model) // model.decoder.sizes[-1])


def images(model):
    """How many images `of_codes` takes at a time."""
    return min(2000, TABLE // model.latent.code_count())
