"""metrics.jsonl, one line per epoch: written, read, cut back on resume; TensorBoard events beside it."""
from __future__ import annotations

import json
import os
import pathlib
from typing import Any, NamedTuple


class Elbo(NamedTuple):
    """The negative ELBO of a split and its parts, nats per image: cost + kl."""

    negative_elbo: float
    cost: float
    kl: float


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


def read(folder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line cut off by a crash is left out."""
    path = pathlib.Path(folder) / "metrics.jsonl"
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def cut(folder, step):
    """Drop the lines after `step`, which training will write again."""
    kept = [line for line in read(folder) if line["step"] <= step]
    write_text(pathlib.Path(folder) / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))


def append(path, text):
    """Add one line, on disk before this returns."""
    with open(path, "a") as f:
        f.write(text + "\n")
        f.flush()
        os.fsync(f.fileno())


def write_text(path, text):
    """Replace a small text file in one step."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def writer(folder):
    """A TensorBoard writer, or a ValueError that says what to install."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs tensorboardX: pip install 'npdvae[tensorboard]'") from None
    return SummaryWriter(str(folder))
