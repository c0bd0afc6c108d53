"""One training step: the path of a batch forward, and the same calls in reverse. No autodiff."""
from __future__ import annotations

from typing import Any, NamedTuple


class Step(NamedTuple):
    """The gradients of the mean negative ELBO over the batch, and its parts per example in nats."""

    grads: dict[str, Any]                       # by parameter name; learned estimator entries as estimator.<name>
    cost: Any                                   # [B], E[-log p(x | z)] as sampled
    kl: Any                                     # [B], KL(q || p)
    state: dict[str, Any] | None                # the estimator's state of the next step


def step(model, params, x, rng, state=None, kl_weight=1.0, scale=None) -> Step:
    """Gradients for one batch x [B, P] (eq. 84 and 85, sign flipped: descend); `scale` defaults to 1/B."""
    latent, estimator = model.latent, model.latent.estimator
    scale = 1 / len(x) if scale is None else scale

    h, kept_encoder = model.encoder.forward(params, x)              # [B, D*K]
    z, kl, kept = latent.forward(params, h, rng, state, context=x)  # codes, [B]
    logits, kept_decoder = model.decode(params, z)                  # [S, B or 1, P]
    cost = model.likelihood.forward(logits, x)                      # [S, B], eq. 75

    weights = latent.weigh(params, kept, cost)                      # [S, B or 1]
    rows = model.ops.xp.broadcast_to(weights * scale, cost.shape).astype(cost.dtype)   # [S, B]
    if estimator.needs_dcodes:                                      # d cost / d codes, unweighted
        dlogits = model.likelihood.backward(model.ops.xp.ones_like(cost), logits, x)   # [S, B, P]
        dz, ddecoder = model.decoder.backward(params, kept_decoder, dlogits, rows, need_dx=True)
        dz = dz.reshape(*cost.shape, latent.latents, latent.categories)    # [S, B, D, K]
    else:
        dlogits = model.likelihood.backward(rows, logits, x)        # [S, B or 1, P]
        dz, ddecoder = model.decoder.backward(params, kept_decoder, dlogits)
        dz = None
    dh, dlatent = latent.backward(params, kept, cost, dz, state, kl_weight, scale)     # [B, D*K]
    _, dencoder = model.encoder.backward(params, kept_encoder, dh)

    seen = latent.objective_cost(params, kept, cost)                # [S, B]
    learned = estimator.learn(kept.draw, seen, dz, state) if state is not None else {}
    grads = {**dencoder, **ddecoder, **dlatent, **{f"estimator.{k}": len(x) * scale * g for k, g in learned.items()}}
    state = estimator.advance(kept.draw, seen, state) if state is not None else None
    shares = weights if estimator.objective == "expectation" else 1 / len(cost)        # the ELBO's own average
    return Step(grads, (shares * cost).sum(0), kl, state)
