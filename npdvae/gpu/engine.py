"""The captured engine: `engine.Readable` with its steps replayed from CUDA graphs; the host sees sums once per call."""
from __future__ import annotations

import gc
import math
import sys
from typing import Any

import numpy as np

from npdvae import describe
from npdvae.backends import cuda_device as devices
from npdvae.backends.cupy_backend import NUMBERS
from npdvae.engine import Readable, indices
from npdvae.estimators.parts.temperature import Tempered
from npdvae.gpu.plan import Plan
from npdvae.gpu.support import RUNNING, captured_gradient, unsupported
from npdvae.kernels.cuda.constants import SETTINGS
from npdvae.state import TrainState


def engine(model, recipe, dataset, say=None):
    """The engine of the cupy backend for a job; says once where the step cannot be captured."""
    say = say or tell
    backend = backend_of(model.ops)
    where = f"cupy: {backend.device.name} (device {backend.device.number}), {backend.blas.precision} matrix products"
    reason = unsupported(describe.describe(model, recipe))
    if reason is None:
        captured = Captured(model, recipe, dataset, say)
        say(f"{where}, {captured.memory()['run'] / 2 ** 20:.0f} MiB of device memory for this run")
        return captured
    say(f"{where}; {reason}: steps run op by op, without a CUDA graph")
    return Readable(model, recipe, dataset, reason)


def backend_of(ops):
    """The CupyOps behind a table."""
    return ops.softmax.__self__


def tell(text):
    """One line to the user."""
    print(text, file=sys.stderr)


