"""From a configuration to its parts: data set, op table, latent, likelihood, model, recipe, engine."""
from __future__ import annotations

import functools
import hashlib
import math
import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from npdvae import backends, data, latents, likelihoods, memory, optimizers, rng, saved, schedules
from npdvae.config import Config, with_defaults
from npdvae.data.binarize import prepare
from npdvae.describe import Recipe
from npdvae.engine import Readable
from npdvae.evaluation import Split
from npdvae.model import DiscreteVAE
from npdvae.parallel.alone import ALONE
from npdvae.parallel.by_rows import ByRows
from npdvae.process import cores
from npdvae.state import TrainState

SHARES = 8                                      # of a step where nothing else is said


class Job(NamedTuple):
    """One run, ready to go."""

    config: Config                              # resolved: nothing is None that has a default
    dataset: Any                                # binarized already where that is done once
    validation: Any                             # rows held out, or None
    model: DiscreteVAE
    engine: Any
    team: Any = ALONE                           # the processes that share each batch

    @property
    def steps_per_epoch(self):
        return math.ceil(len(self.dataset.train) / self.config.batch_size)


def load_data(config: Config):
    """The data set of a configuration, binarized once where the mode allows, and held-out rows or None."""
    dataset = prepare(data.load(config.data, config.data_dir), config.binarize, config.seed)
    if not config.validation:
        return dataset, None
    train, held = data.hold_out(dataset.train, config.validation, rng.Generator(config.seed, rng.VALIDATION))
    return replace(dataset, train=train, train_labels=None), held


def load_backend(name: str, device: int = 0, matmul_precision: str = "float32", local: int = 0):
    """The op table of --backend; auto is numba where it can be imported, else numpy.

    local: this process's number among those of its machine, which take the devices from `device` on in turn.
    """
    if name == "cupy":
        from npdvae.backends import cuda_device, cupy_backend
        cupy_backend.choose(cuda_device.nth(device, local), matmul_precision)
    if name != "auto":
        return backends.load(name)
    try:
        return backends.load("numba")
    except backends.BackendError:
        return backends.load("numpy")


def build_model(config: Config, pixels: int, ops) -> DiscreteVAE:
    """The model of a resolved configuration."""
    latent = latents.get(config.latent, latents=config.latents, ops=ops, **config.latent_arguments())
    likelihood = likelihoods.get(config.likelihood, ops=ops, **config.likelihood_options)
    if (config.kl_weight != 1 or config.kl_warmup) and not latent.weighs_kl:
        prior = getattr(latent, "prior", None)
        cause = config.method if prior is None or prior.factorised else f"prior {config.prior}"
        raise ValueError(f"{cause} has no analytic KL to weigh, so --kl-weight and --kl-warmup cannot apply")
    if (config.piece(config.batch_size) or config.batch_size) < config.batch_size and not latent.divisible:
        flag = "--microbatch" if config.shares is None else "--shares"
        raise ValueError(f"{flag}: {config.method} reads the whole batch of a step, so it cannot be divided")
    return DiscreteVAE(pixels, config.hidden, latent, likelihood, config.activation, config.init)


def build_optimizer(config: Config, ops):
    """The optimizer of a configuration, with the momentum where it takes one."""
    momentum = {"momentum": config.momentum} if "momentum" in optimizers.registry.takes(config.optimizer) else {}
    return optimizers.get(config.optimizer, ops=ops, **momentum)


