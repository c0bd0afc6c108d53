"""What a run is: every setting with its default, help text and check."""
from __future__ import annotations

import argparse
import dataclasses
import functools
from dataclasses import dataclass, field, fields
from inspect import Parameter
from typing import Any

from npdvae import estimators, latents, likelihoods, mlp, optimizers, priors, schedules
from npdvae.checkpoint import KEEP
from npdvae.data.binarize import MODES


def option(default, help, **parser):
    """A field of the configuration with its command-line help."""
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata={"help": help, **parser})
    return field(default=default, metadata={"help": help, **parser})


@dataclass
class Config:
    """The settings of one run. `None` means the default of the data set or of the estimator."""

    data: str = option("digits", "digits (embedded), mnist, or the path of an IDX folder, .npz or .npy file")
    data_dir: str | None = option(None, "folder of the MNIST files (else $NPDVAE_DATA, the user cache, a download)")
    binarize: str | None = option(None, "pixels to 0/1: fresh every step, once from the seed, at 0.5, or grey targets "
                                  "(default: threshold for digits, else dynamic)",
                                  choices=MODES)
    validation: float = option(0.0, "fraction of the training images held out; the best checkpoint by it is kept",
                               metavar="FRACTION")
    latent: str = option("categorical", f"latent layer: {', '.join(latents.names())}, or module:Class of your own",
                         metavar="NAME")
    latent_options: dict[str, Any] = option({}, "further options of the latent", nargs="+", metavar="KEY=VALUE")
    latents: int = option(4, "latent variables D", metavar="D")
    categories: int | None = option(None, "categories K of each latent, where it is discrete (default: 8, or 2)",
                                     metavar="K")
    hidden: list[int] | None = option(None, "hidden sizes of the encoder; the decoder mirrors them "
                                      "(default: 128 64 for digits, else 512 256)", nargs="+", type=int, metavar="H")
    activation: str = option("relu", "activation of the hidden layers", choices=mlp.ACTIVATIONS)
    init: str = option("pytorch", "initialisation of the linear layers", choices=mlp.INITIALISATIONS)
    likelihood: str = option("bernoulli", f"p(x | z): {', '.join(likelihoods.names())}, or module:Class of your own",
                             metavar="NAME")
    likelihood_options: dict[str, Any] = option({}, "options of the likelihood", nargs="+", metavar="KEY=VALUE")
    prior: str | None = option(None, f"prior over the codes: {', '.join(priors.names())}, or module:Class of your own "
                               "(default: uniform)",
                               metavar="NAME")
    prior_options: dict[str, Any] = option({}, "options of the prior, such as hidden=256 of autoregressive", nargs="+",
                                           metavar="KEY=VALUE")
    estimator: str | None = option(None, "gradient estimator of categorical and soft_vq latents: "
                                   f"{', '.join(estimators.listed())}, or module:Class of your own (default: rloo)",
                                   metavar="NAME")
    samples: int | None = option(None, "samples per image, for estimators and latents that take several", metavar="S")
    baseline: str | None = option(None, "baseline of reinforce: none, constant, running_mean, batch_leave_one_out, "
                                  "nvil", metavar="NAME")
    baseline_value: float | None = option(None, "the constant baseline, in nats", metavar="NATS")
    temperature: float | None = option(None, "temperature of the relaxations and of straight-through", metavar="TAU")
    estimator_options: dict[str, Any] = option({}, "further options of the estimator", nargs="+", metavar="KEY=VALUE")
    epochs: int = option(150, "passes over the training images", metavar="N")
    batch_size: int = option(50, "images per step", metavar="B")
    microbatch: int | None = option(None, "images per forward pass; gradients add up over the batch", metavar="M")
    shares: int | None = option(None, "parts of a batch, a power of two, instead of --microbatch: as many MPI "
                                "processes can share the work, to the same bits (default: 8 under MPI)", metavar="V")
    shard: str = option("batch", "what --shares cut: images, the samples of each image, or all codes of the "
                        "estimator exact", choices=("batch", "samples", "codes"))
    lr: float = option(1e-3, "learning rate")
    lr_schedule: str = option("constant", "learning rate over the run", choices=schedules.NAMES)
    lr_decay: float = option(0.9, "factor of the exponential schedule per interval")
    lr_interval: int = option(1000, "steps per interval of the exponential schedule", metavar="STEPS")
    optimizer: str = option("adam", f"optimizer: {', '.join(optimizers.names())}, or module:Class of your own",
                            metavar="NAME")
    momentum: float = option(0.9, "momentum of sgd")
    clip_norm: float | None = option(None, "largest joint norm of the gradient", metavar="NORM")
    kl_weight: float = option(1.0, "weight of the KL term (1: the ELBO)", metavar="WEIGHT")
    kl_warmup: int = option(0, "steps over which the KL weight grows from 0", metavar="STEPS")
    free_bits: float = option(0.0, "KL per latent and image that costs nothing extra, in nats", metavar="NATS")
    backend: str = option("auto", "auto takes numba; all backends draw the same random numbers",
                          choices=("auto", "numpy", "numba", "cupy"))
    engine: str = option("auto", "auto takes the fused or captured engine where it can, else the segmented one, which "
                         "runs any latent's and estimator's own code between compiled layers, else the readable one",
                         choices=("auto", "readable", "segmented"))
    threads: int | None = option(None, "workers of the compiled CPU engines, OpenBLAS threads of the "
                                "readable one (default, and at most: all cores)", metavar="N")
    device: int = option(0, "CUDA device of the cupy backend", metavar="N")
    matmul_precision: str = option("float32", "operands of matrix products, whose sums are float32: tf32 on cupy, "
                                   "bfloat16 in compiled CPU engines (AMX)", choices=("float32", "tf32", "bfloat16"))
    dtype: str = option("float32", "precision of parameters and arithmetic", choices=("float32", "float64"))
    seed: int = option(0, "seed of all random numbers")
    seeds: list[int] | None = option(None, "several runs, one per seed, with mean and standard deviation; cut off, "
                                     "they go on by the same command with --out", nargs="+",
                                     type=int, metavar="SEED")
    out: str | None = option(None, "run folder (default: a new one under runs/)", metavar="FOLDER")
    checkpoint_every: int | None = option(None, "steps between checkpoints (default: one per epoch)", metavar="STEPS")
    keep_checkpoints: int = option(KEEP, "newest checkpoints that stay, 0 for all", metavar="N")
    figures: bool = option(True, "draw the figures and the page of the run at its end",
                           action=argparse.BooleanOptionalAction)
    tensorboard: bool = option(False, "also write TensorBoard event files (needs tensorboardX)", action="store_true")

    def check(self) -> Config:
        """Raise ValueError at the first value out of range, naming it."""
        for name in FIELDS:
            require(plain(getattr(self, name)), name, ascii(getattr(self, name))[:80],
                    "text of UTF-8, finite numbers, whole ones below 2**53, or lists or tables of them")
        for name in ("latents", "categories", "samples"):
            require((getattr(self, name) or 1) <= MOST, name, getattr(self, name), f"at most {MOST}")
        require(max(self.hidden or [1]) <= MOST, "hidden", self.hidden, f"sizes of at most {MOST}")
        for name in ("latents", "categories", "epochs", "batch_size", "lr_interval", "samples", "microbatch",
                     "threads", "checkpoint_every"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        for name in ("lr", "lr_decay", "clip_norm"):
            value = getattr(self, name)
            require(value is None or 0 < value < float("inf"), name, value, "a positive number")
        for name in ("kl_weight", "kl_warmup", "free_bits"):
            require(0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "not negative")
        require(self.keep_checkpoints >= 0, "keep_checkpoints", self.keep_checkpoints, "not negative")
        require(0 <= self.validation < 1, "validation", self.validation, "a fraction in [0, 1)")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(self.shares is None or self.shares in POWERS, "shares", self.shares, "a power of two, at most 65536")
        require(self.shares is None or self.microbatch is None, "shares", self.shares, "no --microbatch beside it")
        require(self.shard == "batch" or self.microbatch is None, "shard", self.shard, "batch beside --microbatch")
        for seed in [self.seed, *(self.seeds or [])]:
            require(0 <= seed < 2 ** 32, "seed", seed, "between 0 and 2**32 - 1")
        require(not self.hidden or min(self.hidden) >= 1, "hidden", self.hidden, "sizes of at least 1")
        for part in PARTS:
            check_name(part, getattr(self, part))
        for pairs in PAIRS:
            for name in getattr(self, pairs).keys() & SET_ELSEWHERE.keys():
                raise ValueError(f"{self.flag(pairs)}: {name} is not an option here, see {SET_ELSEWHERE[name]}")
        return self

    def estimator_arguments(self) -> dict[str, Any]:
        """Options for the estimator's constructor: those that were set."""
        return {**self.given("samples", "baseline", "baseline_value", "temperature"), **self.estimator_options}

    def latent_arguments(self) -> dict[str, Any]:
        """Options for the latent's constructor: those that were set. ValueError for one that it cannot use."""
        takes = latents.registry.takes(self.latent)
        free_bits = {"free_bits": self.free_bits} if self.free_bits else {}
        offered = {**self.given("categories", "prior", "estimator"), **free_bits, **self.estimator_arguments()}
        for part in ("estimator", "prior"):
            if getattr(self, f"{part}_options") and part not in takes:
                raise ValueError(f"--{part}-options: latent {self.latent} cannot use it")
        for name in offered:
            if name in self.latent_options:
                raise ValueError(f"--latent-options: {name} is given already, by {self.flag(name)}")
            if name not in takes and "estimator" not in takes:      # an estimator takes the rest, or refuses it
                flag = self.flag(name if name in FIELDS else "estimator_options")
                raise ValueError(f"{flag}: latent {self.latent} cannot use it")
        if self.prior_options:
            offered["prior"] = functools.partial(priors.get, self.prior or "uniform", **self.prior_options)
        return {**offered, **self.latent_options}

    def given(self, *names: str) -> dict[str, Any]:
        """Those of these settings that are not None."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def piece(self, batch: int) -> int | None:
        """Images of a batch of so many that go through at a time; None: all of them."""
        return self.microbatch if self.shares is None or self.shard != "batch" else -(-batch // self.shares)

    @property
    def method(self) -> str:
        """What tables and titles call the run: latent and estimator, as far as they are not the only kind."""
        return " ".join(filter(None, (self.latent if self.latent != "categorical" else None, self.estimator)))

    @property
    def sizes(self) -> str:
        """D, and K where the latent is discrete."""
        return f"D={self.latents}" + (f" K={self.categories}" if self.categories is not None else "")

    def flag(self, name: str) -> str:
        """The command-line spelling of a field."""
        return "--" + name.replace("_", "-")


PARTS = {r.kind: r for r in (latents.registry, estimators.registry, priors.registry, likelihoods.registry,
                             optimizers.registry)}                  # settings that name a class


def plain(value, depth=0) -> bool:
    """Whether a setting can be written and read again: text, finite numbers of a sane size, lists and tables."""
    if isinstance(value, dict):
        return plain([*value, *value.values()], depth)
    if isinstance(value, list):
        return depth < 8 and all(plain(v, depth + 1) for v in value)
    if isinstance(value, str):
        return not any("\ud800" <= c <= "\udfff" for c in value)    # bytes of a name that are no UTF-8
    return value is None or isinstance(value, int | float) and abs(value) < (
        2 ** 53 if isinstance(value, int) else float("inf"))


def check_name(part, name, source=""):
    """Raise a ValueError for a name that no class has; "module:Class" is left until it is built."""
    if name is not None and ":" not in name:
        try:
            PARTS[part].find(name)
        except ValueError as error:
            raise ValueError(f"{source}{error}") from None


def require(good, name, value, expected):
    """Raise a ValueError that names the option, its value and what was expected."""
    if not good:
        raise ValueError(f"--{name.replace('_', '-')}: got {value}, expected {expected}")


LATENT_DEFAULTS = {"categories": 8, "prior": "uniform", "estimator": "rloo"}    # where the latent has none of its own
SET_ELSEWHERE = {"latents": "--latents", "categories": "--categories", "estimator": "--estimator", "prior": "--prior",
                 "free_bits": "--free-bits", "ops": "--backend"}    # of options
MOST = 2 ** 20                                  # latents, categories, samples, or units of a layer
POWERS = [2 ** k for k in range(17)]
PAIRS = ("estimator_options", "latent_options", "likelihood_options", "prior_options")


def with_defaults(config: Config) -> Config:
    """The configuration with the defaults that depend on the data set and on the latent filled in."""
    digits, takes = config.data == "digits", latents.registry.takes(config.latent)
    grey = getattr(likelihoods.find(config.likelihood), "grey", False)
    binarize = "none" if grey else "threshold" if digits else "dynamic"
    hidden = [128, 64] if digits else [512, 256]
    filled: dict[str, Any] = {k: v if takes[k] is Parameter.empty else takes[k]
                              for k, v in LATENT_DEFAULTS.items() if k in takes and getattr(config, k) is None}
    return dataclasses.replace(config, hidden=hidden if config.hidden is None else config.hidden,
                               binarize=config.binarize or binarize, **filled)


FIELDS = {f.name: f for f in fields(Config)}
