"""A task's model, built before anything runs: what training would refuse is refused, as far as it shows on this CPU."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from npdvae import build as building
from npdvae import describe
from npdvae.backends.cublas import PRECISIONS
from npdvae.config import Config

ANYWHERE: dict[str, Any] = {"backend": "numpy", "engine": "readable", "matmul_precision": "float32"}


def build(config: Config, loaded, here: bool):
    """Build a task; ValueError, one line, where it cannot be trained.

    Its segments and precision are tried on its own backend, the rest on NumPy, which builds quickest. Unless it trains
    `here`, this processor may lack what its precision needs.
    """
    if config.backend == "cupy":
        on_gpu(config, loaded)
    elif compiled(config) and config.matmul_precision == "bfloat16" and not here:
        build(replace(config, matmul_precision="float32"), loaded, here)
    elif config.engine == "segmented" or config.matmul_precision != "float32":
        building.build(config, loaded)
    else:
        building.build(replace(config, **ANYWHERE), loaded)


def compiled(config: Config) -> bool:
    """Whether a compiled engine may serve, as far as the settings say."""
    return config.backend != "numpy" and config.engine != "readable" and config.shard == "batch"


def on_gpu(config: Config, loaded):
    """The same for the backend cupy, which no GPU is needed for."""
    from npdvae.gpu.support import unsegmented
    if config.matmul_precision not in PRECISIONS:
        raise ValueError(f"--matmul-precision {config.matmul_precision}: cupy has {' and '.join(PRECISIONS)}")
    job = building.build(replace(config, **ANYWHERE), loaded)
    reason = unsegmented(describe.describe(job.model, job.engine.recipe)) if config.engine == "segmented" else None
    if reason:
        raise ValueError(f"--engine segmented cannot run this: {reason}")
