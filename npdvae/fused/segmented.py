"""The segmented engine: `npdvae.step` with its layers and their updates in compiled workers, the rest as it is."""
from __future__ import annotations

import contextlib

import numpy as np

from npdvae import describe, rng
from npdvae.backends.numba_backend import NUMBERS
from npdvae.engine import indices
from npdvae.fused.decoding import Decoding, Misfit
from npdvae.fused.memory import view
from npdvae.fused.panels import Panels, WithLayers
from npdvae.fused.plan import MOST_STEPS
from npdvae.fused.segmented_evaluation import sums
from npdvae.fused.segments import A, B, C, D, SegmentPlan, W
from npdvae.fused.support import LIKELIHOODS
from npdvae.fused.trial import reason_unsegmented, rows_of
from npdvae.fused.workers import Workers
from npdvae.kernels.cpu import jobs
from npdvae.state import LEARNED, TrainState, learned, take_back


class Segmented(Panels):
    """Any latent, estimator, prior and likelihood, on `threads` workers (default: all cores this process may use).

    Same random numbers as `Readable`; results do not depend on `threads`, nor on how steps are grouped into calls.
    An exception leaves the state of the last whole step. Raises ValueError for what `reason_unsegmented` names.
    """

    name = "segmented"

    def __init__(self, model, recipe, dataset, threads=None, why=""):
        super().__init__(model, recipe, dataset, threads, why)
        if reason := reason_unsegmented(model, recipe):
            raise ValueError(f"the segmented engine cannot run this: {reason}")
        rows = rows_of(model)
        assert not isinstance(rows, str)        # or it were unsupported
        self.costs = self.spec.likelihood in LIKELIHOODS
        self.plan = plan = SegmentPlan(model, recipe.batch_size, rows, self.costs, *self.pixels())
        self.mem, self.ints, self.scratch, self.i_scratch = plan.build(self.workers)
        self.ints[plan.encoder.thresholds:plan.encoder.thresholds + 256] = self.thresholds()
        self.decoding, self.once = (Decoding(d, plan.weights, self.mem, self.ints) for d in (plan.decoder, plan.once))
        self.training, self.evaluation = plan.training(), plan.evaluation()
        self.layer_names = {f"{layer.name}.{part}" for layer in plan.layers for part in ("weight", "bias")}

    def load(self, state: TrainState):
        self.put_layers(state)
        super().load(TrainState({k: v for k, v in state.params.items() if k not in self.layer_names},
                                {k: v for k, v in state.moments.items() if k[2:] not in self.layer_names},
                                state.latent, state.step))

    def save(self) -> TrainState:
        own, layers = super().save(), TrainState({}, {}, None, 0)
        self.get_layers(layers)
        return own._replace(params={**layers.params, **own.params}, moments={**layers.moments, **own.moments})

    def run(self, order) -> np.ndarray:
        most, order = MOST_STEPS * self.recipe.batch_size, indices(order, len(self.dataset.train))
        parts = [self.some_steps(order[i:i + most]) for i in range(0, len(order), most)]
        return np.concatenate(parts) if parts else np.empty((0, 2))

    def some_steps(self, order):
        """At most MOST_STEPS steps: their sums of cost and KL, [steps, 2]."""
        first = self.state.step
        sizes = self.sizes(len(order))
        self.put_scalars(first, sizes)
        out = np.zeros((len(sizes), 2))
        with self.team(self.training, len(sizes), self.dataset.train, order, first, 1,
                       (rng.BINARIZE, rng.LATENT)) as workers:
            for i, examples in enumerate(sizes):
                out[i] = self.one_step(workers, i * D, examples)
        return out

    def sizes(self, n):
        """Of the batches of n images."""
        return [min(self.plan.batch, n - i) for i in range(0, n, self.plan.batch)]

    def team(self, program, steps, images, order, step, trains, streams, example=0):
        """Workers on so many steps."""
        plan, keys = self.plan, np.array([self.recipe.seed, *streams], np.int64)
        return Workers(self.workers, program, steps, self.pace, (
            self.mem, self.ints, *self.images(images), order, plan.batch, step, trains, example, keys, plan.scalars,
            self.scratch, plan.scratch_size, self.i_scratch, plan.i_scratch_size, np.zeros(3)))

    def put_scalars(self, first, sizes):
        """The scalars of all steps where the workers read them."""
        at, numbers = self.plan.scalars, NUMBERS[self.spec.optimizer]
        table = self.mem[at:at + len(sizes) * jobs.STEP_SCALARS].reshape(-1, jobs.STEP_SCALARS)
        for i, examples in enumerate(sizes):
            table[i, :5] = numbers(*describe.scalars(self.recipe, first + i, examples).update)
            table[i, jobs.SCALE] = self.plan.frame.S                # the cost's own gradient, not that of its mean

    def one_step(self, workers, turn, n):
        """`npdvae.step.step` on n examples and the update, from segment `turn` on: the sums of cost and KL."""
        recipe, s, decoding = self.recipe, self.state, self.decoding
        latent, likelihood, xp, params = self.model.latent, self.model.likelihood, self.ops.xp, self.params()
        now = describe.scalars(recipe, s.step, n)

        workers.run(turn + A)
        x, h = self.encoded(n)
        z, kept = latent.forward(params, h, self.latent_rng.at(s.step), s.latent, x)
        decoding.put_rows(latent.rows(params, z), n)
        workers.run(turn + B)
        a = None if self.costs else decoding.output(n)              # [S, B, O]
        cost = decoding.cost(n) if a is None else likelihood.forward(params, a, x)      # [S, B]

        weights = latent.weigh(params, kept, cost)                  # [S, B or 1]
        rows = xp.broadcast_to(weights * now.scale, cost.shape).astype(cost.dtype)      # [S, B]
        decoding.put_weights(rows, n)
        dlikelihood = {}
        if a is not None:
            dcost, weigh = (xp.ones_like(cost), rows) if latent.needs_dz else (rows, None)
            da, dlikelihood = likelihood.backward(params, dcost, a, x, weigh)           # [S, B, O]
            decoding.put_gradient(da, n)
        if latent.needs_dz:
            workers.run(turn + C)
        dz = decoding.dz(n) if latent.needs_dz else None            # [S, B, ...]
        workers.post(turn + W)
        dh, dlatent = latent.backward(params, kept, cost, dz, s.latent, now.kl_weight, now.scale)
        view(self.mem, self.plan.encoder.dlogits, *h.shape)[:] = dh     # [B, E]

        changes, state = latent.advance(params, kept, cost, dz, s.latent)
        grads = {**dlatent, **dlikelihood, **{LEARNED + k: n * now.scale * g for k, g in changes.items()}}
        found = (latent.shares(weights) * cost).sum(), latent.kl(params, kept, weights).sum()
        self.update(workers, turn + D, self.after(s, grads, state, now.lr))
        return found

    def update(self, workers, end, following):
        """The last segment, and with it the state `following` the step, even if Ctrl-C falls between the two."""
        try:
            workers.run(end)
        finally:
            if workers.steps_done == end // D:
                self.state = following

    def after(self, s, grads, state, lr):
        """The state behind the step, but for the layers."""
        params, moments = self.recipe.optimizer.update({**s.params, **learned(s.latent, grads)}, grads, s.moments,
                                                       s.step + 1, lr)
        state, params = take_back(state, params)
        return TrainState(self.model.latent.refresh(params, state), moments, state, s.step + 1)

    def params(self):
        """The parameters by name, as latent and likelihood see them."""
        return WithLayers(self.state.params, self.get_layer)

    def encoded(self, n):
        """Targets x [B, P] and the encoder's output h [B, E]."""
        e, E = self.plan.encoder, self.model.encoder.sizes[-1]
        return view(self.mem, e.x, n, self.model.pixels), view(self.mem, e.logits, n, E).copy()

    def evaluate(self, rows, samples=1, step=None):
        """As `Readable.evaluate`; with one sample in segments, batch by batch."""
        step, most = self.state.step if step is None else step, MOST_STEPS * self.plan.batch
        if samples == 1 and rows.dtype == self.dataset.train.dtype:
            with contextlib.suppress(Misfit):
                parts = [sums(self, rows[i:i + most], step, i) for i in range(0, len(rows), most)]
                return np.sum(parts, 0) / len(rows)
        held, self.state = self.state, self.save()
        try:
            return super().evaluate(rows, samples, step)
        finally:
            self.state = held
