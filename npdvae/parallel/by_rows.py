"""The step of `npdvae.step` with its decoder evaluations, samples or codes, shared out: much work per byte of gradient.

Encoder and latent are computed by every process; the S evaluations are cut in shares, added by the tree.
"""
from __future__ import annotations

from npdvae.engine import Readable
from npdvae.parallel.tree import pieces, plus_each, tree_sum
from npdvae.state import LEARNED
from npdvae.step import Step

AXES = ("batch", "samples", "codes")            # what may be shared out


class ByRows(Readable):
    """`Readable` whose processes share the evaluations of every image in place of the images."""

    def __init__(self, model, recipe, dataset, why="", threads=None, *, team, shares):
        super().__init__(model, recipe, dataset, why, threads)
        self.ranks, self.shares = team, shares

    def step_on(self, batch, example, now):
        """`npdvae.step.step` on an index batch [B]."""
        model, s, xp = self.model, self.state, self.ops.xp
        encoder, latent, decoder, likelihood = model.encoder, model.latent, model.decoder, model.likelihood
        params = s.params
        x = self.targets(batch, example)
        h, kept_encoder = encoder.forward(params, x)                # [B, E]
        z, kept = latent.forward(params, h, self.latent_rng.at(s.step, example=example), s.latent, x)
        rows = latent.rows(params, z)                               # [S, B or 1, D or F]
        ranges, idle = pieces(len(rows), -(-len(rows) // self.shares), self.ranks)
        own = [slice(*piece) for piece in ranges]

        forward = [decoder.forward(params, rows[i]) for i in own]
        costs = [likelihood.forward(params, a, x) for a, _ in forward]
        cost = self.joined(costs, idle)                             # [S, B]
        weights = latent.weigh(params, kept, cost)                  # [S, B or 1]
        shares = xp.broadcast_to(weights * now.scale, cost.shape).astype(cost.dtype)    # [S, B]
        dcost, weigh = (xp.ones_like(cost), shares) if latent.needs_dz else (shares, None)
        dzs = []

        def gradients():
            for i, (a, kept_decoder) in zip(own, forward):
                mine = None if weigh is None else weigh[i]
                da, dlikelihood = likelihood.backward(params, dcost[i], a, x, mine)     # [s, B or 1, O]
                dz, ddecoder = decoder.backward(params, kept_decoder, da, mine, need_dx=latent.needs_dz)
                dzs.append(dz)
                yield {**ddecoder, **dlikelihood}

        shared = self.added(self.ranks, tree_sum(gradients(), plus_each), idle)
        dz = self.joined(dzs, idle) if latent.needs_dz else None    # [S, B, ...]
        dh, dlatent = latent.backward(params, kept, cost, dz, s.latent, now.kl_weight, now.scale)
        _, dencoder = encoder.backward(params, kept_encoder, dh)
        learned, state = latent.advance(params, kept, cost, dz, s.latent)
        grads = {**dencoder, **shared, **dlatent, **{LEARNED + k: len(x) * now.scale * g for k, g in learned.items()}}
        return Step(grads, (latent.shares(weights) * cost).sum(0), latent.kl(params, kept, weights), state)

    def joined(self, parts, idle):
        """Arrays [s, ...] of all processes along their first axis."""
        if self.ranks.size == 1:
            return self.ops.xp.concatenate(parts)
        host = [] if idle else [self.ops.to_host(part) for part in parts]
        return self.ops.xp.concatenate([self.ops.xp.asarray(part) for part in self.ranks.gather(host)])
