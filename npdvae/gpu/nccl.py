"""Gradients of processes that have a CUDA device each, gathered by NCCL and added on every device by the same tree."""
from __future__ import annotations

from typing import Any

import numpy as np

from npdvae.parallel.tree import by_type


class Nccl:
    """`npdvae.parallel.team.Team.total` for arrays of a device; `library`: cupy.cuda.nccl, its id sent by the team."""

    def __init__(self, cupy, library, team):
        self.cupy, self.size = cupy, team.size
        self.types = {np.dtype("f4"): library.NCCL_FLOAT32, np.dtype("f8"): library.NCCL_FLOAT64}
        self.communicator = library.NcclCommunicator(team.size, team.first(library.get_unique_id), team.rank)

    def total(self, arrays: dict[str, Any], idle: bool = False) -> dict[str, Any]:
        """Arrays added over all processes but idle ones, by the tree."""
        cupy = self.cupy

        def add(vectors):
            own = cupy.concatenate(vectors)     # [n]
            if idle:
                own = cupy.negative(cupy.zeros_like(own))           # x + -0.0 is x, for 0.0 and -0.0 too
            terms = cupy.empty((self.size, own.size), own.dtype)    # [P, n]
            self.communicator.allGather(own.data.ptr, terms.data.ptr, own.size, self.types[own.dtype],
                                        cupy.cuda.get_current_stream().ptr)
            while len(terms) > 1:
                terms = terms[0::2] + terms[1::2]                   # [P / 2, n], a level of the tree
            return terms[0]

        return by_type(arrays, add)


def adder(device, team):
    """Who adds the gradients of processes on devices: NCCL where each has its own, else the team, through the host."""
    library = getattr(device.cupy.cuda, "nccl", None)
    mine = (team.machine(), device.number, bool(getattr(library, "available", False)))
    everybody = team.gather([mine])
    apart = len({place[:2] for place in everybody}) == team.size
    return Nccl(device.cupy, library, team) if apart and all(has for *_, has in everybody) else None
