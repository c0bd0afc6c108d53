"""The fused engine: `engine.Readable` with its steps in compiled workers; state in panels, saved and loaded by name."""
from __future__ import annotations

import ctypes
import math
import os
import threading

import numpy as np
from numba import config

from npdvae import describe, rng
from npdvae.backends.numba_backend import NUMBERS
from npdvae.engine import Readable, indices
from npdvae.fused.plan import MOST_STEPS, Plan
from npdvae.fused.support import fused_gradient, unsupported
from npdvae.kernels.cpu import jobs, target
from npdvae.kernels.cpu.fused_worker import STRIDE, work
from npdvae.state import TrainState

DENSITY = 0.3                                   # share of ones where adding rows costs as much as a dense product
MOST_WORKERS = 64


def reason_unsupported(model, recipe) -> str | None:
    """Why the readable engine must serve on this machine, in a few words, or None where the fused one can."""
    return target.reason_unfit() or unsupported(describe.describe(model, recipe))


def writable(images):
    """The same memory as an array that is not marked read-only, which is another type to the compiler; C order."""
    images = np.ascontiguousarray(images)
    if images.flags.writeable:
        return images
    kind = ctypes.c_uint8 if images.dtype == np.uint8 else ctypes.c_float
    return np.ctypeslib.as_array((kind * images.size).from_address(images.ctypes.data)).reshape(images.shape)


class Fused(Readable):
    """Whole runs of steps without the interpreter, on `threads` workers (default: all cores this process may use).

    Same random numbers as `Readable`; results do not depend on `threads`, nor on how steps are grouped into calls.
    Raises ValueError for what `reason_unsupported` names.
    """

    name = "fused"

    def __init__(self, model, recipe, dataset, threads=None):
        super().__init__(model, recipe, dataset)
        self.spec = describe.describe(model, recipe)
        if reason := target.reason_unfit() or unsupported(self.spec):
            raise ValueError(f"the fused engine cannot run this: {reason}")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = 1 if config.DISABLE_JIT else min(threads or cores, MOST_WORKERS)
        byte_images = dataset.train.dtype == np.uint8
        mode = jobs.THRESHOLDED if dataset.binary else jobs.PIXEL_MODES[recipe.binarize]
        gradient = fused_gradient(self.spec)
        assert gradient is not None             # or it were unsupported
        self.plan = plan = Plan(model, recipe.batch_size, gradient, mode, dataset.levels if byte_images else 0,
                                self.sparse())
        (self.mem, self.ints, self.scratch, self.i_scratch, self.training,
         self.evaluation) = plan.build(self.workers)
        self.mem[plan.latent.floor] = model.latent.free_bits
        p = (np.arange(256, dtype=np.float32) / np.float32(dataset.levels)).astype(np.float64)
        # (k + 1/2) 2^-23 < p exactly where the integer k < p 2^23 - 1/2
        thresholds = plan.encoder.thresholds
        self.ints[thresholds:thresholds + 256] = np.ceil(np.clip(p, 0, 1) * 2.0 ** 23 - 0.5)
        self.running = np.zeros(3)
        self.saved: TrainState | None = None

    def sparse(self):
        """Whether the first layer adds rows of the weight: targets of zeros and ones, few of them one."""
        if self.recipe.binarize == "none" and not self.dataset.binary:
            return False
        some = self.dataset.to_probabilities(self.dataset.train[:1000])
        return float(some.mean()) <= DENSITY

    def load(self, state: TrainState):
        plan = self.plan
        for kind, arrays, base in self.parts(state):
            for layer in plan.layers:
                layer.put(self.mem, base, *(np.asarray(arrays[f"{kind}{layer.name}.{part}"])
                                            for part in ("weight", "bias")))
            if plan.learned:
                prior = np.asarray(arrays[f"{kind}latent.prior"])
                self.mem[base + plan.prior:base + plan.prior + prior.size] = prior.reshape(-1)
        self.state = TrainState({}, {}, state.latent, state.step)
        self.saved = None
        if plan.gradient.tracks:
            kept = state.latent or {}
            self.running[:] = (kept["cost_sum"][0], kept["weight_sum"][0],
                               self.model.latent.estimator.baseline.decay)

    def parts(self, state):
        """(prefix of names, arrays, offset) of parameters, first and second moments."""
        span = self.plan.span
        return ("", state.params, 0), ("m.", state.moments, span), ("v.", state.moments, 2 * span)

    def save(self) -> TrainState:
        if self.saved is None:
            plan = self.plan
            self.saved = TrainState({}, {}, self.state.latent, self.state.step)
            for kind, arrays, base in self.parts(self.saved):
                for layer in plan.layers:
                    arrays[f"{kind}{layer.name}.weight"], arrays[f"{kind}{layer.name}.bias"] = layer.get(self.mem, base)
                if plan.learned:
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
        if samples != 1 or self.plan.gradient.samples != 1 or rows.dtype != self.dataset.train.dtype:
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
        table, stages = program
        sync = np.zeros(STRIDE * (1 + 2 * len(stages)), np.int64)
        keys = np.array([self.recipe.seed, *streams], np.int64)
        plan = self.plan
        byte_images = writable(images) if plan.levels else np.zeros((1, 1), np.uint8)
        grey_images = np.zeros((1, 1), np.float32) if plan.levels else writable(images)
        arguments = (self.workers, table, stages, self.mem, self.ints, byte_images, grey_images, order, plan.batch,
                     step, trains, example, keys, plan.scalars, self.scratch, plan.scratch_size, self.i_scratch,
                     plan.i_scratch_size, self.running, out, sync, 1 if plan.exact else None)
        peers = [threading.Thread(target=work, args=(i, *arguments)) for i in range(1, self.workers)]
        for peer in peers:
            peer.start()
        work(0, *arguments)
        for peer in peers:
            peer.join()
