"""One training step: the path of a batch forward, and the same calls in reverse. No autodiff."""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae.state import LEARNED


class Step(NamedTuple):
    """The gradients of the mean negative ELBO over the batch, and its parts per example in nats."""

    grads: dict[str, Any]                       # by parameter name; learned entries of the state behind LEARNED
    cost: Any                                   # [B], E[-log p(x | z)] as sampled
    kl: Any                                     # [B], what joins it in the bound
    state: dict[str, Any] | None                # the latent's state of the next step


def step(model, params, x, rng, state=None, kl_weight=1.0, scale=None) -> Step:
    """Gradients for one batch x [B, P] (eq. 84 and 85, sign flipped: descend); `scale` defaults to 1/B."""
    encoder, latent, decoder, likelihood = model.encoder, model.latent, model.decoder, model.likelihood
    scale, xp = 1 / len(x) if scale is None else scale, model.ops.xp

    h, kept_encoder = encoder.forward(params, x)                    # [B, E]
    z, kept = latent.forward(params, h, rng, state, x)              # S evaluations of the decoder
    a, kept_decoder = decoder.forward(params, latent.rows(params, z))   # [S, B or 1, P]
    cost = likelihood.forward(params, a, x)                         # [S, B], eq. 75

    weights = latent.weigh(params, kept, cost)                      # [S, B or 1]
    rows = xp.broadcast_to(weights * scale, cost.shape).astype(cost.dtype)      # [S, B]
    dcost, weigh = (xp.ones_like(cost), rows) if latent.needs_dz else (rows, None)   # dz is unweighted
    da, dlikelihood = likelihood.backward(params, dcost, a, x, weigh)           # [S, B or 1, P]
    dz, ddecoder = decoder.backward(params, kept_decoder, da, weigh, need_dx=latent.needs_dz)   # [S, B, ...]
    dh, dlatent = latent.backward(params, kept, cost, dz, state, kl_weight, scale)   # [B, E]
    _, dencoder = encoder.backward(params, kept_encoder, dh)

    learned, state = latent.advance(params, kept, cost, dz, state)
    grads = {**dencoder, **ddecoder, **dlatent, **dlikelihood,
             **{LEARNED + k: len(x) * scale * g for k, g in learned.items()}}
    return Step(grads, (latent.shares(weights) * cost).sum(0), latent.kl(params, kept, weights), state)
