"""python -m npdvae.sweep: train every combination of a grid of settings, on this machine or on many."""
from __future__ import annotations

import argparse
import contextlib
import importlib
import pathlib
import shlex
import sys

from tqdm import tqdm

from npdvae import plots, process
from npdvae.cli import Parser, guarded
from npdvae.sweep import figure, grid, local, lock, status, table, tasks

ENGINES = ("local", "dask", "slurm")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m npdvae.sweep", description="Train every combination of a grid of "
               "settings; what is there already is kept, and what was cut off goes on.")
    p.add_argument("grid", nargs="?", metavar="GRID.toml", help="[base] settings of all runs, [grid] lists of values, "
                   "[[also]] further settings at the grid's seeds")
    p.add_argument("--out", metavar="FOLDER", help="the sweep's folder (default: sweeps/GRID)")
    p.add_argument("--engine", choices=ENGINES, default="local", help="what runs the tasks (default: local)")
    p.add_argument("--jobs", type=int, metavar="N", help="tasks at a time (default: as many as there are cores)")
    p.add_argument("--threads", type=int, metavar="N", help="threads of each task (default: cores / jobs; 1 elsewhere)")
    p.add_argument("--devices", nargs="+", metavar="N", help="CUDA devices of this machine, one task on each")
    p.add_argument("--cluster", default="local", metavar="WHERE", help="of dask: local, tcp://HOST:PORT, "
                   "ssh:HOST,HOST, slurm:PARTITION (default: local)")
    p.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="an option of sbatch for every job, "
                   "as in --sbatch=--time=4:00:00; may be repeated")
    p.add_argument("--retries", type=int, default=3, metavar="N", help="times that a task is started again after it "
                   "was killed without having got any further (default: 3)")
    p.add_argument("--trust", action="store_true", help="let the grid name code of your own (module:Class)")
    p.add_argument("--status", metavar="FOLDER", help="say how far a sweep is, and nothing else")
    p.add_argument("--task", metavar="FOLDER", help="work on one task of a sweep (what the engines call)")
    p.add_argument("--leash", action="store_true", help=argparse.SUPPRESS)
    return p


@guarded
def main(argv=None) -> int:
    """Sweep as the arguments say; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    if args.task:
        if args.leash:
            tasks.leash()
        return tasks.work(pathlib.Path(args.task), args.threads or 1, args.trust)
    if args.status:
        print("\n".join(status.lines(pathlib.Path(args.status))))
        return 0
    if args.grid is None:
        raise ValueError("which grid? expected GRID.toml, or --status FOLDER")
    if args.retries < 0:
        raise ValueError(f"--retries: got {args.retries}, expected not negative")
    for name in ("jobs", "threads"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name}: got {getattr(args, name)}, expected at least 1")
    found = grid.read(args.grid, args.trust, here=args.engine == "local")
    return sweep(args, found, f"python -m npdvae.sweep {shlex.join(argv)}")


def sweep(args, found, again) -> int:
    """Run what the folders lack, then write table and figure."""
    out = pathlib.Path(args.out or pathlib.Path("sweeps") / pathlib.Path(args.grid).stem)
    out.mkdir(parents=True, exist_ok=True)
    plan = planned(args, out, len(found))
    engine = importlib.import_module(f"npdvae.sweep.{args.engine}")
    with lock.held(out / "lock", str(out)):
        tasks.prepare(out, found)
        names = [task.name for task in found if tasks.state(out / task.name) != "done"]
        for name in names:
            (out / name / tasks.FAILED).unlink(missing_ok=True)
        try:
            follow(engine.run(plan, names), plan, len(found), names)
        except KeyboardInterrupt as interrupt:
            print(f"interrupted; every task has saved. Go on with:\n  {again}")
            return 128 + int(str(interrupt))
        return finish(out)


def planned(args, out, count) -> tasks.Plan:
    """Who runs how much; ValueError where the options do not fit together."""
    jobs, threads = args.jobs, args.threads or 1
    if args.engine == "local" or (args.engine, args.cluster) == ("dask", "local"):
        jobs, threads = local.share(jobs or (len(args.devices) if args.devices else None), args.threads, count)
    if args.devices and args.engine != "local":
        raise ValueError("--devices is for --engine local")
    if args.cluster != "local" and args.engine != "dask":
        raise ValueError("--cluster is for --engine dask")
    return tasks.Plan(out, jobs, threads, args.retries, args.cluster, args.devices, args.sbatch, args.trust)


def follow(ends, plan, total, names):
    """Show each task's end as it comes."""
    print(f"{total} tasks, {total - len(names)} done already" + (
        f"; {plan.jobs} at a time, {plan.threads} thread{'s' * (plan.threads > 1)} each" if plan.jobs else ""))
    with process.signals(interrupt), contextlib.closing(ends), tqdm(
            total=total, initial=total - len(names), unit="task", disable=None, dynamic_ncols=True) as bar:
        for name in ends:
            result = tasks.result(plan.out / name)
            bar.write(f"{name}  test negative ELBO {result['test_negative_elbo']:.2f}" if result else
                      f"{name}  {tasks.state(plan.out / name)}: {tasks.last_line(plan.out / name)}")
            bar.update()


def interrupt(number, frame):
    """A signal's handler: leave, whatever is being done."""
    raise KeyboardInterrupt(number)


def finish(out) -> int:
    """Write and print the results; exit code 1 where a task is not done."""
    made = table.write(out)
    keys, found = table.rows(out)
    if any(group["seeds"] for group in made):
        plots.save(figure.draw(out, keys, found, made), out / "sweep.png")
        print("\ntest negative ELBO, nats per image")
    for group in made:
        if seeds := len(group["seeds"]):
            end = group["test_negative_elbo"]
            spread = f" +- {end['std']:.2f}" if end["std"] is not None else ""
            print(f"  {end['mean']:8.2f}{spread}  {figure.label(group)}  ({seeds} seed{'s' * (seeds > 1)})")
    print(f"{out / 'sweep.csv'}, sweep.json, sweep.png")
    left = sum(row["state"] != "done" for row in found)
    if left:
        print(f"{left} of {len(found)} tasks are not done; the same command tries them again")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(process.over(main()))
