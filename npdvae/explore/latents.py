"""What a page needs of a latent: how codes or z become the decoder's input, and how h becomes q(z | x)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npdvae import latents, rng
from npdvae.explore.blobs import blob, room
from npdvae.types import Array, Params

TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "none": lambda z: z, "exp": np.exp, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
SQUASH = {"fsq": "tanh", "lfq": "none", "bsq": "unit"}
LOCATION = ("gaussian", "laplace", "logistic", "student_t", "triangular", "uniform")
PROBES = 4000                                   # draws from the prior, for the ends of sliders


def describe(latent: Any, params: Params) -> dict[str, Any]:
    """The latent for a page. ValueError where its z are no codes and no D numbers, or rows not sums of tables."""
    common = {"name": latents.registry.name_of(latent), "latents": latent.latents, "categories": latent.categories,
              "encoder": encoder(latent, params)}
    if not latent.categories:
        return {**common, **points(latent, params)}
    found, prior = tables(latent, params), getattr(latent, "prior", None)
    rows = blob(prior.log_rows(params)) if prior is not None and prior.factorised else None     # [D, K]
    return {**common, **found, "log_prior": rows}


# ---- from z to the decoder's input --------------------------------------------------------------------------------

def one_hot_rows(latent: Any, params: Params, codes: Array) -> Array:
    """What the decoder reads at codes int [C, D]: float64 [C, F]."""
    rows = latent.rows(params, codes)
    if rows.dtype.kind in "iu":                                     # codes stand for their one-hot entries
        rows = np.eye(latent.categories)[rows].reshape(len(rows), -1)
    return rows.astype("f8")


def tables(latent: Any, params: Params) -> dict[str, Any]:
    """base [F], tables [T, K, C]: row = base with tables[table[d]][z_d] added from feature offset[d] on, for each d.

    ValueError where that is no sum over latents, and before K F or T K C numbers are more than a page can hold.
    """
    D, K, name = latent.latents, latent.categories, f"latent {latents.registry.name_of(latent)}"
    wide = {k: a.astype("f8") for k, a in params.items()}
    shown = latent.rows(wide, np.zeros((1, D), int))                # [1, F], or int [1, D]
    room(K * shown.size * (K if shown.dtype.kind in "iu" else 1), f"{name}: its decoder's input for each category")
    base = one_hot_rows(latent, wide, np.zeros((1, D), int))[0]     # [F]
    distinct: dict[bytes, Array] = {}                               # by their float32
    table, offset, C = [], [], 0
    for d in range(D):
        first, block = moved(latent, wide, base, d)                 # [K, C] or narrower
        key, C = block.astype("f4").tobytes(), max(C, block.shape[1])
        distinct.setdefault(key, block)
        room(len(distinct) * K * C, f"{name}: tables")
        table.append(list(distinct).index(key))
        offset.append(first)
    blocks = list(distinct.values())
    some = np.random.default_rng(0).integers(0, K, (64, D))
    summed = np.repeat(base[None], 64, 0)                           # [64, F]
    for d in range(D):
        block = blocks[table[d]]
        summed[:, offset[d]:offset[d] + block.shape[1]] += block[some[:, d]]
    if not np.allclose(one_hot_rows(latent, wide, some), summed, rtol=0, atol=1e-6):        # float64 rounds at 1e-15
        raise ValueError(f"{name}: what its codes show the decoder is no sum over latents, which is all that a page "
                         "can compute")
    padded = [np.pad(b, ((0, 0), (0, C - b.shape[1]))).astype("f4") for b in blocks]        # [K, C] each
    return {"base": blob(base), "tables": blob(np.stack(padded)), "width": C, "table": table, "offset": offset}


def moved(latent: Any, params: Params, base: Array, d: int) -> tuple[int, Array]:
    """What latent d at each category changes of base [F]: the first feature changed, [K, features from there]."""
    codes = np.zeros((latent.categories, latent.latents), int)      # [K, D]
    codes[:, d] = np.arange(latent.categories)
    delta = one_hot_rows(latent, params, codes) - base              # [K, F]
    used = np.flatnonzero(delta.any(0))
    return (int(used[0]), delta[:, used[0]:used[-1] + 1].copy()) if len(used) else (0, delta[:, :0])


def points(latent: Any, params: Params) -> dict[str, Any]:
    """How z is transformed for the decoder, and the ends of its sliders, in the numbers that a reader is shown."""
    z = np.asarray(latent.sample_prior(params, rng.Generator(0, rng.PRIOR), PROBES), "f8")
    if z.shape != (PROBES, latent.latents):
        raise ValueError(f"latent {latents.registry.name_of(latent)}: its z are of shape {list(z.shape[1:])}, and a "
                         f"page shows codes or {latent.latents} numbers")
    rows = latent.rows({k: a.astype("f8") for k, a in params.items()}, z)
    fits = [name for name, function in TRANSFORMS.items()
            if rows.shape == z.shape and np.allclose(rows, function(z), rtol=1e-6, atol=1e-6)]      # rounding alone
    if not fits:
        raise ValueError(f"latent {latents.registry.name_of(latent)}: what its z show the decoder is neither z nor its "
                         "exp or sigmoid, which is all that a page can compute")
    kind = latents.registry.name_of(latent)
    logarithm = kind in ("gamma", "kumaraswamy", "dirichlet")       # z is the logarithm of what is shown
    shown = np.exp(z) if logarithm else z
    low, high = np.quantile(shown, (0.0005, 0.9995))
    if kind in ("kumaraswamy", "dirichlet"):
        low, high = 0.0, 1.0
    return {"transform": fits[0], "logarithm": logarithm, "simplex": kind == "dirichlet",
            "low": float(np.floor(low * 2) / 2), "high": float(np.ceil(high * 2) / 2)}


# ---- from the encoder's output to q(z | x) ------------------------------------------------------------------------

def encoder(latent: Any, params: Params) -> dict[str, Any] | None:
    """How h becomes q(z | x); None for a latent of one's own, whose code a page cannot run."""
    kind = latents.registry.name_of(latent)
    if kind == "categorical":
        return {"kind": "logits"}
    if kind == "soft_vq":
        return {"kind": "distances", "codebook": blob(params["latent.codebook"]), "size": latent.size,
                "scale": float(np.exp(params["latent.log_scale"][0]))}
    if kind == "vq":
        return {"kind": "nearest", "codebook": blob(latent.book.entries(params)), "size": latent.size,
                "tables": [int(t) for t in latent.tables], "levels": latent.levels, "cosine": latent.book.cosine}
    if kind in SQUASH:
        return {"kind": "rounded", "squash": SQUASH[kind]}
    if kind in LOCATION:
        return {"kind": "location", "deviation": float(np.sqrt(latent.family.variance))}
    return {"kind": kind} if kind in ("gamma", "kumaraswamy", "dirichlet") else None
