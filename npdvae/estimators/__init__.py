"""Gradient estimators of E_q[cost] for categorical latents, one file each, found by name."""
from __future__ import annotations

import difflib
import importlib
import inspect
import math
import numbers
import pkgutil

REGISTRY: dict[str, type] = {}
KINDS = {                                       # what an option takes, by the type of its default
    bool: ("True or False", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool)),
    float: ("a finite number", lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and math.isfinite(v)),
    str: ("a name", lambda v: isinstance(v, str)),
}


def register(cls):
    """Class decorator: enter an estimator under its `name`."""
    REGISTRY[cls.name] = cls
    return cls


def _load_all():
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def names() -> tuple[str, ...]:
    """Names of all registered estimators, sorted, no aliases."""
    _load_all()
    return tuple(sorted(REGISTRY))


def find(name: str) -> type:
    """The estimator class of a registered name, or of "module:Class" (the user's own)."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"cannot load estimator {name!r}: {error}") from error
    if name not in names():
        near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown estimator {name!r}{hint} (known: {', '.join(sorted(REGISTRY))})")
    return REGISTRY[name]


def get(name: str, *, ops=None, **options):
    """An estimator, on the NumPy table unless `ops` says otherwise; `options` are its constructor's."""
    cls = find(name)
    known = {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.name != "ops"}
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"estimator {name} has no option {option!r} (it has: {', '.join(known) or 'none'})")
        for kind, (word, accepts) in KINDS.items():
            if type(known[option]) is kind and not accepts(value):
                raise ValueError(f"estimator {name}: option {option} must be {word}, got {value!r}")
    return cls(ops=ops, **options)
