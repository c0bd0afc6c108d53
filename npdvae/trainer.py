"""The training loop: epochs, evaluation, checkpoints, metrics; interrupted at any step and resumed to the same bits."""
from __future__ import annotations

import json
import math
import pathlib
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from npdvae import checkpoint, metrics, process, rng, saved
from npdvae.build import Job, fingerprint, fresh_state
from npdvae.process import Interrupted
from npdvae.settings import to_toml
from npdvae.state import pack


class Trainer:
    """One run in one folder, which the caller holds (`npdvae.lock`)."""

    def __init__(self, job: Job, folder: pathlib.Path, say=print):
        self.job, self.folder, self.say = job, folder, say
        self.config, self.engine, self.team = job.config, job.engine, job.team
        self.writes = job.team.rank == 0        # the others only compute
        self.sums = np.zeros(3)                 # images, cost, KL of the epoch so far
        self.best = math.inf                    # lowest validation negative ELBO
        self.stop = 0                           # the signal that arrived
        self.pace = 0.3                         # seconds per step; steps run in groups of about 0.3 s, the first alone
        self.warm = False                       # whether kernels are loaded: the first step may compile them
        self.began = time.perf_counter()
        self.data = fingerprint(job.dataset)
        self.tensorboard: Any = None
        self.fresh: Any = None                  # the state before the first step

    def start(self):
        """Make the run folder and begin; the folder must not hold a run, or parts of one."""
        self.team.first(self.occupy)
        self.begin(fresh_state(self.job))

    def begin(self, fresh, state=None):
        """Load a state, else the fresh one; what is saved later must be like the fresh one."""
        self.fresh = fresh
        self.engine.load(fresh if state is None else state)

    def occupy(self):
        """Write the first file of the run."""
        parts = ["config.toml", metrics.NAME, "best.safetensors", *(p.name for p in checkpoint.listing(self.folder))]
        for name in parts:
            if (self.folder / name).exists():
                raise ValueError(f"{self.folder} already holds a run ({name}): choose another --out, or go on with "
                                 f"--resume {self.folder}")
        self.folder.mkdir(parents=True, exist_ok=True)
        metrics.write_text(self.folder / "config.toml", to_toml(self.config))

    def resume(self, found: saved.Saved | None):
        """Go on from a checkpoint, or from the start where none was written yet."""
        fresh = fresh_state(self.job, begin=found is None)
        if found is None:
            self.begin(fresh)
            self.team.first(metrics.cut, self.folder, 0, 0, self.say)
            return
        if found.data != self.data:
            raise ValueError(f"{self.folder}: the training data are not those of the run: expected pixels with digest "
                             f"{found.data:.50}, got {self.data}")
        saved.fit_state(found, fresh)
        if found.engine not in ("", self.engine.name):
            self.say(f"{found.engine!a:.20} trained this run so far, {self.engine.name!r} goes on: other rounding")
        self.begin(fresh, found.state)
        self.sums, self.best = found.sums, found.best
        step = found.state.step
        self.team.first(metrics.cut, self.folder, step, step // self.job.steps_per_epoch, self.say)

    def save(self, path=None):
        """Write a checkpoint (to the folder unless a path is given)."""
        state = self.sound(self.engine.save())
        saved.finite(state.params, f"training diverged at step {state.step}, nothing saved: parameters")
        arrays = pack(state) | {"progress/sums": self.sums, "progress/best": np.array(self.best)}
        meta = {"step": str(state.step), "data": self.data, "engine": self.engine.name, "config": to_toml(self.config),
                "pixels": str(self.job.dataset.pixels), "shape": json.dumps(self.job.dataset.shape)}
        return checkpoint.save(path or self.folder, arrays, meta, self.config.keep_checkpoints)

    def sound(self, state):
        """The state; ValueError where a part changed names, shapes or types, so that nothing could go on from it."""
        if wrong := saved.unlike(state, self.fresh):
            raise ValueError(f"nothing saved at step {state.step}: in the state after a step {wrong}")
        return state

    def train(self) -> dict[str, Any]:
        """Run to the last epoch; returns the last epoch's metrics. Raises Interrupted after saving."""
        per_epoch = self.job.steps_per_epoch
        total = self.config.epochs * per_epoch
        self.tensorboard = metrics.writer(self.folder) if self.config.tensorboard and self.writes else None
        last: dict[str, Any] = {}
        try:
            with process.signals(self.on_signal), tqdm(total=total, initial=self.engine.state.step, unit="step",
                                                       disable=None, leave=False, dynamic_ncols=True) as bar:
                while self.engine.state.step < total:
                    last = self.epoch(self.engine.state.step // per_epoch, per_epoch, bar)
        finally:
            if self.tensorboard:
                self.tensorboard.close()
        return last

    def epoch(self, epoch, per_epoch, bar):
        """The rest of one epoch from the current step on, its evaluation and its checkpoint."""
        shuffle = rng.Generator(self.config.seed, rng.SHUFFLE)
        order = shuffle.at(epoch).permutation(len(self.job.dataset.train))
        began, groups = time.perf_counter(), []
        size = self.config.batch_size
        while (done := self.engine.state.step - epoch * per_epoch) < per_epoch:
            n = self.team.first(min, per_epoch - done, self.steps_to_checkpoint(), max(1, int(0.3 / self.pace)))
            before = time.perf_counter()
            rows = order[done * size:(done + n) * size]
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):     # what is not finite is said in add
                self.add(len(rows), self.engine.run(rows))
            groups.append((max(1e-9, time.perf_counter() - before), n))  # clocks may stand still
            self.pace = groups[-1][0] / n
            if not (self.warm or groups[1:]):
                self.sound(self.engine.save())
            bar.update(n)
            bar.set_postfix_str(f"negative ELBO {self.sums[1:].sum() / self.sums[0]:.2f}", refresh=False)
            last = self.engine.state.step == (epoch + 1) * per_epoch
            self.stop = max(self.team.gather([self.stop]))
            if self.stop and not last:
                if self.writes:
                    self.save()
                raise Interrupted(self.stop)
            every = self.config.checkpoint_every
            if self.writes and every and self.engine.state.step % every == 0 and not last:
                path = self.save()
                bar.write(f"saved {path.name}")
        seconds = time.perf_counter() - began
        splits = {"test": self.job.dataset.test, "validation": self.job.validation}
        found = {name: self.engine.evaluate(rows) for name, rows in splits.items() if rows is not None}
        line = self.finish_epoch(epoch, found, seconds, self.seconds_per_step(groups), bar) if self.writes else {}
        self.sums, self.stop = np.zeros(3), max(self.team.gather([self.stop]))
        if self.stop and self.engine.state.step < self.config.epochs * per_epoch:
            raise Interrupted(self.stop)
        return line

    def seconds_per_step(self, groups):
        """Mean over groups of steps (seconds, steps), without the first step of this process where there are others."""
        counted = groups if self.warm else groups[1:] or groups
        self.warm = True
        return sum(seconds for seconds, _ in counted) / sum(n for _, n in counted)

    def add(self, images, parts):
        """Add the sums of cost and KL of some steps [n, 2], one by one: how steps are grouped must not change a bit."""
        self.sums = self.sums + [images, 0, 0]
        for part in parts:
            self.sums[1:] += part
        if not np.isfinite(self.sums).all():
            raise ValueError(f"training diverged: the loss is no longer finite at step {self.engine.state.step}; "
                             "try a smaller --lr, or --clip-norm")

    def steps_to_checkpoint(self):
        """Steps until the next checkpoint within the epoch."""
        every = self.config.checkpoint_every
        return every - self.engine.state.step % every if every else math.inf

    def finish_epoch(self, epoch, found, seconds, pace, bar):
        """Record and save: metrics first, so that a checkpoint never lacks its line; found: cost and KL by split."""
        n, cost, kl = self.sums
        step, job = self.engine.state.step, self.job
        line = {"epoch": epoch + 1, "step": step, **metrics.named("train", cost, kl, n)}
        for name, parts in found.items():
            line |= metrics.named(name, *parts)
        recipe = self.engine.recipe
        line |= {"lr": recipe.lr(step - 1), "kl_weight": recipe.kl_weight(step - 1)}
        line |= {f"estimator_{k}": float(v) for k, v in (self.engine.save().latent or {}).items()
                 if v.ndim == 0 and v.dtype.kind == "f"}
        line |= {"seconds": time.perf_counter() - self.began, "seconds_per_epoch": seconds, "seconds_per_step": pace}
        line = {k: float(v) if isinstance(v, np.floating) else v for k, v in line.items()}
        metrics.finite(line, f"training diverged at step {step}")
        metrics.append(self.folder / "metrics.jsonl", json.dumps(line))
        if self.tensorboard:
            for k, v in line.items():
                self.tensorboard.add_scalar(k, v, step)
        self.sums = np.zeros(3)
        reached = {name: metrics.elbo(line, name) for name in ("train", "test", "validation")
                   if name != "validation" or job.validation is not None}
        better = "validation" in reached and reached["validation"].negative_elbo < self.best
        if better:                              # saved first: a checkpoint that knows of it never stands without it
            self.best = reached["validation"].negative_elbo
            self.save(self.folder / "best.safetensors")
        path = self.save()
        held = f"  validation {reached['validation'].negative_elbo:.2f}" if "validation" in reached else ""
        test = reached["test"]
        bar.write(f"epoch {epoch + 1:>{len(str(self.config.epochs))}}/{self.config.epochs}  negative ELBO: train "
                  f"{reached['train'].negative_elbo:.2f}{held}  test {test.negative_elbo:.2f} "
                  f"(cost {test.cost:.2f} + KL {test.kl:.2f})  {pace * 1e3:.2f} ms/step  {path.name}")
        return line

    def on_signal(self, number, frame):
        """Stop after the steps in flight."""
        self.stop = number

    def collapsed(self):
        """Negative ELBO of predicting each pixel's training mean, on the test split, in nats, or None."""
        d = self.job.dataset
        return self.job.model.likelihood.collapsed(d.train, d.test, d.levels)
