"""The captured engine: whole steps replayed from a CUDA graph, for estimators that have kernels of their own."""
from __future__ import annotations

import numpy as np

from npdvae import describe
from npdvae.backends import cuda_device as devices
from npdvae.backends.cupy_backend import backend_of
from npdvae.engine import Readable
from npdvae.estimators.parts.temperature import Tempered
from npdvae.gpu.plan import Plan
from npdvae.gpu.replayed import Replayed, tell
from npdvae.gpu.segmented import Segmented
from npdvae.gpu.support import RUNNING, captured_gradient, unsegmented, unsupported
from npdvae.parallel.alone import ALONE
from npdvae.state import TrainState


def engine(model, recipe, dataset, say=tell, wanted="auto", team=ALONE):
    """The engine of the cupy backend for a job: captured, segmented or readable, the first that serves; says which.

    ValueError where the `wanted` one, "auto" or "segmented", cannot serve.
    """
    spec = describe.describe(model, recipe)
    backend = backend_of(model.ops)
    where = f"cupy: {backend.device.name} (device {backend.device.number}), {backend.blas.precision} matrix products"
    uncaptured, uncut = unsupported(spec), unsegmented(spec)
    if wanted == "segmented" and uncut:
        raise ValueError(f"--engine segmented cannot run this: {uncut}")
    if uncaptured is None and wanted == "auto":
        captured = Captured(model, recipe, dataset, say)
        say(f"{where}, {captured.memory()['run'] / 2 ** 20:.0f} MiB of device memory for this run")
        return captured
    if uncut is None:
        why = uncaptured or "segments, as asked for"
        say(f"{where}; {why}: the layers run as CUDA graphs, the latent op by op between them")
        return Segmented(model, recipe, dataset, say, why)
    say(f"{where}; {uncut}: steps run op by op, without a CUDA graph")
    return Readable(model, recipe, dataset, uncut, team=team)


class Captured(Replayed):
    """One graph for each batch size; nothing of a step is left to the host.

    Raises ValueError for what `support.unsupported` names, BackendError where memory does not suffice.
    """

    name = "captured"

    def __init__(self, model, recipe, dataset, say=tell):
        super().__init__(model, recipe, dataset, say)
        if reason := unsupported(self.spec):
            raise ValueError(f"the captured engine cannot run this: {reason}")
        gradient = captured_gradient(self.spec)
        assert gradient is not None             # or it were unsupported
        self.gradient = gradient
        with devices.clear_errors(self.cupy):
            self.plan = Plan(self.backend, model, recipe, dataset, self.gradient, self.most)

    # ---- state ----------------------------------------------------------------------------------------------------

    def load(self, state: TrainState):
        plan = self.plan
        plan.load(state)
        if self.gradient.mean == RUNNING and state.latent is not None:
            plan.buffers["mean"].set(np.concatenate([state.latent["cost_sum"], state.latent["weight_sum"]]))
        self.state = TrainState(plan.params.views, plan.moment_views(), state.latent, state.step)
        self.cupy.cuda.Device().synchronize()

    def save(self) -> TrainState:
        return TrainState(self.plan.params.save(), self.plan.saved_moments(), self.state.latent, self.state.step)

    def done(self, steps):
        latent = self.state_after(self.state.latent, steps)
        self.state = self.state._replace(latent=latent, step=self.state.step + steps)

    def state_after(self, state, steps):
        """The latent's state `steps` steps later: what is scheduled is computed, what is measured is read."""
        if state is None:
            return None
        if self.gradient.mean == RUNNING:
            mean = self.plan.buffers["mean"].get()
            return {**state, "cost_sum": mean[:1], "weight_sum": mean[1:]}
        step = np.asarray(int(state["step"]) + steps, np.int64)
        return {**state, "temperature": np.float64(self.temperature(steps)), "step": step}

    def temperature(self, i):
        """tau of the i-th step from now."""
        estimator, state = self.model.latent.estimator, self.state.latent or {}
        if isinstance(estimator, Tempered) and estimator.anneals:
            return float(estimator.annealed(int(state.get("step", 0)) + i, np))
        return float(state.get("temperature", 1.0))

    # ---- steps ----------------------------------------------------------------------------------------------------

    def one_step(self, B):
        self.replay(B, lambda: self.plan.enqueue(B))

    def launches(self, B) -> dict[str, int]:
        """Kernels and matrix products of one step on B images, counted where the step was last enqueued."""
        streams = self.plan.streams
        before = streams.launch.launches, streams.products
        streams.follow(self.stream)
        with self.stream:
            self.recorded(lambda: self.plan.enqueue(B))
        return {"kernels": streams.launch.launches - before[0], "products": streams.products - before[1]}