class Captured(Readable):
    """Steps as replays of a graph, one graph for each batch size; state in device arrays that never move.

    Same random numbers as `Readable`; results do not depend on how steps are grouped into calls.
    Raises ValueError for what `support.unsupported` names, BackendError where memory does not suffice.
    """

    name = "captured"

    def __init__(self, model, recipe, dataset, say=None):
        super().__init__(model, recipe, dataset)
        self.spec = describe.describe(model, recipe)
        if reason := unsupported(self.spec):
            raise ValueError(f"the captured engine cannot run this: {reason}")
        self.backend = backend_of(model.ops)
        self.cupy, self.say = self.backend.cupy, say or tell
        gradient = captured_gradient(self.spec)
        assert gradient is not None             # or it were unsupported
        self.gradient = gradient
        self.graphs: dict[int, Any] = {}
        self.warm: set[int] = set()
        self.capturing = True
        self.most = math.ceil(len(dataset.train) / recipe.batch_size)   # steps of one call
        with devices.clear_errors(self.cupy):
            self.stream = self.cupy.cuda.Stream(non_blocking=True)
            self.plan = Plan(self.backend, model, recipe, dataset, self.gradient, self.most)

    # ---- state ----------------------------------------------------------------------------------------------------

    def load(self, state: TrainState):
        plan = self.plan
        plan.params.load(state.params)
        for kind, flat in plan.moments.items():
            flat.load({name: state.moments[f"{kind}.{name}"] for name in flat.shapes})
        if self.gradient.mean == RUNNING and state.latent is not None:
            plan.buffers["mean"].set(np.concatenate([state.latent["cost_sum"], state.latent["weight_sum"]]))
        moments = {f"{kind}.{name}": flat[name] for kind, flat in plan.moments.items() for name in flat.shapes}
        self.state = TrainState(plan.params.views, moments, state.latent, state.step)
        self.cupy.cuda.Device().synchronize()

    def save(self) -> TrainState:
        moments = {f"{kind}.{name}": a for kind, flat in self.plan.moments.items() for name, a in flat.save().items()}
        return TrainState(self.plan.params.save(), moments, self.state.latent, self.state.step)

    def state_after(self, state, steps):
        """The latent's state `steps` steps later: what is scheduled is computed, what is measured is read."""
        if state is None:
            return None
        if self.gradient.mean == RUNNING:
            mean = self.plan.buffers["mean"].get()
            return {**state, "cost_sum": mean[:1], "weight_sum": mean[1:]}
        step = int(state["step"]) + steps
        return {**state, "temperature": np.float64(self.temperature(state, step)), "step": np.asarray(step, np.int64)}

    def temperature(self, state, step):
        """tau at the `step`th step of a state."""
        estimator = self.model.latent.estimator
        if isinstance(estimator, Tempered) and estimator.anneals:
            return float(estimator.annealed(step, np))
        return float((state or {}).get("temperature", 1.0))

    # ---- steps ----------------------------------------------------------------------------------------------------

    def run(self, order) -> np.ndarray:
        order = indices(order, len(self.dataset.train))
        size = self.recipe.batch_size * self.most                   # whole batches, but for the last of them all
        return np.concatenate([self.some_steps(order[i:i + size]) for i in range(0, max(len(order), 1), size)])

    def some_steps(self, order):
        """At most `most` steps: sums of cost and KL of each step, [steps, 2] nats."""
        batch, b = self.recipe.batch_size, self.plan.buffers
        steps = math.ceil(len(order) / batch)
        if not steps:
            return np.empty((0, 2))
        with devices.clear_errors(self.cupy), self.stream:
            self.plan.streams.follow(self.stream)                   # not for the first time while capturing
            b["order"][:len(order)].set(order)
            b["settings"][:steps].set(self.schedule(steps))
            b["clock"].set(np.array([self.state.step, 0, self.recipe.seed], np.int64))
            for i in range(steps):
                self.one_step(min(batch, len(order) - i * batch))
            sums = b["sums"].get()[:steps]                          # waits for the stream
            latent = self.state_after(self.state.latent, steps)
        self.state = self.state._replace(latent=latent, step=self.state.step + steps)
        return sums

    def schedule(self, steps):
        """What the kernels read of each step: rate, scale, weight of the KL, temperature; float64 [steps, SETTINGS]."""
        table, state = np.zeros((steps, len(SETTINGS))), self.state.latent
        numbers, begun = NUMBERS[self.spec.optimizer], int((state or {}).get("step", 0))
        for i in range(steps):
            now = describe.scalars(self.recipe, self.state.step + i, self.recipe.batch_size)
            table[i] = *numbers(*now.update), now.kl_weight, self.temperature(state, begun + i)
        return table

    def one_step(self, B):
        """Replay the step for B images; the first of its size runs as it is, so that capture finds all loaded."""
        if B in self.graphs:
            self.graphs[B].launch(self.stream)
        elif B in self.warm and self.capturing:
            self.capture(B)
        else:
            self.plan.enqueue(B)
            self.warm.add(B)

    def capture(self, B):
        """Record the step into a graph and launch it; where that fails, go on without graphs and say so once."""
        try:
            self.graphs[B] = graph = self.recorded(B)
        except Exception as error:              # the driver's own kinds; whatever it is, the step itself still runs
            self.capturing = False
            self.graphs.clear()
            self.say(f"cupy: the step could not be captured ({devices.one_line(error)}); it runs without a CUDA graph")
            self.plan.enqueue(B)
        else:
            graph.launch(self.stream)

    def recorded(self, B):
        """The step as a graph. Garbage goes first: the end of an older engine's cuBLAS handle would break a capture."""
        gc.collect()
        self.stream.begin_capture()
        try:
            self.plan.enqueue(B)
        finally:
            graph = self.stream.end_capture()
        return graph

    # ---- reports --------------------------------------------------------------------------------------------------

    def memory(self) -> dict[str, int]:
        """Device memory in bytes: held by this run, taken by CuPy's pool, free and total on the device."""
        free, total = self.cupy.cuda.runtime.memGetInfo()
        return {"run": self.plan.nbytes + 2 * self.backend.blas.workspace.nbytes,
                "pool": self.cupy.get_default_memory_pool().total_bytes(), "free": free, "total": total}

    def launches(self, B) -> dict[str, int]:
        """Kernels and matrix products of one step on B images, counted where the step was last enqueued."""
        streams = self.plan.streams
        before = streams.launch.launches, streams.products
        streams.follow(self.stream)
        with self.stream:
            self.recorded(B)
        return {"kernels": streams.launch.launches - before[0], "products": streams.products - before[1]}
