"""python -m bench.leaderboard: train what bench/results/leaderboard_*.json lack, then redraw docs/leaderboard.md.

Runs have one thread each, and with --jobs of several are processes of their own; one that is done is not run again,
one that was cut off goes on, whatever cut it off. MNIST is looked for as by npdvae.train.
"""
from __future__ import annotations

import argparse
import pathlib
import sys
import time

from bench.leaderboard import campaign, gradients, grid, page
from bench.leaderboard.results import Results
from npdvae.sweep import local, lock


def parser(found: grid.Grid):
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.leaderboard", description=__doc__)
    p.add_argument("--only", nargs="+", default=list(found.tasks), choices=list(found.tasks), metavar="TASK",
                   help=f"these tasks: {', '.join(found.tasks)} (default: all, in this order)")
    p.add_argument("--rows", nargs="+", default=list(found.rows), choices=list(found.rows), metavar="ROW",
                   help="these rows of bench/leaderboard.toml (default: all)")
    p.add_argument("--seeds", type=int, metavar="N", help="the first N seeds of each task (default: all)")
    p.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: as many as there are cores)")
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/leaderboard"), help="folder of the runs")
    p.add_argument("--draw", action="store_true", help="tables and figures alone")
    return p


def main(argv=None) -> int:
    """Work on what is missing as the arguments say; exit code 1 where something is left undone."""
    found = grid.read()
    args = parser(found).parse_args(argv)
    left = 0 if args.draw else sum(work(found, found.tasks[name], args) for name in args.only)
    page.write(found)
    return 1 if left else 0


def work(found, task, args) -> bool:
    """Train and measure all rows of a task; whether something could not be done."""
    results, rows = Results(task), [found.rows[name] for name in args.rows]
    jobs, _ = local.share(args.jobs, 1, len(rows) * len(task.rates))
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with lock.held(args.out / f"{task.name}.lock", f"{task.name} in {args.out}"):
        while runs := campaign.wave(task, rows, results, args.seeds):
            print(f"{task.name}: {len(runs)} {'pilots' if runs[0].pilot else 'runs'}, {jobs} at a time", flush=True)
            if campaign.work(runs, results, args.out, jobs, found.models, say) < len(runs):
                return True
        gradients.work(found, task, rows, results, args.out, say)
    print(f"{task.name}: all done, {(time.perf_counter() - began) / 60:.0f} minutes", flush=True)
    return False


def say(text):
    """At once, also into a file."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
