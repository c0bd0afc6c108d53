"""What CuPy offers and what we use of it: parameters by name, from signatures or docstrings; uses, from the sources."""
from __future__ import annotations

import ast
import inspect
import pathlib
import re
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SOURCES = [*sorted((ROOT / "npdvae").rglob("*.py")), *sorted((ROOT / "kernels" / "cuda").glob("*.py")),
           ROOT / "bench" / "gpu.py"]
NAMES = pathlib.Path(__file__).with_name("cupy_names.txt")
HEADER = "# What CuPy 14.2 and NumPy 2.4 share, with CuPy's keywords; written by python -m tests.cuda.cupy_api\n"
MODULES = ("xp", "cupy")                        # what the sources call CuPy, or the array module that may be CuPy


class Use(NamedTuple):
    """One place where a name of CuPy is used."""

    path: str                                   # below the module: cuda.Stream
    where: str
    positional: int | None                      # arguments of a call; None where it is not called, or has *arguments
    keywords: tuple[str, ...]


def parameters(function) -> dict[str, Any] | None:
    """Names that may be passed as keywords, with their defaults (text where only the docstring has them), or None."""
    try:
        found = inspect.signature(function).parameters.values()
        if any(p.kind == p.VAR_KEYWORD for p in found):
            return None
        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        return {p.name: p.default for p in found if p.kind in kinds and p.name != "self"}
    except (TypeError, ValueError):
        pass
    match = re.match(r"[\w.]+\((.*)\)", " ".join((function.__doc__ or "").split("\n\n")[0].split()))
    if match is None:
        return None
    text = match[1].split("/,", 1)[-1]                              # before it, positional only
    text = re.sub(r"\([^()]*\)", "()", text)                        # commas within defaults
    words = [part.partition("=") for part in text.split(",") if part.partition("=")[0].split()]
    named = {name.split()[-1]: default.strip() or inspect.Parameter.empty for name, _, default in words}
    return {name: default for name, default in named.items() if name.isidentifier() and name != "self"}


def listed() -> dict[str, tuple[str, ...] | None]:
    """Parameters by name of what CuPy shares with NumPy, as cupy_names.txt has them; None where they are unknown."""
    lines = [line for line in NAMES.read_text().splitlines() if not line.startswith("#")]
    pairs = (line.partition(":")[::2] for line in lines)
    return {name: None if "?" in words else tuple(words.split()) for name, words in pairs}


def listing(module, names) -> str:
    """cupy_names.txt for an installed CuPy."""
    found = {name: parameters(resolve(module, name)) for name in names if hasattr_at(module, name)}
    return HEADER + "".join(f"{name}: {'?' if known is None else ' '.join(known)}\n" for name, known in found.items())


def hasattr_at(module, path):
    """Whether a dotted path leads to something."""
    try:
        resolve(module, path)
    except AttributeError:
        return False
    return True


def resolve(module, path):
    """The object at a dotted path."""
    for name in path.split("."):
        module = getattr(module, name)
    return module


def below_module(node, aliases):
    """The path below CuPy that an expression names, "" for CuPy itself, or None for something else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        if node.attr in MODULES:
            return ".".join(reversed(names[:-1]))
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    if node.id in MODULES:
        return ".".join(reversed(names))
    return ".".join([aliases[node.id], *reversed(names)]) if node.id in aliases else None


def aliases_of(tree):
    """Names that a function or module gives to parts of CuPy: runtime = cupy.cuda.runtime."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = zip(target.elts, node.value.elts) if isinstance(target, ast.Tuple) and isinstance(
                node.value, ast.Tuple) else [(target, node.value)]
            for name, value in pairs:
                path = below_module(value, {}) if isinstance(value, ast.Attribute) else None
                if isinstance(name, ast.Name) and path:
                    found[name.id] = path
    return found


def uses_in(tree, where) -> list[Use]:
    """All uses in a syntax tree, the longest path of each."""
    aliases, found, inner, calls = aliases_of(tree), [], set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls[id(node.func)] = node
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        inner.add(id(node.value))
        if path := below_module(node, aliases):
            call = calls.get(id(node))
            starred = call and any(isinstance(a, ast.Starred) for a in call.args)
            found.append(Use(path, f"{where}:{node.lineno}", len(call.args) if call and not starred else None,
                             tuple(k.arg for k in call.keywords if k.arg) if call else ()))
    return found


def uses() -> list[Use]:
    """All uses in the sources."""
    return [use for path in SOURCES for use in uses_in(ast.parse(path.read_text()), path.relative_to(ROOT))]


if __name__ == "__main__":
    import cupy
    NAMES.write_text(listing(cupy, list(listed())))
