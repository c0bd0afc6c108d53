"""bench/leaderboard.toml: tasks, rows, and the one run for each of row, learning rate, seed and length."""
from __future__ import annotations

import hashlib
import json
import pathlib
import re
from typing import Any, NamedTuple

from npdvae import backends, build, latents
from npdvae.config import Config, with_defaults
from npdvae.settings import from_mapping, load_toml, resolve

FILE = pathlib.Path(__file__).parent.parent / "leaderboard.toml"
HELD = 0.1                                      # fraction of the training images that pilots hold out


class Row(NamedTuple):
    """An estimator or a latent with its options."""

    name: str
    settings: dict[str, Any]
    bits: bool = False                          # two categories

    @property
    def latent(self):
        return self.settings.get("latent", "categorical")


class Task(NamedTuple):
    """A data set and a model, and how runs on it are chosen."""

    name: str
    title: str
    settings: dict[str, Any]
    rates: list[float]
    seeds: list[int]
    pilot: int                                  # epochs
    bits: dict[str, Any] = {}
    instead: dict[str, dict[str, Any]] = {}     # by row
    without: dict[str, str] = {}                # by row: why


class Run(NamedTuple):
    """One training."""

    task: Task
    row: Row
    lr: float
    seed: int
    pilot: bool = False

    @property
    def epochs(self):
        return self.task.pilot if self.pilot else self.task.settings["epochs"]

    @property
    def key(self):
        """What results call it."""
        return f"{self.row.name} | {self.lr:g} | seed {self.seed}"

    def settings(self) -> dict[str, Any]:
        """All that is said of it, by names of `npdvae.config`."""
        task, row = self.task, self.row
        found = {**task.settings, **(task.bits if row.bits else {}), **row.settings, **task.instead.get(row.name, {}),
                 "lr": self.lr, "seed": self.seed, "epochs": self.epochs}
        if "categories" not in latents.registry.takes(row.latent):
            del found["categories"]
        return {**found, "validation": HELD} if self.pilot else found

    @property
    def digest(self):
        """Of its settings: a result of other settings is another run's."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def folder(self):
        """The name of its run folder."""
        words = [*re.findall(r"[\w.]+", self.key), *["pilot"] * self.pilot, self.digest]
        return "-".join([self.task.name, *words])

    def config(self) -> Config:
        """Checked, with one checkpoint and no figures."""
        settings = from_mapping(self.settings(), f"{FILE.name}, {self.task.name}, {self.row.name}")
        return with_defaults(resolve({**settings, "figures": False, "keep_checkpoints": 1}))


class Grid(NamedTuple):
    """All of the file."""

    tasks: dict[str, Task]
    rows: dict[str, Row]
    curves: list[str]                           # rows with curves in the figures
    models: list[str]                           # rows on whose models gradients are compared


def read(path=FILE) -> Grid:
    """The file; ValueError, one line, where a task or a row is not as expected."""
    table = load_toml(path)
    rows = {name: Row(name, {k: v for k, v in said.items() if k != "bits"}, said.get("bits", False))
            for name, said in table["rows"].items()}
    tasks = {name: Task(name, **said) for name, said in table["tasks"].items()}
    known = {name for task in tasks.values() for name in (*task.instead, *task.without)}
    if strangers := sorted((known | set(table["figures"]["curves"] + table["figures"]["models"])) - set(rows)):
        raise ValueError(f"{path}: no row is called {strangers[0]!r}")
    for row in rows.values():
        latents.find(row.latent)
        for task in tasks.values():
            Run(task, row, task.rates[0], task.seeds[0]).config()
    return Grid(tasks, rows, table["figures"]["curves"], table["figures"]["models"])


def evaluations(run: Run) -> float:
    """Rows of codes that the decoder evaluates per training image, of those for a whole batch the image's share."""
    config = run.config()
    latent = build.build_model(config, 1, backends.load("numpy")).latent
    estimator = getattr(latent, "estimator", None)
    if estimator is None:
        return latent.samples
    return estimator.evaluations(config.latents, config.categories) / (config.batch_size if estimator.shared else 1)
