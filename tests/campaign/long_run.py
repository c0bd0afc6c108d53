"""20,000 steps: memory stays flat to 1 %."""
from __future__ import annotations

import os

from npdvae import train, trainer
from tests import hostile
from tests.campaign.base import Tally, child


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def watched(words):
    """A training that prints its size at the end of every epoch."""
    finish = trainer.Trainer.finish_epoch

    def finished(self, *arguments):
        line = finish(self, *arguments)
        print("size", self.engine.state.step, resident())
        return line

    trainer.Trainer.finish_epoch = finished
    return train.main(words)


def attacks(place, share, seed):
    """The size after a tenth of the steps beside the size at the end."""
    for backend in ("numpy", "numba"):
        steps = max(600, round(20_000 * share))
        epochs = -(-steps // 27)
        tally = Tally(f"a run of {epochs * 27:,} steps ({backend}): memory at its end within 1 % of that after a tenth")
        words = [*hostile.SMALL, "--backend", backend, "--batch-size", "50", "--epochs", str(epochs)]
        o = child(watched, [*words, "--out", str(place / backend)])
        sizes = [int(text.split()[2]) for text in o.out.splitlines() if text.startswith("size ")]
        growth = sizes[-1] / sizes[len(sizes) // 10] - 1 if sizes else float("nan")
        tally.add(f"--only long_run, {backend}", None if o.code == 0 and growth < 0.01 else
                  f"code {o.code}, {100 * growth:.2f} % more; {o.err[-200:]}")
        tally.note = f"{100 * growth:+.2f} %"
        yield tally
        if share < 0.1:
            return
