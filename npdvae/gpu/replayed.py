"""What both engines of CUDA graphs share: steps, or pieces of steps, recorded once and replayed after."""
from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from npdvae import describe
from npdvae.backends import cuda_device as devices
from npdvae.backends.cupy_backend import NUMBERS, backend_of
from npdvae.engine import Readable, indices
from npdvae.kernels.cuda.constants import SETTINGS

HEAD = 16                                       # steps of a call that are under way before the others' schedule is made


def tell(text):
    """One line to the user."""
    print(text, file=sys.stderr)


class Replayed(Readable):
    """State in device arrays that never move, so that graphs stay right; the host sees sums once per call.

    Same random numbers as `Readable`; results do not depend on how steps are grouped into calls.
    """

    plan: Any

    def __init__(self, model, recipe, dataset, say: Callable[[str], None] = tell, why=""):
        super().__init__(model, recipe, dataset, why)
        self.spec, self.say = describe.describe(model, recipe), say
        self.backend = backend_of(model.ops)
        self.cupy = self.backend.cupy
        self.graphs: dict[Hashable, Any] = {}
        self.warm: set[Hashable] = set()
        self.capturing = True
        self.most = math.ceil(len(dataset.train) / recipe.batch_size)   # steps of one call
        with devices.clear_errors(self.cupy):
            self.stream = self.cupy.cuda.Stream(non_blocking=True)

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
            first, clock = self.state.step, np.array([self.state.step, 0, self.recipe.seed], np.int64)
            b["order"][:len(order)].set(order)
            b["clock"].set(clock)
            tables, enqueued = [], 0            # kept, as all that is uploaded, until the stream has been waited for
            try:
                for start, stop in ((0, min(HEAD, steps)), (min(HEAD, steps), steps)):
                    tables.append(self.schedule(first, start, stop))
                    b["settings"][start:stop].set(tables[-1])
                    for i in range(start, stop):
                        self.one_step(min(batch, len(order) - i * batch))
                        enqueued += 1
            finally:
                sums = b["sums"].get()[:steps]                      # waits for the stream
                self.done(enqueued)
        return sums

    def schedule(self, first, start, stop):
        """What the kernels read of steps start .. stop, `first` that of a call: rate, scale, weight of the KL,
        temperature; float64 [steps, SETTINGS].
        """
        table, numbers = np.zeros((stop - start, len(SETTINGS))), NUMBERS[self.spec.optimizer]
        for i in range(start, stop):
            now = describe.scalars(self.recipe, first + i, self.recipe.batch_size)
            table[i - start] = *numbers(*now.update), now.kl_weight, self.temperature(i)
        return table

    def temperature(self, i):
        """tau of the i-th step from now, for kernels that read it."""
        return 1.0

    def one_step(self, B):
        """Enqueue a step on the next B images."""
        raise NotImplementedError

    def done(self, steps):
        """So many steps have run."""

    # ---- graphs ---------------------------------------------------------------------------------------------------

    def replay(self, key, work):
        """Do `work()` as a graph; the first time of a key it runs as it is, so that capture finds all loaded."""
        if key in self.graphs:
            self.graphs[key].launch(self.stream)
        elif key in self.warm and self.capturing:
            self.capture(key, work)
        else:
            work()
            self.warm.add(key)

    def capture(self, key, work):
        """Record a graph and launch it; where that fails, go on without graphs and say so once."""
        try:
            self.graphs[key] = graph = self.recorded(work)
        except Exception as error:              # the driver's own kinds; whatever it is, the step itself still runs
            self.capturing = False
            self.graphs.clear()
            self.say(f"cupy: the step could not be captured ({devices.one_line(error)}); it runs without a CUDA graph")
            work()
        else:
            graph.launch(self.stream)

    def recorded(self, work):
        """Work as a graph. Garbage goes first: the end of an older engine's cuBLAS handle would break a capture."""
        gc.collect()
        self.stream.begin_capture()
        try:
            work()
        finally:
            graph = self.stream.end_capture()
        return graph

    # ---- reports --------------------------------------------------------------------------------------------------

    def memory(self) -> dict[str, int]:
        """Device memory in bytes: held by this run, taken by CuPy's pool, free and total on the device."""
        free, total = self.cupy.cuda.runtime.memGetInfo()
        return {"run": self.plan.nbytes + 2 * self.backend.blas.workspace.nbytes,
                "pool": self.cupy.get_default_memory_pool().total_bytes(), "free": free, "total": total}
