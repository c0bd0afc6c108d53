"""Sums over processes by the tree of `npdvae.parallel.tree`: in memory that those of a machine share, and by messages.

`comm` is an mpi4py communicator of 2^k processes, or has what is used of one here. Every process gets the same bits.
"""
from __future__ import annotations

from typing import Any

import numpy as np


def halving_doubling(comm, total: np.ndarray, scratch: np.ndarray) -> None:
    """Replace total [n] by its sum over processes; scratch [n]. 2 log2 P messages, 2 (P - 1) / P n numbers each way.

    At distance d each adds its half of what the pair holds: leaves 0..d of the tree to d..2d (Thakur et al. 2005).
    """
    low, high, distance, way = 0, total.size, 1, []
    while distance < comm.size:
        peer, middle = comm.rank ^ distance, (low + high) // 2
        mine, theirs = (low, middle), (middle, high)
        if comm.rank & distance:
            mine, theirs = theirs, mine
        comm.Sendrecv(total[slice(*theirs)], peer, 0, scratch[slice(*mine)], peer, 0)
        np.add(total[slice(*mine)], scratch[slice(*mine)], total[slice(*mine)])
        way.append((theirs, peer, low, high))
        (low, high), distance = mine, 2 * distance
    for theirs, peer, *whole in reversed(way):
        comm.Sendrecv(total[low:high], peer, 0, total[slice(*theirs)], peer, 0)
        low, high = whole


class Messages:
    """A vector of each process and their sum, by messages alone."""

    def __init__(self, comm, size: int, dtype):
        self.comm, self.own, self.scratch = comm, np.empty(size, dtype), np.empty(size, dtype)

    def add(self) -> np.ndarray:
        """The sum of all `own`, valid until `own` is written to again."""
        halving_doubling(self.comm, self.own, self.scratch)
        return self.own

    def free(self):
        pass


class Window:
    """The same where `node` are the processes of one machine, a subtree, and `across` one process of each machine.

    Each process of a machine adds up a slice, over all of the machine's vectors and then over machines.
    """

    def __init__(self, node, across, size: int, dtype):
        self.node, self.across, dtype = node, across, np.dtype(dtype)
        room = size * dtype.itemsize            # each has its vector, the first the total too
        self.windows = [node.allocate(room), node.allocate(room if node.rank == 0 else 0)]
        self.vectors = [self.windows[0].part(i, dtype) for i in range(node.size)]
        self.own, self.total = self.vectors[node.rank], self.windows[1].part(0, dtype)
        self.slice = slice(node.rank * size // node.size, (node.rank + 1) * size // node.size)
        self.scratch = np.empty(self.slice.stop - self.slice.start, dtype)

    def add(self) -> np.ndarray:
        """The sum of all `own`, valid until the next call."""
        self.meet()                             # all have written theirs, and have read the last total
        add_into(self.total[self.slice], [v[self.slice] for v in self.vectors])
        if self.across.size > 1:
            halving_doubling(self.across, self.total[self.slice], self.scratch)
        self.meet()
        return self.total

    def meet(self):
        """Everybody on this machine sees what everybody has written."""
        for window in self.windows:
            window.sync()
        self.node.barrier()
        for window in self.windows:
            window.sync()

    def free(self):
        del self.own, self.total, self.vectors
        for window in self.windows:
            window.free()


def add_into(total: np.ndarray, vectors: list[Any]) -> None:
    """The sum of 2^k vectors by the tree, which are overwritten."""
    while len(vectors) > 2:
        vectors = [np.add(a, b, a) for a, b in zip(vectors[::2], vectors[1::2])]
    if len(vectors) == 1:
        total[:] = vectors[0]
    else:
        np.add(vectors[0], vectors[1], total)
