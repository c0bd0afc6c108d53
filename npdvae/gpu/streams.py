"""The step's stream and one beside it: kernels, matrix products and scratch memory of whichever is current."""
from __future__ import annotations

import contextlib

import numpy as np

from npdvae.backends.cublas import Blas


class Streams:
    """Work goes to CuPy's current stream, or, within `aside`, to a second one that `join` waits for.

    What the longest chain of kernels does not wait for runs beside it: the decoder's backward where the estimator
    needs no dcodes, else the weights' gradients.
    """

    def __init__(self, backend, dtype, needs_dcodes):
        self.xp, self.launch, self.needs_dcodes = backend.cupy, backend.launchers[np.dtype(dtype)], needs_dcodes
        self.dtype = np.dtype(dtype)
        self.fork, self.joined = (self.xp.cuda.Event(disable_timing=True) for _ in range(2))
        self.handles = backend.blas, Blas(self.xp, backend.blas.precision)
        self.side = self.xp.cuda.Stream(non_blocking=True)         # ends after the handle that is bound to it
        self.current = 0                        # or 1 on the second stream

    def reserve(self, entries):
        """Scratch memory for each stream: sums over strips of rows, `entries` at most."""
        self.parts = [self.xp.zeros(entries, self.dtype) for _ in range(2)]

    @property
    def nbytes(self):
        return sum(part.nbytes for part in self.parts)

    @property
    def part(self):
        """Scratch memory of the current stream."""
        return self.parts[self.current]

    @property
    def products(self):
        """Matrix products asked for so far."""
        return sum(blas.products for blas in self.handles)

    def matmul(self, *arguments, **options):
        """A product on the current stream, as Blas.matmul."""
        return self.handles[self.current].matmul(*arguments, **options)

    def follow(self, stream):
        """Bind the products to their streams, which must not happen for the first time while capturing."""
        for blas, where in zip(self.handles, (stream, self.side)):
            blas.follow(where.ptr)

    @contextlib.contextmanager
    def aside(self, when=True):
        """Work on the second stream, behind all that the current one has done so far; here as ever unless `when`."""
        if not when:
            yield
            return
        self.fork.record(self.xp.cuda.get_current_stream())
        self.side.wait_event(self.fork)
        self.current = 1
        try:
            with self.side:
                yield
        finally:
            self.current = 0

    def weights(self):
        """Where gradients of weights are formed: aside, unless the second stream has the decoder's backward to do."""
        return self.aside(self.needs_dcodes)

    def join(self):
        """The current stream waits for the second one."""
        self.joined.record(self.side)
        self.xp.cuda.get_current_stream().wait_event(self.joined)
