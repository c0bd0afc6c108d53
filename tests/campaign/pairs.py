"""Two processes on one run folder, every command beside every other: one writer, no reader hurt, no history doubled."""
from __future__ import annotations

import itertools
import shutil

from npdvae import checkpoint, compare, evaluate, metrics, report, sample, train
from tests import hostile
from tests.campaign.base import Child, Tally, quiet, verdict


def commands(run):
    """Every command that reads or writes a run folder."""
    return {"train": (train, [*hostile.SMALL, "--epochs", "4", "--out", run]),
            "resume": (train, ["--resume", run, "--epochs", "6", "--checkpoint-every", "1", "--no-figures"]),
            "evaluate": (evaluate, [run, "--samples", "1"]), "sample": (sample, [run, "--count", "2"]),
            "report": (report, [run, "--samples", "1"]),
            "compare": (compare, [run, "--images", "2", "--estimator", "rloo", "--draws", "256"])}


def attacks(place, share, seed):
    """All 21 pairs, several times."""
    tally = Tally("two processes on one run folder, every pairing of commands")
    original, run = quiet(hostile.small_run, place / "original"), place / "run"
    pairs = list(itertools.combinations_with_replacement(commands(""), 2))
    rounds, step = (max(1, round(5 * share)), 1) if share >= 0.1 else (1, 3)
    for turn, (a, b) in itertools.product(range(rounds), pairs[::step]):
        shutil.rmtree(run, ignore_errors=True)
        if {a, b} != {"train"}:
            shutil.copytree(original, run)
        both = [Child(command.main, words) for command, words in (commands(str(run))[name] for name in (a, b))]
        ends = [one.wait() for one in both]
        steps = [line["step"] for line in metrics.read(run)]
        fault = verdict(ends[0], measured=False) or verdict(ends[1], measured=False)
        if not fault and (steps != sorted(set(steps)) or metrics.history(run).faults):
            fault = f"history: steps {steps}"
        if not fault and checkpoint.latest(run).refused:
            fault = "a checkpoint is damaged"
        if not fault and a == b == "resume" and sorted(o.code for o in ends) == [0, 0] and len(steps) != 6:
            fault = "both wrote"
        tally.add(f"--only pairs, {a} beside {b}, round {turn}", fault)
    yield tally
