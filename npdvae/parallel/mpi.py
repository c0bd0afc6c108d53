"""mpi4py, imported only in a process that was started by MPI."""
from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import time

import numpy as np

from npdvae.cli import one_line
from npdvae.parallel.alone import ALONE, Alone
from npdvae.parallel.guard import Guard
from npdvae.parallel.team import Team

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")     # what launchers set
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")
PATIENCE = 2                                    # seconds that a process which failed waits for the others to fail too


def launched() -> bool:
    """Whether this process was started by mpiexec, mpirun or srun with MPI."""
    return any(name in os.environ for name in (*SIZES, "PMIX_RANK"))    # the last from srun, which tells no size


@contextlib.contextmanager
def team():
    """The team of this process, ALONE unless MPI started it; all but the first are silent from here on.

    A process that fails when others do not ends them all, with a line that names it.
    """
    if silent := any(os.environ.get(name, "0") != "0" for name in RANKS):
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    try:
        found = join() if launched() else ALONE
    except Exception as error:
        if silent:                              # the first may not meet it, and cannot be asked
            say(f"on {socket.gethostname()}", error)
        raise
    if not isinstance(found, Team):
        yield found
        return
    with Guard(found) as guard:
        try:
            yield found
        except Exception as error:
            if not all_end(found):
                say_and_abort(found, guard, error)
            raise
        found.wait()                            # for the first, which may still be writing


def join() -> Team | Alone:
    """The team of all processes that MPI has started, those of a machine beside one another."""
    said = [int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdigit()]
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if said == [1]:                         # SLURM says so to every task
            return ALONE
        raise ValueError(f"started by MPI, but mpi4py cannot be imported ({one_line(error)}): "
                         'pip install "npdvae[mpi]"') from None
    if said and MPI.COMM_WORLD.size != said[0]:
        raise ValueError(f"started as one of {said[0]} processes, but mpi4py sees {MPI.COMM_WORLD.size}: it was built "
                         "for another MPI than that of mpiexec")
    return arranged(MPI, MPI.COMM_WORLD)


def arranged(MPI, world) -> Team:
    """The team of a communicator; processes of a machine share memory where all machines have 2^k of them, as many."""
    here = world.Split_type(MPI.COMM_TYPE_SHARED, world.rank)
    leader = here.bcast(world.rank)
    comm = world.Split(0, sorted((m, r) for r, m in enumerate(world.allgather(leader))).index((leader, world.rank)))
    sizes = set(comm.allgather(here.size))
    if len(sizes) > 1 or here.size & (here.size - 1) or here.size == 1:
        return Team(comm, end=comm.Dup(), here=here)
    return Team(comm, Node(MPI, here), comm.Split(here.rank, comm.rank), comm.Dup(), here)


class Node:
    """The processes of one machine."""

    def __init__(self, MPI, comm):
        self.MPI, self.comm, self.rank, self.size = MPI, comm, comm.rank, comm.size
        self.barrier = comm.Barrier

    def allocate(self, size: int) -> Shared:
        """So many bytes of each process, which all can read and write."""
        return Shared(self.MPI.Win.Allocate_shared(max(size, 1), 1, comm=self.comm))

    def room(self) -> int:
        """Bytes of shared memory that are free."""
        return shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 2 ** 62


class Shared:
    """A window of shared memory."""

    def __init__(self, window):
        self.window, self.sync = window, window.Sync
        window.Lock_all()

    def part(self, rank: int, dtype) -> np.ndarray:
        """The memory of one process."""
        memory = self.window.Shared_query(rank)[0]
        return np.frombuffer(memory, dtype, len(memory) // dtype.itemsize)

    def free(self):
        self.window.Unlock_all()
        self.window.Free()


def all_end(team: Team) -> bool:
    """Whether all processes have failed, of the same cause most likely, within a short while."""
    request, start = team.end.Ibarrier(), time.monotonic()
    while not request.Test():
        if time.monotonic() - start > PATIENCE:
            return False
        time.sleep(0.01)
    return True


def say(where: str, error: Exception):
    """One line on stderr, of a silent process too."""
    kind = "" if isinstance(error, (ValueError, OSError, MemoryError)) else f"{type(error).__name__}: "
    os.write(2, f"npdvae: error: {where}: {kind}{one_line(error)}\n".encode())


def say_and_abort(team: Team, guard: Guard, error: Exception):
    """End all processes, with one line."""
    say(f"rank {team.rank} of {team.size}", error)
    guard.dismiss()
    sys.stdout.flush()
    team.comm.Abort(2)
