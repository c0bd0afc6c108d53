"""The segmented engine on CUDA: `npdvae.step` with its layers in graphs, latent and likelihood op by op between."""
from __future__ import annotations

from npdvae import describe
from npdvae.backends import cuda_device as devices
from npdvae.gpu.replayed import Replayed, tell
from npdvae.gpu.segments import SegmentPlan
from npdvae.gpu.support import LIKELIHOODS, unsegmented
from npdvae.optimizers.base import clip_norm
from npdvae.state import LEARNED, TrainState, learned, take_back


class Segmented(Replayed):
    """Any latent, estimator, prior and likelihood; no microbatches, no network or optimizer of one's own.

    An exception leaves the state of the last whole step. Raises ValueError for what `support.unsegmented` names.
    """

    name = "segmented"

    def __init__(self, model, recipe, dataset, say=tell, why=""):
        super().__init__(model, recipe, dataset, say, why)
        if reason := unsegmented(self.spec):
            raise ValueError(f"the segmented engine cannot run this: {reason}")
        with devices.clear_errors(self.cupy):
            self.plan = SegmentPlan(self.backend, model, recipe._replace(clip_norm=None), dataset,
                                    self.spec.likelihood in LIKELIHOODS, self.most)

    def load(self, state: TrainState):
        plan, asarray = self.plan, self.cupy.asarray
        plan.load(state)
        latent = None if state.latent is None else {k: asarray(a) for k, a in state.latent.items()}
        others = {k: asarray(a) for k, a in state.moments.items() if k[2:].startswith(LEARNED)}
        self.state = TrainState(plan.params.views, {**plan.moment_views(), **others}, latent, state.step)
        self.cupy.cuda.Device().synchronize()

    def one_step(self, B):
        """`npdvae.step.step` on the next B images, and the update."""
        model, plan, s = self.model, self.plan, self.state
        latent, likelihood, params = model.latent, model.likelihood, s.params
        now = describe.scalars(self.recipe, s.step, B)

        self.replay(("encode", B), lambda: plan.encode(B))
        x, h = plan.encoded(B)                                      # [B, P], [B, E]
        z, kept = latent.forward(params, h, self.latent_rng.at(s.step), s.latent, x)
        rows, a = self.decode(latent.rows(params, z), x)            # a [S, B or 1, O]
        cost = plan.rows.rows("costs", rows.N).reshape(-1, B).copy() if rows.direct else likelihood.forward(
            params, a, x)                                           # [S, B]

        weights = latent.weigh(params, kept, cost)                  # [S, B or 1]
        shares = self.cupy.broadcast_to(weights * now.scale, cost.shape).astype(cost.dtype)     # [S, B]
        dlikelihood = {} if rows.direct else self.likelihood_backward(a, x, shares)
        dz = self.decode_backward(rows, shares)                     # [S, B, ...]
        dh, dlatent = latent.backward(params, kept, cost, dz, s.latent, now.kl_weight, now.scale)   # [B, E]

        changes, state = latent.advance(params, kept, cost, dz, s.latent)
        learning = {k: dlatent.pop(k) for k in [*dlatent] if k.startswith(LEARNED)}
        learning |= {LEARNED + k: B * now.scale * g for k, g in changes.items()}
        plan.put(dh, {**dlatent, **dlikelihood}, (latent.shares(weights) * cost).sum(0),
                 latent.kl(params, kept, weights))
        self.replay(("encode_backward", B), lambda: plan.encode_backward(B))
        self.update(B, learning, state, now.lr)

    def decode(self, z, x):
        """Rows z [S, B or 1, D or F] decoded: what they are, and the output [S, B or 1, O] with its own memory."""
        plan, B = self.plan, len(x)
        rows = plan.about(z, B)
        if plan.fit(rows, B):
            self.graphs.clear()
            self.warm.clear()
        plan.rows.rows("z", rows.N).reshape(rows.shape)[...] = z
        self.replay(("decode", rows, B), lambda: plan.decode(rows.N, rows.direct, x))
        return rows, plan.output(rows.N).reshape(*rows.shape[:2], -1)

    def likelihood_backward(self, a, x, shares):
        """Gradients of the likelihood's parameters; that of its output goes into the output's place."""
        needs_dz, params = self.model.latent.needs_dz, self.state.params
        dcost, weigh = (self.cupy.ones_like(shares), shares) if needs_dz else (shares, None)
        da, grads = self.model.likelihood.backward(params, dcost, a, x, weigh)          # [S, B or 1, O]
        a[...] = da
        return grads

    def decode_backward(self, rows, shares):
        """d cost / d rows [S, B, F], or [S, B, D, K] of codes, where the latent reads that."""
        plan, needs_dz = self.plan, self.model.latent.needs_dz
        if rows.direct or needs_dz:
            plan.rows.rows("weights", rows.N).reshape(shares.shape)[...] = shares
        self.replay(("decode_backward", rows), lambda: plan.decode_backward(rows.N, rows.direct))
        if not needs_dz:
            return None
        dz = plan.rows.rows("dz", rows.N).reshape(*rows.shape[:2], -1)                  # [S, B, F]
        return dz.reshape(*rows.shape, -1) if rows.kind == "i" else dz

    def update(self, B, learning, state, lr):
        """Parameters, moments and the latent's state after the step; `learning`: gradients of entries of the state."""
        plan, s = self.plan, self.state
        if self.recipe.clip_norm is not None:
            clipped = clip_norm({"": plan.grads.array, **learning}, self.recipe.clip_norm)
            plan.grads.array[...] = clipped.pop("")
            learning = clipped
        learnt, moments = self.recipe.optimizer.update(learned(s.latent, learning), learning, s.moments, s.step + 1, lr)
        state, _ = take_back(state, learnt)
        self.replay(("finish", B), lambda: plan.finish(B))
        for name, value in self.model.latent.refresh(s.params, state).items():
            if value is not s.params[name]:
                s.params[name][...] = value
        self.state = TrainState(s.params, moments, state, s.step + 1)
