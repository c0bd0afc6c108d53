"""python -m npdvae.train: train a discrete VAE, by default on the embedded digits."""
from __future__ import annotations

import argparse
import contextlib
import pathlib
import shlex
import statistics
import sys
from dataclasses import replace
from typing import Any

from npdvae import build as building
from npdvae import checkpoint, lock, metrics, plots, report, resuming
from npdvae.cli import Parser, guarded
from npdvae.config import Config, with_defaults
from npdvae.parallel import mpi
from npdvae.parallel.alone import ALONE
from npdvae.presets import PRESETS
from npdvae.process import Interrupted, over
from npdvae.settings import add_arguments, own_code, refuse_idle, resolve, to_toml
from npdvae.trainer import Trainer

MANY_CODES = 2 ** 16                            # decoded at every step


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m npdvae.train", usage="%(prog)s [options]",
               description="Train a discrete variational autoencoder "
               "with hand-written gradients. Without options: the embedded 8x8 digits, D=4, K=8, "
               "RLOO with 4 samples, under a minute on 2 cores. All ELBOs are in nats.")
    p.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    p.add_argument("--config", metavar="FILE.toml", help="settings from a TOML file (a run's config.toml, say)")
    p.add_argument("--trust", action="store_true",
                   help="let the run or the file that is read name code of your own (module:Class)")
    p.add_argument("--preset", metavar="NAME", help="published recipe: " + ", ".join(PRESETS))
    add_arguments(p)
    return p


@guarded
def main(argv=None) -> int:
    """Train as the arguments say; returns the exit code."""
    with mpi.team() as team:
        return command(argv, team)


def command(argv, team) -> int:
    """The same as one of a team of processes."""
    arguments = vars(parser().parse_args(argv))
    run, file, preset, trust = (arguments.pop(k) for k in ("resume", "config", "preset", "trust"))
    if run is not None:
        return resume(pathlib.Path(run), arguments, file, preset, trust, team)
    config = team.first(resolve, arguments, preset, file, trust)
    refuse_idle(arguments, config)
    if team is not ALONE and config.shares is None and config.microbatch is None:
        config = replace(config, shares=building.SHARES)
    if config.seeds is not None:
        return several(config, config.seeds, trust, team)
    return one(config, pathlib.Path(config.out) if config.out else team.first(free_folder, config), team)


def one(config: Config, folder: pathlib.Path, team=ALONE) -> int:
    """One fresh run."""
    job = ready(config, team)
    with held(folder, team):
        trainer = Trainer(job, folder)
        trainer.start()
        return finish(trainer)


@contextlib.contextmanager
def held(folder: pathlib.Path, team):
    """Hold a folder (`npdvae.lock`) for all of a team."""
    with contextlib.ExitStack() as stack:
        team.first(lambda: stack.enter_context(lock.held(folder)))
        yield


def ready(config: Config, team=ALONE) -> building.Job:
    """The job of a configuration; what would fail at its end, or take hours a step, is said now."""
    if config.figures:
        plots.check()
    if config.tensorboard:
        metrics.check_tensorboard()
    if team.size > 1:                           # the first alone downloads what is not there yet
        team.first(lambda: building.load_data(with_defaults(config)) and None)
    job = building.build(config, team=team)
    codes = job.model.latent.code_count() if job.config.estimator == "exact" else 0
    if codes > MANY_CODES:
        print(f"npdvae: warning: estimator exact decodes all {codes} codes at each of {job.steps_per_epoch} steps an "
              "epoch, which may take hours", file=sys.stderr)
    return job


def several(config: Config, seeds: list[int], trust=False, team=ALONE) -> int:
    """One run per seed in folders beside one another, and mean and standard deviation over them.

    Given again with --out, what was interrupted goes on, and what is done is not done again.
    """
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds: got {seeds}, expected each seed once")
    folder = pathlib.Path(config.out) if config.out else team.first(free_folder, config)
    ends = []
    for seed in seeds:
        print(f"seed {seed}")
        own, place = replace(config, seed=seed, seeds=None), folder / f"seed{seed}"
        if team.first((place / "config.toml").is_file):
            code = resume(place, changes(own), None, None, trust, team)
        else:
            code = one(own, place, team)
        if code := max(team.gather([code])):
            if seed != seeds[-1]:
                print(f"and then, with the other seeds, with the same command again, --out {shown(folder)}")
            return code
        ends.append(team.first(metrics.read, folder / f"seed{seed}")[-1])
    print(f"\n{len(ends)} seeds: {' '.join(map(str, seeds))}")
    for split in ("train", "test"):
        values = [metrics.elbo(line, split).negative_elbo for line in ends]
        spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        print(f"  {f'{split} negative elbo':22s}{statistics.mean(values):8.2f}{spread} nats "
              f"({', '.join(f'{v:.2f}' for v in values)})")
    return 0


