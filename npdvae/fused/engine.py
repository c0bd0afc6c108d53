"""The fused engine: `engine.Readable` with its steps in compiled workers; state in panels, saved and loaded by name."""
from __future__ import annotations

import math
import threading

import numpy as np

from npdvae import describe, rng
from npdvae.backends.numba_backend import NUMBERS
from npdvae.engine import indices
from npdvae.fused.panels import Panels, kernels
from npdvae.fused.plan import MOST_STEPS, Plan
from npdvae.fused.support import BFLOAT16, fused_gradient, unsupported
from npdvae.kernels.cpu import jobs, target
from npdvae.kernels.cpu.fused_worker import counters, work
from npdvae.state import TrainState


def reason_unsupported(model, recipe) -> str | None:
    """Why whole steps cannot be fused on this machine, in a few words, or None where they can."""
    return target.reason_unfit() or unsupported(describe.describe(model, recipe))


class Fused(Panels):
    """Whole runs of steps without the interpreter, on `threads` workers (default: all cores this process may use).

    Same random numbers as `Readable`; results do not depend on `threads`, nor on how steps are grouped into calls.
    Raises ValueError for what `reason_unsupported` names.
    """

    name = "fused"

    def __init__(self, model, recipe, dataset, threads=None):
        super().__init__(model, recipe, dataset, threads)
        if reason := target.reason_unfit() or unsupported(self.spec):
            raise ValueError(f"the fused engine cannot run this: {reason}")
        gradient = fused_gradient(self.spec)
        assert gradient is not None             # or it were unsupported
        self.plan = plan = Plan(model, recipe.batch_size, gradient, *self.pixels(),
                                bfloat16=self.spec.matmul_precision == BFLOAT16)
        (self.mem, self.ints, self.scratch, self.i_scratch, self.training,
         self.evaluation) = plan.build(self.workers)
        self.mem[plan.latent.floor] = model.latent.free_bits
        self.ints[plan.encoder.thresholds:plan.encoder.thresholds + 256] = self.thresholds()
        self.running = np.zeros(3)
        self.saved: TrainState | None = None

    def load(self, state: TrainState):
        plan = self.plan
        self.put_layers(state)
        for kind, arrays, base in self.parts(state) if plan.learned else ():
            prior = np.asarray(arrays[f"{kind}latent.prior"])
            self.mem[base + plan.prior:base + plan.prior + prior.size] = prior.reshape(-1)
        self.state = TrainState({}, {}, state.latent, state.step)
        self.saved = None
        if plan.gradient.tracks:
            kept = state.latent or {}
            self.running[:] = (kept["cost_sum"][0], kept["weight_sum"][0],
                               self.model.latent.estimator.baseline.decay)

    def save(self) -> TrainState:
        if self.saved is None:
            plan = self.plan
            self.saved = TrainState({}, {}, self.state.latent, self.state.step)
            self.get_layers(self.saved)
            for kind, arrays, base in self.parts(self.saved) if plan.learned else ():
                prior = self.mem[base + plan.prior:base + plan.prior + plan.D * plan.K]
                arrays[f"{kind}latent.prior"] = prior.reshape(plan.D, plan.K).copy()
        return self.saved

    def run(self, order) -> np.ndarray:
        size = self.recipe.batch_size
        order = indices(order, len(self.dataset.train))
        parts = [self.some_steps(order[i:i + MOST_STEPS * size]) for i in range(0, len(order), MOST_STEPS * size)]
        return np.concatenate(parts) if parts else np.empty((0, 2))

    def some_steps(self, order):
        """At most MOST_STEPS steps: their sums of cost and KL, [steps, 2]."""
        steps, first = math.ceil(len(order) / self.recipe.batch_size), self.state.step
        table = self.mem[self.plan.scalars:self.plan.scalars + (steps + 1) * jobs.STEP_SCALARS]
        table = table.reshape(steps + 1, jobs.STEP_SCALARS)
        estimator, state = self.model.latent.estimator, self.state.latent
        numbers = NUMBERS[self.spec.optimizer]
        for i in range(steps):
            examples = min(self.recipe.batch_size, len(order) - i * self.recipe.batch_size)
            now = describe.scalars(self.recipe, first + i, examples)
            table[i, :5] = numbers(*now.update)
            table[i, jobs.SCALE], table[i, jobs.KL_WEIGHT] = now.scale, now.kl_weight
            if self.plan.gradient.kind in jobs.PATHWISE:
                table[i, jobs.TEMPERATURE] = estimator.tau(state, np.float32)
                state = estimator.advance(None, None, state)
            else:
                table[i, jobs.BASELINE] = self.baseline()
        out = np.zeros((steps, 2))
        self.launch(self.training, self.dataset.train, order, first, 1, (rng.BINARIZE, rng.LATENT), out)
        if self.plan.gradient.tracks:
            state = {**(state or {}), "cost_sum": self.running[:1].copy(), "weight_sum": self.running[1:2].copy()}
        self.state = TrainState({}, {}, state, first + steps)
        self.saved = None
        return out

    def evaluate(self, rows, samples=1, step=None):
        """As `Readable.evaluate`; with one sample in the workers, batch by batch."""
        step = self.state.step if step is None else step
        if samples != 1 or rows.dtype != self.dataset.train.dtype:
            self.state = self.state._replace(params=self.save().params)
            return super().evaluate(rows, samples, step)
        size, plan = self.recipe.batch_size, self.plan
        self.mem[plan.scalars:plan.scalars + (MOST_STEPS + 1) * jobs.STEP_SCALARS] = 0
        total = np.zeros(2)
        for i in range(0, len(rows), MOST_STEPS * size):
            some = rows[i:i + MOST_STEPS * size]
            out = np.zeros((math.ceil(len(some) / size), 2))
            self.launch(self.evaluation, some, np.arange(len(some)), step, 0, (rng.TEST_BINARIZE, rng.TEST_LATENT),
                        out, i)
            total += out.sum(0)
        return total / len(rows)

    def baseline(self):
        """What the next step subtracts from the cost."""
        if self.plan.gradient.tracks:
            rule = self.model.latent.estimator.baseline
            return float(rule.mean({"cost_sum": self.running[0], "weight_sum": self.running[1]}, "cost_sum"))
        return self.spec.settings.get("baseline_value", 0.0)

    def launch(self, program, images, order, step, trains, streams, out, example=0):
        """Run the workers over `out` steps; the first in this thread."""
        (table, stages), plan, steps = program, self.plan, len(out)
        sync, keys = np.zeros(counters(len(stages), steps), np.int64), np.array([self.recipe.seed, *streams], np.int64)
        arguments = (self.workers, table, stages, np.array([[0, len(stages)]]), self.mem, self.ints,
                     *self.images(images), order, plan.batch, step, trains, example, keys, plan.scalars, self.scratch,
                     plan.scratch_size, self.i_scratch, plan.i_scratch_size, self.running, out, sync, self.pace,
                     kernels(table, *([self.evaluation[0]] if trains else [])))
        peers = [threading.Thread(target=work, args=(i, 0, steps, *arguments)) for i in range(1, self.workers)]
        for peer in peers:
            peer.start()
        work(0, 0, steps, *arguments)
        for peer in peers:
            peer.join()
