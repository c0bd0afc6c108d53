"""Settings in and out: from presets, TOML files and the command line to a `Config`, and back to TOML."""
from __future__ import annotations

import argparse
import dataclasses
import difflib
import pathlib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from npdvae import optimizers
from npdvae.config import FIELDS, PAIRS, PARTS, Config, check_name
from npdvae.files import read
from npdvae.presets import PRESETS

MOST_TEXT = 2 ** 17                             # characters of a configuration
MOST_DOTS = 2000                                # in it: a key of many parts takes tomllib time by their square


def add_arguments(parser: argparse.ArgumentParser):
    """One command-line option per field; unset options stay absent, so that presets and files show through."""
    for f in fields(Config):
        extra = {k: v for k, v in f.metadata.items() if k != "help"}
        if "action" not in extra:
            kind = str(f.type).split(" ")[0].split("[")[0]
            extra.setdefault("type", {"int": int, "float": float}.get(kind, str))
        hidden = f.default in (None, False, True) or f.default is dataclasses.MISSING
        shown = "" if hidden else f" (default: {f.default})"
        parser.add_argument("--" + f.name.replace("_", "-"), default=argparse.SUPPRESS,
                            help=(f.metadata["help"] + shown).replace("%", "%%"), **extra)


def from_mapping(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Check the keys and types of settings read from `source`; dashes and underscores are the same."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            raise ValueError(f"{source}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        settings[name] = coerce(name, value, source)
    return settings


def coerce(name, value, source):
    """`value` as the type of the field, or a ValueError."""
    kind = str(FIELDS[name].type)
    base = kind.split(" ")[0]
    expected: Any = {"str": str, "int": int, "float": (int, float), "bool": bool, "list[int]": list}.get(base, dict)
    good = isinstance(value, expected) and (base == "bool" or not isinstance(value, bool))
    if base == "list[int]":
        good = good and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    choices = FIELDS[name].metadata.get("choices")
    if not good and not (value is None and "None" in kind):
        raise ValueError(f"{source}: {name} must be {kind}, got {value!r}")
    if choices and value is not None and value not in choices:
        raise ValueError(f"{source}: {name} must be one of {', '.join(choices)}, got {value!r}")
    if name in PARTS:
        check_name(name, value, f"{source}: ")
    return float(value) if base == "float" and value is not None else value


def parse_pairs(flag: str, pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE words to a dict; values are read as TOML where they can be, else kept as text."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{flag}: expected KEY=VALUE, got {pair!r}")
        try:
            options[key] = tomllib.loads(f"v = {value}")["v"] if "\n" not in value else value
        except (ValueError, RecursionError):
            options[key] = value
    return options


OWNED = {                                       # settings that go with the choice of a part
    "estimator": ("samples", "baseline", "baseline_value", "temperature", "estimator_options"),
    "latent": ("samples", "baseline", "baseline_value", "temperature", "estimator_options", "latent_options",
               "estimator", "categories", "prior", "prior_options", "free_bits"),
    "prior": ("prior_options",),
    "likelihood": ("likelihood_options", "binarize"),
}


def refuse_idle(arguments: dict[str, Any], config: Config) -> None:
    """Raise a ValueError for a setting of the command line that its optimizer or schedule does not read."""
    if "momentum" in arguments and "momentum" not in optimizers.registry.takes(config.optimizer):
        raise ValueError(f"--momentum: optimizer {config.optimizer} cannot use it")
    for name in ("lr_decay", "lr_interval"):
        if name in arguments and config.lr_schedule != "exponential":
            raise ValueError(f"{config.flag(name)}: --lr-schedule {config.lr_schedule} cannot use it, only exponential")


def resolve(arguments: dict[str, Any], preset: str | None = None, file: str | None = None,
            trust: bool = False) -> Config:
    """Defaults, then preset, then TOML file, then command line, checked; a file names no code unless `trust`."""
    settings: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            near = difflib.get_close_matches(preset, PRESETS, n=3, cutoff=0.4)
            raise ValueError(f"unknown preset {preset!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
                             + f" (known: {', '.join(PRESETS)})")
        settings |= PRESETS[preset]
    if file is not None:
        settings |= (read := from_mapping(load_toml(file), file))
        if not trust:
            refuse_code(read, file, allowed=tuple(arguments))       # what is typed takes its place
    for name in PAIRS:
        if isinstance(arguments.get(name), list):
            arguments = {**arguments, name: parse_pairs("--" + name.replace("_", "-"), arguments[name])}
    for part, options in OWNED.items():         # the options of a preset's estimator are not another's
        if part in arguments and arguments[part] != settings.get(part, FIELDS[part].default):
            settings = {k: v for k, v in settings.items() if k not in options}
    return Config(**{**settings, **arguments}).check()


def refuse_code(settings: Mapping[str, Any], source: Any, allowed: Collection[str] = ()):
    """Raise ValueError where settings that were read, not typed, name a module:Class, but for parts in `allowed`."""
    for name in own_code(settings):
        if name not in allowed:
            raise ValueError(f"{source}: {name} = {settings[name]!r} would run code that the file names: give --trust "
                             f"(or trust=True) if you trust it, or --{name} yourself where you train")


def own_code(settings: Mapping[str, Any]) -> list[str]:
    """The parts of some settings that are module:Class."""
    return [name for name in PARTS if ":" in str(settings.get(name) or "")]


def load_toml(path: str | pathlib.Path) -> dict[str, Any]:
    """The table of a TOML file, or a ValueError that names the file and the line."""
    try:
        return parse_toml(read(path, MOST_TEXT).decode(), path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: not UTF-8 text") from error


def parse_toml(text: str, source: Any) -> dict[str, Any]:
    """The table of a TOML text, or a ValueError that begins with its source."""
    for there, most, what in ((len(text), MOST_TEXT, "characters"), (text.count("."), MOST_DOTS, "dots")):
        if there > most:
            raise ValueError(f"{source}: settings of {there} {what}, expected at most {most}")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:                   # numbers of over 4,300 digits, brackets in brackets
        raise ValueError(f"{source}: not valid TOML: {error}") from error


def to_toml(config: Config) -> str:
    """The configuration as TOML text; settings that are None are left out."""
    def show(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, list):
            return "[" + ", ".join(map(show, value)) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{bare(k)} = {show(v)}" for k, v in value.items()) + "}"
        return repr(value)

    return "".join(f"{name} = {show(getattr(config, name))}\n" for name in FIELDS
                   if getattr(config, name) is not None)


def quoted(text: str) -> str:
    """A TOML string."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in text) + '"'


def bare(key: str) -> str:
    """A TOML key, quoted where it must be."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else quoted(key)
