"""Whether a step can be cut in segments: from its description, and from a trial of the latent on two examples."""
from __future__ import annotations

import numpy as np

from npdvae import describe, rng
from npdvae.fused.panels import WithLayers
from npdvae.fused.segments import Rows
from npdvae.fused.support import unsegmented
from npdvae.kernels.cpu import target

f4 = np.float32


def reason_unsegmented(model, recipe) -> str | None:
    """Why the segmented engine cannot run a job on this machine, in a few words, or None where it can."""
    if reason := target.reason_unfit() or unsegmented(describe.describe(model, recipe)):
        return reason
    rows = rows_of(model)
    return rows if isinstance(rows, str) else None


def rows_of(model) -> Rows | str:
    """What the model's latent has the decoder read, tried on two examples; or why that cannot be served."""
    latent, xp, F = model.latent, model.ops.xp, model.decoder.sizes[0]
    generator = rng.Generator(0, draw_uniform=model.ops.uniform)
    h = xp.asarray(generator.uniform((1, 2, model.encoder.sizes[-1]), f4)[0])      # [2, E]
    try:
        params = WithLayers(latent.init(rng.Generator(0, rng.INIT), f4), lambda name: empty_layer(model, name))
        state = latent.init_state(rng.Generator(0, rng.INIT), model.pixels)
        z, _ = latent.forward(params, h, generator, state, xp.zeros((2, model.pixels), f4))
        rows = latent.rows(params, z)           # [S, 2, D] or [S, 2, F]
        latent.refresh(dict(params), state)     # which sees no layers: they are updated later
    except Exception as error:                  # whatever a latent of one's own may raise
        return f"its latent fails on a trial: {error}"
    if rows.ndim != 3 or rows.shape[1] != 2:
        return "codes that the batch shares" if rows.ndim == 3 and rows.shape[1] == 1 else f"rows {list(rows.shape)}"
    if rows.dtype.kind in "iu" and rows.shape[2] and F % rows.shape[2] == 0:
        return Rows(len(rows), rows.shape[2])
    return Rows(len(rows), 0) if rows.dtype.kind == "f" and rows.shape[2] == F else f"rows {list(rows.shape)}"


def empty_layer(model, name):
    """A parameter of encoder or decoder, all zero."""
    network, i, part = name.split(".")
    n, m = getattr(model, network).sizes[int(i):int(i) + 2]
    return np.zeros((n, m) if part == "weight" else m, f4)