def build(config: Config, loaded=None, team=ALONE) -> Job:
    """Everything a run needs, `loaded` its data where they are; ValueError or BackendError, one line, else."""
    config = with_defaults(config)
    ops = load_backend(config.backend, config.device, config.matmul_precision, team.local[0])
    dataset, held = loaded or load_data(config)
    model = build_model(config, dataset.pixels, ops)
    batch_size = min(config.batch_size, len(dataset.train))
    total = config.epochs * math.ceil(len(dataset.train) / config.batch_size)
    if total >= 2 ** 32:
        raise ValueError(f"--epochs: {config.epochs} are {total} steps, expected fewer than 2**32")
    piece = config.piece(batch_size)
    check_shard(config, model)
    team.check(-(-batch_size // (piece or batch_size)) if config.shard == "batch" else config.shares or SHARES)
    check_memory(config, model, batch_size)
    model.latent.check_length(total)
    recipe = Recipe(
        build_optimizer(config, ops),
        functools.partial(schedules.learning_rate, config.lr_schedule, config.lr, total=total, decay=config.lr_decay,
                          interval=config.lr_interval),
        functools.partial(schedules.kl_weight, config.kl_weight, config.kl_warmup),
        batch_size, piece, config.clip_norm,
        "none" if dataset.binary else str(config.binarize), config.seed, np.dtype(config.dtype),
        config.matmul_precision)
    shared = team.size > 1 or config.shares is not None or config.shard != "batch"
    threads = team.threads() if config.threads is None else config.threads
    engine = (choose_engine(model, recipe, dataset, threads, config.engine, team) if config.shard == "batch" else
              ByRows(model, recipe, dataset, f"--shard {config.shard}", threads, team=team,
                     shares=config.shares or SHARES))
    check_precision(config.matmul_precision, engine)
    if team.size > 1 and ops.name == "cupy":
        from npdvae.backends.cupy_backend import backend_of
        from npdvae.gpu.nccl import adder
        engine.adder = adder(backend_of(ops).device, team)
    if shared and config.threads is None and engine.name == "readable":
        engine.threads = 1                      # of BLAS: another number, another number of processes say, other bits
    return Job(config, dataset, held, model, engine, team)


def check_shard(config: Config, model):
    """Raise ValueError where there is nothing of what is to be shared out."""
    if config.shard == "codes" and config.estimator != "exact":
        raise ValueError(f"--shard codes: only the estimator exact decodes all codes, not {config.method}")
    if config.shard == "samples" and model.latent.samples < 2:
        raise ValueError(f"--shard samples: {config.method} has one sample an image, see --samples")
    if config.shard != "batch" and config.engine == "segmented":
        raise ValueError(f"--engine segmented cannot run --shard {config.shard}")


def check_precision(precision, engine):
    """Raise ValueError where this engine's products have another; those of cupy are its backend's."""
    if engine.ops.name != "cupy" and precision not in engine.precisions:
        why = f" ({engine.why})" if engine.why else ""
        raise ValueError(f"--matmul-precision {precision}: the {engine.name} engine on {engine.ops.name} has "
                         f"{' and '.join(engine.precisions)}{why}")


def check_memory(config: Config, model, batch_size: int):
    """Raise ValueError where parameters, gradients and one batch cannot fit into memory."""
    size = np.dtype(config.dtype).itemsize
    numbers = sum(a.size for a in saved.outline(model, memory.free() // (2 * size)).values())
    rows = min(config.piece(batch_size) or batch_size, batch_size) * model.latent.samples
    memory.require(size * (2 * numbers + rows * model.pixels), f"training this model in batches of {batch_size}")


def choose_engine(model, recipe, dataset, threads=None, wanted="auto", team=ALONE):
    """The engine of the model's backend that fits the job: a fast one, or the readable one on the backend's ops.

    `wanted`: that, or "readable" or "segmented". ValueError where it cannot be had.
    """
    if threads is not None and threads > cores():
        print(f"--threads {threads} is more than this process has cores: {cores()} threads", file=sys.stderr)
        threads = cores()
    if wanted == "readable":
        return Readable(model, recipe, dataset, "as asked for", threads, team)
    if wanted == "segmented" and model.ops.name == "numpy":
        raise ValueError("--engine segmented is for the backends numba and cupy, not for numpy")
    if model.ops.name == "numba":
        return cpu_engine(model, recipe, dataset, threads, wanted, team)
    if model.ops.name == "cupy":
        from npdvae.gpu.engine import engine
        return engine(model, recipe, dataset, wanted=wanted, team=team)
    return Readable(model, recipe, dataset, f"backend {model.ops.name} has no other", threads, team)


def cpu_engine(model, recipe, dataset, threads, wanted, team):
    """Whole steps in compiled code where they can be, else segments of them, else none."""
    from npdvae.fused import Fused, Segmented, reason_unsegmented, reason_unsupported
    unfused = "as asked for" if wanted == "segmented" else reason_unsupported(model, recipe)
    unsegmented = reason_unsegmented(model, recipe) if unfused is not None else None
    if unsegmented is not None and wanted == "segmented":
        raise ValueError(f"--engine segmented cannot run this: {unsegmented}")
    if unfused is not None and unsegmented is not None:
        return Readable(model, recipe, dataset, "; ".join(dict.fromkeys([unfused, unsegmented])), threads, team)
    return (Fused(model, recipe, dataset, threads) if unfused is None else
            Segmented(model, recipe, dataset, threads, unfused, team))


def fresh_state(job: Job, begin: bool = True) -> TrainState:
    """The state before the first step; its shapes alone, not fitted to any data, unless it is to `begin`."""
    config, generator = job.config, rng.Generator(job.config.seed, rng.INIT)
    model, host = job.model, backends.load("numpy")
    params = model.init(generator, np.dtype(config.dtype))
    params = started(job, params, generator) if begin else params
    state = model.latent.init_state(generator, job.dataset.pixels)
    state = None if state is None else {k: model.ops.to_host(v) for k, v in state.items()}
    return TrainState(params, build_optimizer(config, host).init(params), state, 0)


def started(job: Job, params, generator):
    """First parameters, with those of the latent fitted to encoder outputs where it asks for that; on the host."""
    count = job.model.latent.starts_from
    if not count:
        return params
    host = build_model(job.config, job.dataset.pixels, backends.load("numpy"))      # every backend starts alike
    split = Split(job.dataset, job.dataset.train[:count], job.engine.recipe.binarize, job.config.seed,
                  dtype=job.engine.recipe.dtype)
    h = np.concatenate([host.encoder.forward(params, x)[0] for _, x in split.batches(host.ops)])      # [N, E]
    return host.latent.start(params, h, generator)


def fingerprint(dataset) -> str:
    """A digest of the training pixels, so that a run is never resumed on other data."""
    return hashlib.sha256(np.ascontiguousarray(dataset.train).data).hexdigest()[:16]