def resume(folder: pathlib.Path, arguments, file, preset, trust=False, team=ALONE) -> int:
    """Go on with a run; settings that would change its trajectory are refused."""
    if not folder.is_dir() or not ((folder / "config.toml").is_file() or checkpoint.listing(folder)):
        raise ValueError(f"--resume {folder}: no run there (no config.toml)")
    if preset is not None:
        raise ValueError("--resume goes on with the run's own settings: drop --preset")
    if file is not None:
        raise ValueError("--resume goes on with the run's own settings: drop --config")
    with held(folder, team):
        config, found = team.first(resuming.agreed, folder, arguments, trust)
        trainer = Trainer(ready(config, team), folder)
        trainer.resume(found)
        step, total = trainer.engine.state.step, config.epochs * trainer.job.steps_per_epoch
        if step >= total:
            done = step // trainer.job.steps_per_epoch
            print(f"nothing to do: {folder} has done its {done} epochs; give more with --epochs")
            return 0
        team.first(metrics.write_text, folder / "config.toml", to_toml(config))    # its new length, for the next
        print(f"resuming {folder} at step {step} of {total}")
        return finish(trainer)


def finish(trainer: Trainer) -> int:
    """Train to the end and sum up."""
    c, d, model, engine = trainer.config, trainer.job.dataset, trainer.job.model, trainer.engine
    print(f"{c.data}: {len(d.train)} training and {len(d.test)} test images of {d.pixels} pixels, binarize "
          f"{c.binarize}; {c.sizes}, {'-'.join(map(str, [d.pixels, *model.hidden]))}, {c.method}; backend "
          f"{model.ops.name}, {c.dtype}, seed {c.seed}\n{engine.name} engine{f' ({engine.why})' if engine.why else ''}"
          f"{f', {trainer.team.size} processes' if trainer.team.size > 1 else ''}")
    try:
        end = trainer.train()
    except Interrupted as signal:
        print(f"interrupted; saved at step {trainer.engine.state.step}. Go on with:\n"
              f"  python -m npdvae.train --resume {shown(trainer.folder)}{' --trust' if own_code(vars(c)) else ''}")
        return signal.code
    if not trainer.writes:
        return 0
    collapsed, reached = trainer.collapsed(), metrics.elbo(end, "test").negative_elbo
    beside = ""
    if collapsed is not None:
        beside = (f", {abs(collapsed - reached):.2f} {'below' if collapsed > reached else 'above'} the collapsed "
                  f"posterior's {collapsed:.2f} (each pixel's training mean)")
    what = "negative ELBO" if model.latent.soft(1.0) is None else "negative deterministic bound"
    print(f"test {what} {reached:.2f} nats{beside}")
    if model.latent.relaxed:
        print(f"{c.method} trains on another cost than the ELBO; the test figures are ELBOs with hard codes from q")
    trust = ["--trust"] if set(own_code(vars(c))) - {"estimator", "optimizer"} else []
    words = " ".join([shown(trainer.folder), *trust])
    print(f"{end['seconds']:.1f} s; run folder {shown(trainer.folder)}; all its numbers with:\n"
          f"  python -m npdvae.evaluate {words}\nand a page to explore it in a browser:\n"
          f"  python -m npdvae.explore {words}")
    return report.main([*trust, "--", str(trainer.folder)]) if c.figures else 0


def shown(folder: pathlib.Path) -> str:
    """A folder as a shell takes it."""
    return shlex.quote(f"./{folder}" if str(folder).startswith("-") else str(folder))


def changes(config: Config) -> dict[str, Any]:
    """The settings that are not defaults, but for the folder."""
    usual = vars(Config())
    return {name: value for name, value in vars(config).items() if value != usual[name] and name != "out"}


def free_folder(config: Config) -> pathlib.Path:
    """A run folder of its own: runs/<data>-<latent and estimator>-<K>x<D>-seed<seed>, numbered where that exists."""
    data = pathlib.Path(config.data).stem
    config = with_defaults(config)
    method = "-".join(word.split(":")[-1] for word in config.method.split())
    size = f"{config.categories}x{config.latents}" if config.categories else f"{config.latents}"
    name = f"{data}-{method}-{size}"
    name += f"-seed{config.seed}" if config.seeds is None else "-seeds"
    folder, n = pathlib.Path("runs") / name, 1
    while folder.exists():
        n += 1
        folder = pathlib.Path("runs") / f"{name}-{n}"
    return folder


if __name__ == "__main__":
    sys.exit(over(main()))
