"""python -m npdvae.sweep --status FOLDER: how far a sweep is, from its folders alone."""
from __future__ import annotations

import pathlib
from collections import Counter

from npdvae import metrics
from npdvae.settings import load_toml
from npdvae.sweep import tasks


def lines(out: pathlib.Path) -> list[str]:
    """A line of counts, then one for each task that runs, has failed or was stopped."""
    states = {name: tasks.state(out / name) for name in tasks.names(out)}
    counts = Counter(states.values())
    told = [f"{out}: {len(states)} tasks, " + ", ".join(f"{counts[s]} {s}" for s in tasks.STATES if counts[s])]
    for name, state in states.items():
        if state == "failed":
            told.append(f"  {state:8s}{name}  {tasks.last_line(out / name)}")
        if state in ("running", "stopped"):
            told.append(f"  {state:8s}{name}  {progress(out / name)}")
    return told


def progress(folder: pathlib.Path) -> str:
    """How far a run is."""
    lines, total = metrics.read(folder), load_toml(str(folder / tasks.SETTINGS))["epochs"]
    if not lines:
        return f"no epoch of {total} yet"
    reached = metrics.elbo(lines[-1], "test").negative_elbo
    return f"epoch {lines[-1]['epoch']} of {total}, test negative ELBO {reached:.2f}"
