"""Classes of one kind found by name: one file each in a package, or "module:Class" of the user's own."""
from __future__ import annotations

import difflib
import importlib
import inspect
import math
import numbers
import pkgutil
import traceback
from collections.abc import Mapping
from typing import Any

from npdvae import backends

KINDS = {                                       # what an option takes, by the type of its default
    bool: ("True or False", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool)),
    float: ("a finite number", lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and math.isfinite(v)),
    str: ("a name", lambda v: isinstance(v, str)),
}

PLAIN = (bool, numbers.Number, str, list, dict, type(None))        # what settings hold; a made part passes as it is


class Registry:
    """The classes of a package that `register` enters under their `name`."""

    def __init__(self, kind: str, package: str):
        self.kind, self.package = kind, package
        self.classes: dict[str, type] = {}

    def register(self, cls):
        """Class decorator: enter a class under its `name`. ValueError where another class has it."""
        held = self.classes.setdefault(cls.name, cls)
        if (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"{self.kind} {cls.name!r} is {held.__module__}:{held.__qualname__} already; "
                             f"give {cls.__module__}:{cls.__qualname__} another name")
        self.classes[cls.name] = cls            # the same one, loaded again
        return cls

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted, no aliases."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return tuple(sorted(self.classes))

    def listed(self) -> list[str]:
        """The same without loading them, for packages that hold each class in a file of its name."""
        folder = importlib.import_module(self.package).__path__
        return [module.name for module in pkgutil.iter_modules(folder) if not module.ispkg and module.name != "base"]

    def find(self, name: str) -> type:
        """The class of a registered name, or of "module:Class". ValueError where there is none."""
        if ":" in name:
            module, _, attribute = name.partition(":")
            try:
                found = getattr(importlib.import_module(module), attribute)
            except Exception as error:          # whatever a module of the user's own does
                place = traceback.extract_tb(error.__traceback__)[-1]
                own = place.filename != __file__ and not place.filename.startswith("<frozen")
                where = f" ({place.filename}, line {place.lineno})" if own else ""
                raise ValueError(f"cannot load {self.kind} {name!r}: {error}{where}") from error
            base = getattr(importlib.import_module(f"{self.package}.base"), self.kind.capitalize())
            if not (isinstance(found, type) and issubclass(found, base)):
                raise ValueError(f"cannot load {self.kind} {name!r}: expected a class derived from {base.__module__}."
                                 f"{base.__name__}, got {found!r:.80}")
            return found
        if name not in self.names():
            near = difflib.get_close_matches(name, self.classes, n=3, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"unknown {self.kind} {name!r}{hint} (known: {', '.join(sorted(self.classes))})")
        return self.classes[name]

    def name_of(self, thing: Any) -> str:
        """The name of an object of a registered class of the package, that very class; of any other, module:Class."""
        cls = type(thing)
        name, ours = getattr(cls, "name", ""), cls.__module__.startswith(f"{self.package}.")
        return name if ours and self.classes.get(name) is cls else f"{cls.__module__}:{cls.__qualname__}"

    def takes(self, name: str) -> dict[str, Any]:
        """Arguments of a class's constructor and their defaults (`inspect.Parameter.empty`: none)."""
        parameters = inspect.signature(self.find(name)).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}

    def make(self, name: str, given: Mapping[str, Any], options: Mapping[str, Any]):
        """An object: `given` is what its kind is always given, `options` are checked. ops None is the NumPy table."""
        cls, takes = self.find(name), self.takes(name)
        given = {**given, "ops": backends.load("numpy") if given.get("ops") is None else given["ops"]}
        known = {key: default for key, default in takes.items() if key not in given}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())
        for option, value in options.items():
            if option not in known and (option == "self" or not open_ended):
                raise ValueError(f"{self.kind} {name} has no option {option!r} (it has: {', '.join(known) or 'none'})")
            for kind, (word, accepts) in KINDS.items():
                if type(known.get(option)) is kind and isinstance(value, PLAIN) and not accepts(value):
                    raise ValueError(f"{self.kind} {name}: option {option} must be {word}, got {value!r}")
        try:
            inspect.signature(cls).bind(**given, **options)
        except TypeError as error:
            raise ValueError(f"{self.kind} {name} cannot be made: {error}") from error
        return cls(**given, **options)
