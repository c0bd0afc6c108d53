"""Teams without MPI: each process a thread, messages by queues, shared memory by arrays."""
import contextlib
import ctypes
import pickle
import queue
import threading

import numpy as np

from npdvae.parallel.team import Team

TURN = threading.Lock()                         # one thread computes at a time, until it waits: none disturbs another
PATIENCE = 60                                   # seconds until a test that hangs fails
MOST = 10_000                                   # messages of a process: more are a loop


@contextlib.contextmanager
def waiting():
    """Another thread's turn within, where this one is of `each`."""
    TURN.release()
    try:
        yield
    finally:
        TURN.acquire()


class World:
    """What the threads of a communicator share."""

    def __init__(self, size):
        self.size, self.barrier, self.slots = size, threading.Barrier(size), [None] * size
        self.lines = {(a, b): queue.Queue() for a in range(size) for b in range(size)}


class Comm:
    """What of mpi4py's communicators and of `npdvae.parallel.mpi.Node` the sums and the team use."""

    def __init__(self, world, rank):
        self.world, self.rank, self.size, self.sent, self.messages = world, rank, world.size, 0, 0

    def barrier(self):
        with waiting():
            self.world.barrier.wait(PATIENCE)

    def allgather(self, item):
        self.world.slots[self.rank] = pickle.dumps(item)
        self.barrier()
        found = [pickle.loads(slot) for slot in self.world.slots]
        self.barrier()
        return found

    def bcast(self, item):
        return self.allgather(item)[0]

    def Sendrecv(self, send, to, tag, receive, source, other):
        assert send.flags.c_contiguous and receive.flags.c_contiguous
        self.world.lines[self.rank, to].put((tag, send.copy()))
        with waiting():
            sent, receive[:] = self.world.lines[source, self.rank].get(timeout=PATIENCE)
        assert sent == other
        self.sent, self.messages = self.sent + send.size, self.messages + 1
        assert self.messages < MOST

    def allocate(self, size):
        sizes = self.allgather(size)
        if self.rank == 0:
            self.world.memory = [np.zeros(n, np.uint8) for n in sizes]
        self.barrier()
        memory = self.world.memory
        self.barrier()
        return Memory(memory)

    def room(self):
        return 2 ** 40


class Memory:
    """A window of shared memory."""

    def __init__(self, memory):
        self.memory = memory

    def part(self, rank, dtype):
        return self.memory[rank].view(dtype)

    def sync(self):
        pass

    def free(self):
        pass


def teams(size, local=1):
    """Teams of `size` processes, `local` of them on each machine."""
    world, machines = World(size), [World(local) for _ in range(size // local)]
    columns = [World(size // local) for _ in range(local)]
    here = [Comm(machines[r // local], r % local) for r in range(size)]
    return [Team(Comm(world, r), *((here[r], Comm(columns[r % local], r // local)) if local > 1 else ()), here=here[r])
            for r in range(size)]


def each(act, members):
    """What act(member) gives for all of them at once; the first error is raised. Interrupted, it leaves none behind."""
    results, errors = [None] * len(members), []

    def work(i):
        try:
            with TURN:
                results[i] = act(members[i])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(members))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)                # signals are handled between waits alone
    except BaseException:
        begun = [thread for thread in threads if thread.ident]
        for thread in begun:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        for thread in begun:                    # one may hold the turn that another waits for
            thread.join()
        raise
    if errors:
        raise errors[0]
    return results
