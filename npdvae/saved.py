"""What a checkpoint of a run must hold: checked against what is stored before anything is built from it."""
from __future__ import annotations

import json
import math
import pathlib
from typing import NamedTuple

import numpy as np

from npdvae import checkpoint, rng
from npdvae.checkpoint import CheckpointError
from npdvae.config import Config
from npdvae.settings import from_mapping, parse_toml
from npdvae.state import LEARNED, TrainState, pack, unpack
from npdvae.types import Params

MOST_STEPS = 2 ** 32                            # of the generator's counter


class Saved(NamedTuple):
    """A checkpoint's content: state, settings as they were typed, size of an image, progress of the epoch."""

    path: pathlib.Path
    state: TrainState
    config: Config
    shape: tuple[int, int]
    data: str                                   # digest of the training pixels
    sums: np.ndarray                            # images, cost, KL of the epoch so far
    best: float                                 # lowest validation negative ELBO
    engine: str                                 # that trained it, "" where nothing says

    @property
    def numbers(self) -> int:
        """How many numbers the parameters are."""
        return sum(a.size for a in self.state.params.values())


def understand(path, arrays, meta) -> Saved:
    """The content of a checkpoint, or a CheckpointError that names the file and what is wrong with it."""
    try:
        step, pixels, shape = (json.loads(meta[name]) for name in ("step", "pixels", "shape"))
        config = Config(**from_mapping(parse_toml(meta["config"], f"{path}"), f"{path}")).check()
        sums, best = arrays["progress/sums"], arrays["progress/best"]
        if not (type(step) is int and 0 <= step < MOST_STEPS):
            raise ValueError(f"step {step!a:.50}, expected 0 to 2**32 - 1")
        if not (isinstance(shape, list) and [type(n) for n in shape] == [int, int] and min(shape) >= 1
                and math.prod(shape) == pixels):
            raise ValueError(f"images of shape {shape!a:.50} and {pixels!a:.50} pixels, expected H x W")
        if sums.shape != (3,) or sums.dtype != np.float64 or not np.isfinite(sums).all():
            raise ValueError("progress/sums: expected three finite float64 numbers")
        if best.shape != () or best.dtype != np.float64 or math.isnan(best):
            raise ValueError("progress/best: expected a float64 number")
        state = unpack(arrays, step)
        for name, array in arrays.items():
            if not name.startswith(("params/", "moments/", "estimator/", "progress/")):
                raise ValueError(f"an array {name[:50]!a}, which no run has")
            if name.startswith("params/") and array.dtype != np.dtype(config.dtype):
                raise ValueError(f"{name[:50]!a} of type {array.dtype}, expected {config.dtype}")
    except KeyError as error:
        raise CheckpointError(f"{path}: no {error} in it") from None
    except (ValueError, TypeError, RecursionError) as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    return Saved(pathlib.Path(path), state, config, (shape[0], shape[1]), meta.get("data", ""), sums, float(best),
                 meta.get("engine", ""))


def load(folder: pathlib.Path, which="last") -> tuple[Saved, list[str]]:
    """The "last" good checkpoint of a run folder, the "best", or that of a path; and why newer ones were refused."""
    if which == "last":
        found = checkpoint.latest(folder, understand)
        return understand(*found[:3]), found.refused
    path = folder / "best.safetensors" if which == "best" else pathlib.Path(which)
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint" + (" (the run had no --validation)" if which == "best" else ""))
    return understand(path, *checkpoint.load(path)), []


def fit(saved: Saved, model) -> None:
    """Raise ValueError unless the parameters are finite and those of the model, which is not built larger than they."""
    expected = {k: v.shape for k, v in outline(model, 2 * saved.numbers + 16).items()}
    for name in sorted(expected.keys() | saved.state.params.keys()):
        array = saved.state.params.get(name)
        if name not in expected or array is None or array.shape != expected[name]:
            there = "is missing" if array is None else f"has shape {list(array.shape)}"
            raise ValueError(f"{saved.path}: its parameters do not fit the model of its configuration: {name[:50]!a} "
                             f"{there}, expected {list(expected[name]) if name in expected else 'none'}")
    finite(saved.state.params, f"{saved.path}: parameters")


def outline(model, most: int) -> Params:
    """Parameters of the right names and shapes, their values meaningless; ValueError before more than `most`."""
    drawn = 0

    def quarters(seed, stream, step, example, draw, shape, dtype):
        nonlocal drawn
        drawn += math.prod(shape)
        if drawn > most:
            raise ValueError(f"the model of this configuration has over {drawn // 2} numbers, more than there is room "
                             "for or are stored")
        return np.broadcast_to(np.dtype(dtype).type(0.25), shape)      # 1/2 is the zero of 2 u - 1

    return model.init(rng.Generator(0, rng.INIT, draw_uniform=quarters), np.float32)


def fit_state(saved: Saved, fresh: TrainState) -> None:
    """Raise ValueError unless moments and the latent's state have the names, shapes and types of a fresh state's."""
    if wrong := unlike(saved.state, fresh):
        raise ValueError(f"{saved.path}: {wrong}")
    finite(pack(saved.state), f"{saved.path}: state")


def unlike(state: TrainState, fresh: TrainState) -> str:
    """What is wrong with the names, shapes or types of a state's arrays, beside those of a fresh one; "" if nothing."""
    stored, wanted = pack(state), pack(fresh)
    for name, array in ((k, np.asarray(v)) for k, v in stored.items()):
        like = wanted.get(name)
        if like is None and f".{LEARNED}" in name:                  # its moments come with its first step
            like = wanted.get("estimator/" + name.partition(f".{LEARNED}")[2])
        if like is None or (like.shape, like.dtype) != (array.shape, array.dtype):
            there = "none" if like is None else f"{like.dtype} {list(like.shape)}"
            return f"{name[:50]!a} is {array.dtype} {list(array.shape)}, expected {there}"
    missing = sorted(wanted.keys() - stored.keys())
    return f"{missing[0]!a} is missing" if missing else ""


def finite(arrays: Params, where: str) -> None:
    """Raise ValueError where an array is not finite throughout, naming it."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{where}: {name} is not finite")
