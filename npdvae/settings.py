"""Settings in and out: from presets, TOML files and the command line to a `Config`, and back to TOML."""
from __future__ import annotations

import argparse
import dataclasses
import difflib
import tomllib
from dataclasses import fields
from typing import Any

from npdvae.config import FIELDS, PAIRS, PARTS, Config, check_name
from npdvae.presets import PRESETS


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
            options[key] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            options[key] = value
    return options


OWNED = {                                       # settings that go with the choice of a part
    "estimator": ("samples", "baseline", "baseline_value", "temperature", "estimator_options"),
    "latent": ("samples", "baseline", "baseline_value", "temperature", "estimator_options", "latent_options",
               "estimator", "categories", "prior", "free_bits"),
    "likelihood": ("likelihood_options", "binarize"),
}


def resolve(arguments: dict[str, Any], preset: str | None = None, file: str | None = None) -> Config:
    """Defaults, then preset, then TOML file, then command line, checked."""
    settings: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            near = difflib.get_close_matches(preset, PRESETS, n=3, cutoff=0.4)
            raise ValueError(f"unknown preset {preset!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
                             + f" (known: {', '.join(PRESETS)})")
        settings |= PRESETS[preset]
    if file is not None:
        settings |= from_mapping(load_toml(file), file)
    for name in PAIRS:
        if isinstance(arguments.get(name), list):
            arguments = {**arguments, name: parse_pairs("--" + name.replace("_", "-"), arguments[name])}
    for part, options in OWNED.items():         # the options of a preset's estimator are not another's
        if part in arguments and arguments[part] != settings.get(part, FIELDS[part].default):
            settings = {k: v for k, v in settings.items() if k not in options}
    return Config(**{**settings, **arguments}).check()


def load_toml(path: str) -> dict[str, Any]:
    """The table of a TOML file, or a ValueError that names the file and the line."""
    try:
        with open(path, "rb") as f:
            return tomllib.load(f)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: not UTF-8 text") from error


def to_toml(config: Config) -> str:
    """The configuration as TOML text; settings that are None are left out."""
    def show(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if isinstance(value, list):
            return "[" + ", ".join(map(show, value)) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {show(v)}" for k, v in value.items()) + "}"
        return repr(value)

    return "".join(f"{name} = {show(getattr(config, name))}\n" for name in FIELDS
                   if getattr(config, name) is not None)
