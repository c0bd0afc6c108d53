"""What is still to be trained, in waves: pilots of all rows, then every row's first seed, then the second ..."""
from __future__ import annotations

import contextlib
import shutil

from bench.leaderboard.grid import Run
from bench.leaderboard.results import entry
from npdvae.sweep import grid as sweep_grid
from npdvae.sweep import local, tasks


def pilots(task, row):
    """The runs that choose a row's learning rate."""
    return [Run(task, row, lr, task.seeds[0], pilot=True) for lr in task.rates]


def rate(task, row, results) -> float | None:
    """The rate whose pilot ended lowest, in the mean of its last epochs (`results.judged`).

    None before all have ended, and where all have diverged.
    """
    found = {run.lr: results.get(run) for run in pilots(task, row)}
    if None in found.values():
        return None
    reached = {lr: f["validation"] for lr, f in found.items() if "validation" in f}
    return min(reached, key=reached.get) if reached else None


def finals(task, row, results, seeds=None):
    """The runs of a row at its rate, a seed each; none before the rate is known."""
    lr = rate(task, row, results)
    return [] if lr is None else [Run(task, row, lr, seed) for seed in task.seeds[:seeds]]


def wave(task, rows, results, seeds=None) -> list[Run]:
    """The runs to do next; empty when all are done."""
    rows = [row for row in rows if row.name not in task.without]
    if first := [run for row in rows for run in pilots(task, row) if results.get(run) is None]:
        return first
    left = [run for row in rows for run in finals(task, row, results, seeds) if results.get(run) is None]
    return [run for run in left if run.seed == min(left, key=lambda r: task.seeds.index(r.seed)).seed]


def work(runs, results, out, jobs, keep=(), say=print) -> int:
    """Train some runs, each in a process with one thread; how many ended and are entered.

    A run that was cut off goes on where it was. Folders go when their results are entered, but those of rows in `keep`.
    """
    out.mkdir(parents=True, exist_ok=True)
    named = {run.folder: run for run in runs}
    tasks.prepare(out, [sweep_grid.Task(name, run.config()) for name, run in named.items()])
    for name in named:
        (out / name / tasks.FAILED).unlink(missing_ok=True)
    entered = 0
    engine = local.run if jobs > 1 else in_turn
    with contextlib.closing(engine(tasks.Plan(out, jobs), list(named))) as ends:
        for name in ends:
            run, found = named[name], ended(out / name, named[name])
            if found is None:
                say(f"{run.task.name}: {run.key}: {tasks.state(out / name)}: {tasks.last_line(out / name)}")
                continue
            results.add(run, found)
            entered += 1
            reached = found["test"][-1] if "test" in found else found.get("validation", found)
            say(f"{run.task.name}: {'pilot, ' * run.pilot}{run.key}: {reached}, {found.get('ms')} ms a step")
            if run.pilot or run.row.name not in keep or run.seed != run.task.seeds[0]:
                shutil.rmtree(out / name)
    return entered


def in_turn(plan, names):
    """Work on the tasks in this process, which spares each the start of its own; yields each name at its end."""
    for name in names:
        with open(plan.out / name / tasks.LOG, "a") as log, contextlib.redirect_stdout(log), \
                contextlib.redirect_stderr(log):
            code = tasks.work(plan.out / name, plan.threads)
        if code > tasks.INTERRUPTED:
            raise KeyboardInterrupt(code - tasks.INTERRUPTED)
        yield name


def ended(folder, run):
    """The entry of a run that is done or has diverged; None where something else stopped it."""
    if tasks.result(folder) is not None:
        return entry(folder, run.pilot)
    line = tasks.last_line(folder)
    return {"diverged": line[-120:]} if tasks.state(folder) == "failed" and "diverged" in line else None


def diverged(task, row, results) -> bool:
    """Whether a row has diverged at every rate, or with every seed."""
    first = [results.get(run) for run in pilots(task, row)]
    last = [results.get(run) for run in finals(task, row, results)]
    return any(found and all("diverged" in (f or {}) for f in found) for found in (first, last))
