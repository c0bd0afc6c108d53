"""The segmented engine: `npdvae.step` with its layers and their updates in compiled workers, the rest as it is."""
from __future__ import annotations

import contextlib
import functools

import numpy as np

from npdvae import rng
from npdvae.backends import blas
from npdvae.engine import indices
from npdvae.fused.decoding import Decoding, Misfit
from npdvae.fused.memory import view
from npdvae.fused.panels import Panels, WithLayers
from npdvae.fused.plan import MOST_STEPS
from npdvae.fused.segmented_evaluation import sums
from npdvae.fused.segments import A, B, C, D, Q, SegmentPlan, U, W
from npdvae.fused.support import BFLOAT16, LIKELIHOODS, whole_gradient
from npdvae.fused.trial import reason_unsegmented, rows_of
from npdvae.fused.whole import LAYERS, RULES, Whole, put_scalars
from npdvae.fused.workers import Workers
from npdvae.kernels.cpu import jobs
from npdvae.parallel.alone import ALONE
from npdvae.parallel.tree import tree_sum
from npdvae.state import LEARNED, TrainState


class Segmented(Panels):
    """Any latent, estimator, prior and likelihood, on `threads` workers (default: all cores this process may use).

    Same random numbers as `Readable`; results do not depend on `threads`, nor on how steps are grouped into calls.
    An exception leaves the state of the last whole step. Raises ValueError for what `reason_unsegmented` names.
    """

    name = "segmented"

    def __init__(self, model, recipe, dataset, threads=None, why="", team=ALONE):
        super().__init__(model, recipe, dataset, threads, why, team)
        if reason := reason_unsegmented(model, recipe):
            raise ValueError(f"the segmented engine cannot run this: {reason}")
        rows = rows_of(model)
        assert not isinstance(rows, str)        # or it were unsupported
        spec = self.spec
        whole, size = whole_gradient(spec) is not None, spec.microbatch or recipe.batch_size
        self.costs = spec.likelihood in LIKELIHOODS and len(spec.decoder) > 2
        mode, levels, sparse = self.pixels()
        self.turns = len(self.pieces(recipe.batch_size)[0])         # of the workers, for a step
        self.plan = plan = SegmentPlan(model, size, rows, self.costs, mode, levels, sparse, whole,
                                       max(MOST_STEPS, self.turns), spec.matmul_precision == BFLOAT16)
        rule = RULES.get(spec.optimizer, jobs.GIVEN)
        self.kinds = "" if rule == jobs.GIVEN else recipe.optimizer.kinds
        self.mem, self.ints, self.scratch, self.i_scratch = plan.build(self.workers)
        self.ints[plan.encoder.thresholds:plan.encoder.thresholds + 256] = self.thresholds()
        self.decoding, self.once = (Decoding(d, plan.weights, self.mem, self.ints) for d in (plan.decoder, plan.once))
        self.training, self.evaluation, self.at = plan.training(), plan.evaluation(), functools.cache(self.places)
        layers = [f"{layer.name}.{part}" for layer in plan.layers for part in ("weight", "bias")]
        self.held = {prefix + name for prefix, _, _ in self.parts(TrainState({}, {}, None, 0)) for name in layers}
        self.whole = Whole(plan, self.mem, rule, self.held)

    def load(self, state: TrainState):
        self.put_layers(state)
        super().load(state._replace(params={k: v for k, v in state.params.items() if k not in self.held},
                                    moments={k: v for k, v in state.moments.items() if k not in self.held}))

    def save(self) -> TrainState:
        own, layers = super().save(), TrainState({}, {}, None, 0)
        self.get_layers(layers)
        return own._replace(params={**layers.params, **own.params}, moments={**layers.moments, **own.moments})

    def run(self, order) -> np.ndarray:
        size, order = self.recipe.batch_size, indices(order, len(self.dataset.train))
        even = size % self.plan.batch == 0      # else a turn may end within a call's images
        most, start = max(1, MOST_STEPS // self.turns) if even else 1, self.state.step
        out = np.zeros((-(-len(order) // size), 2))
        while (i := self.state.step - start) < len(out):
            n = min(most, max(1, len(order) // size - i))           # a smaller last batch goes alone
            try:
                with blas.threads(1):           # in a latent's own code: it would spin beside the workers
                    self.some_steps(order[i * size:(i + n) * size], out[i:i + n])
            except Misfit:
                if self.team.size > 1 or self.plan.frame.bfloat16:      # others may not meet one; float32
                    raise
                i = self.state.step - start
                out[i] = self.readable_step(order[i * size:(i + 1) * size])
        return out

    def some_steps(self, order, out):
        """Steps of one call of the workers, on batches of one size; out [steps, 2]: their sums of cost and KL."""
        first, steps, size = self.state.step, len(out), -(-len(order) // len(out))
        own, idle = self.pieces(size)
        turns, (start, end) = len(own), (own[0][0], own[-1][1])
        rows = np.ascontiguousarray(order.reshape(steps, size)[:, start:end]).reshape(-1)
        now = put_scalars(self, first, [range(i * turns, (i + 1) * turns) for i in range(steps)], size)
        with self.crew(self.training, steps * turns, self.dataset.train, rows, first, turns,
                       (rng.BINARIZE, rng.LATENT), start) as workers:
            for i in range(steps):
                out[i] = self.one_step(workers, i * turns, own, idle, now[i])

    def readable_step(self, batch):
        """A step whose latent gives other rows than those that the engine was made for."""
        before = self.state = self.save()
        try:
            sums = self.one(batch)
            self.load(self.state)
        except BaseException:
            self.load(before)
            raise
        return sums

    def sizes(self, n):
        """Of the batches of n images."""
        return [min(self.plan.batch, n - i) for i in range(0, n, self.plan.batch)]

    def crew(self, program, steps, images, order, step, trains, streams, example=0):
        """Workers on so many steps."""
        plan, keys = self.plan, np.array([self.recipe.seed, *streams], np.int64)
        return Workers(self.workers, program, steps, self.pace, (
            self.mem, self.ints, *self.images(images), order, plan.batch, step, trains, example, keys, plan.scalars,
            self.scratch, plan.scratch_size, self.i_scratch, plan.i_scratch_size, self.whole.squares))

    def one_step(self, workers, turn, own, idle, now):
        """`npdvae.step.step` and the update, from this turn of the workers on, one for each piece (first, end) of the
        batch that is `own`: the sums of cost and KL."""
        end, last = self.plan.end, turn + len(own) - 1
        if self.team.size > 1 or self.plan.whole:
            sums, grads, state = self.whole_batch(workers, turn, own, idle, now)
        else:
            sums, grads, state = self.part(workers, turn * end, own[0][1], 0, now)
        following = self.whole.after(self.recipe, self.model.latent, self.state, grads, state, now.lr, last)
        self.update(workers, last * end + end, following)
        return sums

    def whole_batch(self, workers, turn, own, idle, now):
        """Sums, gradients of latent and likelihood, and state of all pieces and processes; E takes those of layers."""
        end, whole, last = self.plan.end, self.whole, turn + len(own) - 1
        parts: list = []

        def gradients():
            for t, (i, stop) in enumerate(own, turn):
                sums, grads, state = self.part(workers, t * end, stop - i, i, now)
                parts.append((sums, state, stop - i))
                if self.plan.whole:
                    workers.run(t * end + U)
                    grads = {LAYERS: whole.kept((t - turn) % 2 == 0 and t < last), **grads}
                yield grads
                if t < last:
                    workers.run(t * end + end)

        grads = whole.total(self.team, tree_sum(gradients(), whole.plus), idle, self.spec.microbatch)
        if self.plan.whole:
            workers.run(last * end + Q)
        sums, state = self.gathered([] if idle else parts)
        return sums, grads, state

    def part(self, workers, first, n, example, now):
        """Of n examples, from segment `first` on: sums, gradients of latent and likelihood, state. Up to D."""
        s, decoding = self.state, self.decoding
        latent, likelihood, xp, params = self.model.latent, self.model.likelihood, self.ops.xp, self.params()

        workers.run(first + A)
        x, h = self.encoded(n)
        z, kept = latent.forward(params, h, self.latent_rng.at(s.step, example=example), s.latent, x)
        decoding.put_rows(latent.rows(params, z), n)
        workers.run(first + B)
        a = None if self.costs else decoding.output(n)              # [S, B, O]
        cost = decoding.cost(n) if a is None else likelihood.forward(params, a, x)      # [S, B]

        weights = latent.weigh(params, kept, cost)                  # [S, B or 1]
        decoding.put_weights(weights * now.scale, n)
        dlikelihood = {}
        if a is not None:
            rows = xp.broadcast_to(weights * now.scale, cost.shape).astype(cost.dtype)  # [S, B]
            dcost, weigh = (xp.ones_like(cost), rows) if latent.needs_dz else (rows, None)
            da, dlikelihood = likelihood.backward(params, dcost, a, x, weigh)           # [S, B, O]
            decoding.put_gradient(da, n)
        if latent.needs_dz:
            workers.run(first + C)
        dz = decoding.dz(n) if latent.needs_dz else None            # [S, B, ...]
        workers.post(first + W)
        dh, dlatent = latent.backward(params, kept, cost, dz, s.latent, now.kl_weight, now.scale)
        *_, dlogits = self.at(n)
        dlogits[:] = dh                                             # [B, E]
        workers.post(first + D)

        changes, state = latent.advance(params, kept, cost, dz, s.latent)
        grads = {**dlatent, **dlikelihood, **{LEARNED + k: n * now.scale * g for k, g in changes.items()}}
        sums = np.array([(latent.shares(weights) * cost).sum(), latent.kl(params, kept, weights).sum()])
        return sums, grads, state

    def update(self, workers, end, following):
        """The last segment, and with it the state `following` the step, even if Ctrl-C falls between the two."""
        try:
            workers.run(end)
        finally:
            if workers.done == end // self.plan.end:
                self.state = following

    def params(self):
        """The parameters by name, as latent and likelihood see them."""
        return WithLayers(self.state.params, self.get_layer)

    def encoded(self, n):
        """Targets x [B, P] and the encoder's output h [B, E]."""
        x, h, _ = self.at(n)
        return x, h.copy()

    def places(self, n):
        """Where the workers have targets, the encoder's output and the gradient at it, for n examples."""
        e, E = self.plan.encoder, self.model.encoder.sizes[-1]
        return (view(self.mem, e.x, n, self.model.pixels), view(self.mem, e.logits, n, E),
                view(self.mem, e.dlogits, n, E))

    def evaluate(self, rows, samples=1, step=None):
        """As `Readable.evaluate`; with one sample in segments, batch by batch."""
        step, size = self.state.step if step is None else step, self.plan.batch
        if samples == 1 and rows.dtype == self.dataset.train.dtype:
            with contextlib.suppress(*([Misfit] if self.team.size == 1 else [])), blas.threads(1):
                own, parts = self.team.some(-(-len(rows) // size)), []
                for i in range(own.start, own.stop, MOST_STEPS):
                    end = min(i + MOST_STEPS, own.stop)
                    parts += sums(self, rows[i * size:end * size], step, i * size)
                parts = self.team.gather(parts)
                calls = [sum(map(np.array, parts[i:i + MOST_STEPS]), np.zeros(2))
                         for i in range(0, len(parts), MOST_STEPS)]
                return np.sum(calls, 0) / len(rows)
        held, self.state = self.state, self.save()
        try:
            return super().evaluate(rows, samples, step)
        finally:
            self.state = held
