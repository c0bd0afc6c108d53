"""Several processes that share every batch: which shares are whose, and what they tell each other."""
from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from npdvae.parallel.reduce import Messages, Window
from npdvae.parallel.tree import block, by_type


class Team:
    """The processes of a communicator, in whose order shares lie; `node` and `across` as in `Window`, or None.

    end: a communicator of the same processes for those that have failed. here: one of those of this machine.
    """

    def __init__(self, comm, node=None, across=None, end=None, here=None):
        self.comm, self.node, self.across, self.end, self.here = comm, node, across, end, here
        self.rank, self.size = comm.rank, comm.size
        self.local = (0, 1) if here is None else (here.rank, here.size)
        self.sums: dict[Any, tuple[int, Messages | Window]] = {}    # by type: size, and where they are added

    def check(self, shares: int) -> None:
        """ValueError unless so many shares can be divided among the processes."""
        most = 1
        while most < shares:
            most *= 2
        if self.size not in [2 ** k for k in range(17) if 2 ** k <= most]:
            raise ValueError(f"{self.size} processes cannot share a batch of {shares} pieces: expected a power of two, "
                             f"at most {most}" + ("" if self.size <= most else "; give more with --shares"))

    def block(self, terms: int) -> range:
        """Which of so many shares of a batch are this process's."""
        return block(terms, self.rank, self.size)

    def gather(self, items: list) -> list:
        """The lists of all processes, one after another."""
        return [item for part in self.comm.allgather(items) for item in part]

    def some(self, n: int) -> range:
        """Which of n equal tasks are this process's; `gather` puts them in order again."""
        return range(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def first(self, act: Callable, *arguments):
        """What the first process gets from act(*arguments), in all of them; what it raises, too."""
        value: Any = None
        failure: Exception | None = None
        if self.rank == 0:
            try:
                value = act(*arguments)
            except (ValueError, OSError) as error:
                failure = error
        value, failure = self.comm.bcast((value, failure))
        if failure is not None:
            raise failure
        return value

    def wait(self):
        """Come back when all processes have come here."""
        self.comm.barrier()

    def total(self, arrays: dict[str, np.ndarray], idle: bool = False) -> dict[str, np.ndarray]:
        """Arrays added over all processes but idle ones, by the tree; views that the next call overwrites."""
        if self.size == 1:
            return arrays

        def add(vectors):
            sums = self.space(sum(v.size for v in vectors), vectors[0].dtype)
            if idle:
                sums.own[:] = -0.0              # x + -0.0 is x, for 0.0 and -0.0 too
            else:
                np.concatenate(vectors, out=sums.own)
            return sums.add()

        return by_type(arrays, add)

    def space(self, size: int, dtype) -> Messages | Window:
        """Where vectors of this size are added."""
        held, sums = self.sums.get(dtype, (0, None))
        if sums is None or held != size:
            if sums is not None:
                sums.free()
            room = size * dtype.itemsize * (1 + self.local[1])
            sums = (Window(self.node, self.across, size, dtype) if self.node is not None and self.fits(room)
                    else Messages(self.comm, size, dtype))
            self.sums[dtype] = size, sums
        return sums

    def fits(self, room: int) -> bool:
        """Whether every machine has so many bytes of shared memory."""
        return all(self.comm.allgather(self.local[1] == 1 or room < 0.9 * self.node.room()))

    def machine(self) -> str:
        """The name of the machine, and what of it this process sees."""
        return f"{socket.gethostname()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"

    def threads(self) -> int:
        """Cores for each process: those that it may use, shared with others that may use the same."""
        mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        everybody = [mine] if self.here is None else self.here.allgather(mine)
        return max(1, (len(mine) if isinstance(mine, list) else mine or 1) // everybody.count(mine))
