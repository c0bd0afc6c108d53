"""metrics.jsonl, one line per epoch: written, read, cut back on resume; TensorBoard events beside it."""
from __future__ import annotations

import json
import math
import os
import pathlib
import shutil
from typing import Any, NamedTuple

from npdvae.files import opened, write_durably

NAME = "metrics.jsonl"
LONGEST = 2 ** 16                               # bytes of a line
MOST_FAULTS = 5                                 # said one by one


class Elbo(NamedTuple):
    """The negative ELBO of a split and its parts, nats per image: cost + kl."""

    negative_elbo: float
    cost: float
    kl: float


class History(NamedTuple):
    """The good lines of metrics.jsonl, and what was wrong with the others, a line each."""

    lines: list[dict[str, Any]]
    faults: list[str]
    cut: bool                                   # whether all that is wrong is a last line that a crash cut off


def named(split, cost, kl, images=1) -> dict[str, float]:
    """Sums of cost and KL over some images as the entries of a line for a split."""
    parts = Elbo((cost + kl) / images, cost / images, kl / images)
    return {f"{split}_{name}": value for name, value in parts._asdict().items()}


def elbo(line, split) -> Elbo:
    """What `named` wrote for a split (train, test, validation)."""
    return Elbo(*(line[f"{split}_{name}"] for name in Elbo._fields))


def curve(lines, split) -> list[Elbo]:
    """The same of every line; empty where the lines do not have the split."""
    return [elbo(line, split) for line in lines if f"{split}_cost" in line]


NEEDED = {"epoch", "step", "seconds_per_step", *named("train", 0, 0), *named("test", 0, 0)}


def history(folder) -> History:
    """metrics.jsonl line by line; no file is an empty history. ValueError where it is not a regular file."""
    lines: list[dict[str, Any]] = []
    faults: list[str] = []
    path, number, ended = pathlib.Path(folder) / NAME, 0, True
    if not path.exists() and not path.is_symlink():
        return History([], [], False)
    with opened(path) as file:
        while text := file.readline(LONGEST + 1):
            number, ended = number + 1, text.endswith(b"\n")
            line, fault = parse(text, lines[-1]["step"] if lines else -1)
            if fault:
                faults.append(f"{path}: line {number} is damaged and left out: {fault}")
            else:
                lines.append(line)
            while not ended and (rest := file.readline(LONGEST)):   # of a line that is too long
                ended = rest.endswith(b"\n")
    return History(lines, faults, len(faults) == 1 and not ended and number == len(lines) + 1)


def parse(text: bytes, before: int) -> tuple[dict[str, Any], str]:
    """A line and what is wrong with it, or nothing; its step must be above `before`."""
    if len(text) > LONGEST:
        return {}, f"longer than {LONGEST} bytes"
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, " ".join(str(error).split())[:100]
    if not isinstance(line, dict):
        return {}, f"{type(line).__name__}, expected an object"
    if missing := sorted(NEEDED - line.keys()):
        return {}, f"no {missing[0]}"
    for name, value in line.items():
        whole = name in ("epoch", "step")
        if type(value) is not int and (whole or type(value) is not float) or not abs(value) <= 2 ** 1000:
            return {}, f"{name[:50]!a} is no {'whole' if whole else 'finite'} number"
    if not (0 < line["epoch"] <= 2 ** 53 and before < line["step"] <= 2 ** 53):
        return {}, f"step {line['step']:g} after step {before}"
    return line, ""


def read(folder, say=lambda text: None) -> list[dict[str, Any]]:
    """The good lines; `say` is told of the others."""
    found = history(folder)
    for text in shortened(found.faults):
        say(text)
    return found.lines


def shortened(faults):
    """The first few, and how many more."""
    more = len(faults) - MOST_FAULTS
    return [*faults[:MOST_FAULTS], *([f"and {more} more damaged lines"] if more > 0 else [])]


def cut(folder, step, epochs=0, say=lambda text: None):
    """Drop the lines after `step`, which training will write again; a damaged file is kept beside the mended one."""
    path, found = pathlib.Path(folder) / NAME, history(folder)
    for text in shortened(found.faults):
        say(text)
    if found.faults and not found.cut:
        say(f"the damaged file is kept as {keep(path).name}")
    kept = [line for line in found.lines if line["step"] <= step]
    if len(kept) < epochs:
        say(f"{path}: {epochs - len(kept)} of the {epochs} epochs up to step {step} are missing from the history")
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def keep(path):
    """Copy a damaged file to a name that is free: NAME.damaged-1 and so on."""
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    target = path.with_name(f"{path.name}.damaged-{number}")
    shutil.copyfile(path, target)
    return target


def finite(figures: dict[str, Any], where: str):
    """Raise ValueError where a figure (a number, or a list of them) is not finite, naming the first."""
    for name, value in figures.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(v, float) and not math.isfinite(v) for v in flat(numbers)):
            raise ValueError(f"{where}: {name} is not finite")


def flat(numbers):
    """Lists of lists as one sequence."""
    for v in numbers:
        yield from flat(v) if isinstance(v, list) else (v,)


def append(path, text):
    """Add one line, on disk before this returns."""
    with open(path, "a") as f:
        f.write(text + "\n")
        f.flush()
        os.fsync(f.fileno())


def write_text(path, text):
    """Replace a small text file in one step, durably."""
    write_durably(path, text.encode())


def check_tensorboard():
    """The class of TensorBoard writers, or a ValueError that says what to install."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs tensorboardX: pip install 'npdvae[tensorboard]'") from None
    return SummaryWriter


def writer(folder):
    """A TensorBoard writer."""
    return check_tensorboard()(str(folder))
