"""Results: sweep.csv with a row for each run, sweep.json with means and spreads over seeds as well."""
from __future__ import annotations

import csv
import io
import json
import pathlib
import statistics
from typing import Any

from npdvae import metrics
from npdvae.config import Config
from npdvae.settings import from_mapping, load_toml
from npdvae.sweep import grid, tasks


def rows(out: pathlib.Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The settings that vary, and for each task those, its state and its last metrics (nats; no times)."""
    names = tasks.names(out)
    paths = [str(out / name / tasks.SETTINGS) for name in names]
    configs = [Config(**from_mapping(load_toml(path), path)) for path in paths]
    keys = grid.varied(configs)
    found = []
    for name, config in zip(names, configs):
        end = tasks.result(out / name) or {}
        reached = {k: v for k, v in end.items() if k in ("epoch", "step") or k.endswith(metrics.Elbo._fields)}
        varied = {key: getattr(config, key) for key in keys}
        found.append({"name": name, **varied, "state": tasks.state(out / name), **reached})
    return keys, found


def groups(keys, found) -> list[dict[str, Any]]:
    """Mean and spread over the seeds of each setting, of the runs that are done: nats, standard deviation n - 1."""
    settings = [key for key in keys if key != "seed"]
    together: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        together.setdefault(json.dumps([row[key] for key in settings]), []).append(row)
    made = []
    for members in together.values():
        done = [row for row in members if row["state"] == "done"]
        group = {"settings": {key: members[0][key] for key in settings}, "seeds": [row["seed"] for row in done]}
        for key in done[0] if done else ():
            if key.endswith(metrics.Elbo._fields):
                values = [row[key] for row in done]
                group[key] = {"mean": statistics.fmean(values), "min": min(values), "max": max(values),
                              "std": statistics.stdev(values) if len(values) > 1 else None}
        made.append(group)
    return made


def write(out: pathlib.Path) -> list[dict[str, Any]]:
    """Write both files; returns the groups."""
    keys, found = rows(out)
    made = groups(keys, found)
    columns = list(dict.fromkeys(key for row in found for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    metrics.write_text(out / "sweep.csv", text.getvalue())
    content = {"varied": keys, "groups": made, "runs": found}
    metrics.write_text(out / "sweep.json", json.dumps(content, indent=1) + "\n")
    return made
