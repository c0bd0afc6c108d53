"""A grid of settings to tasks: one run each, named by a hash of its resolved configuration."""
from __future__ import annotations

import difflib
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from npdvae import build as building
from npdvae.config import FIELDS, Config, with_defaults
from npdvae.settings import OWNED, from_mapping, load_toml, refuse_code, resolve, to_toml
from npdvae.sweep import trial

WHERE: dict[str, Any] = dict(out=None, seeds=None, threads=None, device=0, data_dir=None, figures=False,
                             tensorboard=False, checkpoint_every=None, keep_checkpoints=0)  # no part of what a run is
ELSEWHERE = {"out": "--out", "seeds": "seed = [...]", "threads": "--threads"}


class Task(NamedTuple):
    """One run of a sweep."""

    name: str
    config: Config


def read(path: str, trust: bool = False, here: bool = True) -> list[Task]:
    """The tasks of a TOML file, each once, in its order; ValueError, one line, at the first wrong key or value.

    A file names no code of one's own (module:Class) unless `trust`. here: this machine trains them.
    """
    table = load_toml(path)
    for key, value in table.items():
        kind = {"base": dict, "grid": dict, "also": list}.get(key)
        if kind is None:
            raise ValueError(f"{path}: unknown table [{key}], expected [base], [grid] and [[also]]")
        if not isinstance(value, kind):
            raise ValueError(f"{path}: {key} must be written as {'[[also]]' if key == 'also' else f'[{key}]'}")
    base = {"figures": False, **checked(table.get("base", {}), f"{path} [base]")}
    tasks: dict[str, Task] = {}
    for source, point in points(table, path):
        try:
            config = settle(base, point)
            if not trust:
                refuse_code(vars(config), path)
        except ValueError as error:
            raise ValueError(f"{source}, {show(point)}: {error}") from None
        tasks.setdefault(name_of(config), Task(name_of(config), config))
    check(tasks.values(), path, here)
    return list(tasks.values())


def points(table, path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each combination of the grid, then those of each [[also]] at the grid's seeds, with where it was said."""
    grid = axes(table.get("grid", {}), f"{path} [grid]")
    tables = [(f"{path} [grid]", grid)] if grid or "also" not in table else []
    seeds = {"seed": grid["seed"]} if "seed" in grid else {}
    for i, also in enumerate(table.get("also", ()), 1):
        source = f"{path} [[also]] {i}"
        tables.append((source, {**axes(also, source), **({} if "seed" in also else seeds)}))
    for source, of in tables:
        for values in itertools.product(*of.values()):
            yield source, dict(zip(of, values))


def axes(values, source) -> dict[str, list[Any]]:
    """The values that each key takes: a list's members (a list of lists, where the setting is a list), or the one."""
    found = {}
    for key, value in values.items():
        of_lists = key.replace("-", "_") in FIELDS and str(FIELDS[key.replace("-", "_")].type).startswith("list")
        several = isinstance(value, list) and (not of_lists or any(isinstance(v, list) for v in value))
        if value == []:
            raise ValueError(f"{source}: {key} is an empty list")
        each = [checked({key: v}, source) for v in (value if several else [value])]
        found[next(iter(each[0]))] = [next(iter(v.values())) for v in each]
    return found


def checked(values, source) -> dict[str, Any]:
    """Settings of a table with their keys and types checked; `preset` may be one of them."""
    if not isinstance(values.get("preset", ""), str):
        raise ValueError(f"{source}: preset must be a name, got {values['preset']!r}")
    near = difflib.get_close_matches("preset", set(values) - {"preset", *FIELDS}, n=1, cutoff=0.8)
    if near:
        raise ValueError(f"{source}: unknown key {near[0]!r}, did you mean 'preset'?")
    settings = from_mapping({k: v for k, v in values.items() if k != "preset"}, source)
    for key, instead in ELSEWHERE.items():
        if key in settings:
            raise ValueError(f"{source}: {key} is not for a grid, see {instead}")
    return {**settings, **({"preset": values["preset"]} if "preset" in values else {})}


def settle(base, point) -> Config:
    """The configuration of one combination; what [base] set for a part that the point replaces goes with it."""
    for part, options in OWNED.items():
        if part in base and part in point and point[part] != base[part]:
            base = {k: v for k, v in base.items() if k not in options}
    settings = {**base, **point}
    preset = settings.pop("preset", None)
    return with_defaults(resolve(settings, preset))


def name_of(config) -> str:
    """A folder's name: method, seed, and a hash of every setting that says what is computed."""
    text = to_toml(replace(config, **WHERE))
    method = "-".join(word.split(":")[-1] for word in config.method.split())
    return f"{method}-seed{config.seed}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def check(tasks, path, here):
    """Build every task's model once, on this CPU, so that no wrong value is left to be found later."""
    loaded: dict[tuple, Any] = {}
    for task in tasks:
        c = task.config
        key = (c.data, c.data_dir, c.binarize, c.validation)
        try:
            if key not in loaded:
                loaded[key] = building.load_data(c)
            trial.build(c, loaded[key], here)
        except ValueError as error:
            raise ValueError(f"{path}: {task.name}: {error}") from None


def varied(configs: list[Config]) -> list[str]:
    """The settings in which some of the configurations differ, `seed` last and always."""
    return [name for name in FIELDS if name not in WHERE and name != "seed"
            and any(getattr(c, name) != getattr(configs[0], name) for c in configs)] + ["seed"]


def show(values) -> str:
    """Settings as a few words."""
    return " ".join(f"{k}={v}" for k, v in values.items() if v is not None) or "its one point"
