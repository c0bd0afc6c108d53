"""Threads that do one segment after another beside the one that calls, and end with it whatever happens."""
from __future__ import annotations

import threading

import numpy as np

from npdvae.fused.panels import kernels
from npdvae.kernels.cpu.fused_worker import DONE, OPENED, QUIT, counters, work
from npdvae.kernels.cpu.pace import ENTRIES


def once(count, program, mem, ints, examples):
    """A program of no more than arithmetic, on so many examples, by `count` workers."""
    none = np.zeros((1, 1), np.uint8)
    with Workers(count, program, 1, np.zeros(ENTRIES, np.int64), (
            mem, ints, none, none.astype("f4"), np.arange(examples), examples, 0, 0, 0, np.zeros(3, np.int64), 0, 0, 0,
            0, 0, np.zeros(3))) as workers:
        workers.run(1)


class Workers:
    """`with Workers(...) as workers: workers.run(end)`: segments up to `end`, counted over all steps, are done.

    Between segments the others wait at a gate in compiled code, and soon asleep on a condition. They are started by
    the first segment; leaving the block, by an exception or not, ends them.
    """

    def __init__(self, count, program, steps, pace, arguments):
        table, stages, segments = program
        self.sync = np.zeros(counters(len(stages), steps), np.int64)
        self.segments, self.segment, self.called, self.asleep, self.over = steps * len(segments), 0, 0, 0, False
        self.arguments = (count, table, stages, segments, *arguments, np.zeros((steps, 2)), self.sync, pace,
                          kernels(table))
        self.peers = [threading.Thread(target=self.serve, args=(i,), daemon=True) for i in range(1, count)]
        self.waiting = threading.Condition()

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.over, self.sync[QUIT] = True, 1
        with self.waiting:
            self.waiting.notify_all()
        for peer in self.peers:
            if peer.ident is not None:
                peer.join()

    @property
    def done(self):
        """Steps whose last segment is done."""
        return int(self.sync[DONE])

    def serve(self, worker):
        """The life of a peer."""
        segment = 0
        while segment < self.segments and not self.over:
            segment = work(worker, segment, self.segments, *self.arguments)
            with self.waiting:
                self.asleep += 1                # before it looks what is called, which `call` says before it looks here
                while self.called <= segment < self.segments and not self.over:
                    self.waiting.wait()
                self.asleep -= 1

    def call(self, end):
        """Have all peers awake for the segments up to `end`."""
        if not self.called:
            for peer in self.peers:
                peer.start()
        self.called = end
        if self.asleep:
            with self.waiting:
                self.waiting.notify_all()

    def run(self, end):
        """Do the segments up to `end`, with everybody's help."""
        self.call(end)
        self.segment = work(0, self.segment, end, *self.arguments)

    def post(self, end):
        """Let the peers begin with the segments up to `end`, which the next `run` will finish."""
        self.call(end)
        self.sync[OPENED] = end
