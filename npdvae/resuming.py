"""The settings that a run goes on with: those that it began with, and of a new command what leaves its path alone."""
from __future__ import annotations

import math
import pathlib
from typing import Any

from npdvae import backends, build, checkpoint, saved, schedules
from npdvae.config import FIELDS, PARTS, Config, with_defaults
from npdvae.settings import from_mapping, load_toml, refuse_code, refuse_idle, resolve

MAY_CHANGE = ("epochs", "backend", "engine", "threads", "device", "checkpoint_every", "keep_checkpoints", "tensorboard",
              "figures", "data_dir")                # none of these changes the trajectory, but to rounding


def agreed(folder: pathlib.Path, arguments: dict[str, Any], trust: bool) -> tuple[Config, saved.Saved | None]:
    """Settings to go on with and the newest sound checkpoint of a run. ValueError for what would change its path."""
    found, refused = saved.load(folder) if checkpoint.listing(folder) else (None, [])
    for line in refused:
        print(f"{line}; going on from {found.path.name}" if found else line)
    kept = settings_of(folder, found)
    if not trust:
        refuse_code(vars(kept), folder, allowed=[n for n in PARTS if arguments.get(n) == getattr(kept, n)])
    kept = with_defaults(kept)
    wanted = with_defaults(resolve({**vars(kept), **arguments}) if arguments else kept)
    refuse_idle(arguments, wanted)
    for name in FIELDS:
        if name not in MAY_CHANGE and getattr(wanted, name) != getattr(kept, name):
            raise ValueError(f"--resume {folder}: {kept.flag(name)} is {getattr(kept, name)} in the run and "
                             f"{getattr(wanted, name)} here; the run can only go on as it began")
    if wanted.epochs != kept.epochs and wanted.lr_schedule in schedules.OVER_THE_RUN:
        raise ValueError(f"--resume {folder}: --epochs is {kept.epochs} in the run and {wanted.epochs} here, but its "
                         f"{wanted.lr_schedule} learning rate falls over the whole run: another length is another run")
    if found is not None:                       # before anything of the size that the settings claim is made
        saved.fit(found, build.build_model(wanted, math.prod(found.shape), backends.load("numpy")))
    return wanted, found


def settings_of(folder: pathlib.Path, found: saved.Saved | None) -> Config:
    """The settings in config.toml; where it is damaged or gone, those in the checkpoint, and that is said."""
    path = folder / "config.toml"
    try:
        config = Config(**from_mapping(load_toml(path), str(path))).check()
    except (ValueError, OSError) as error:
        if found is None:
            raise
        print(f"{error}; going on with the settings in {found.path.name}")
        return found.config
    if found is not None:
        for name in FIELDS:
            if name not in MAY_CHANGE and getattr(config, name) != getattr(found.config, name):
                raise ValueError(f"{path}: {name} is {getattr(config, name)!a:.80}, and {found.path.name} has "
                                 f"{getattr(found.config, name)!a:.80}")
    return config
