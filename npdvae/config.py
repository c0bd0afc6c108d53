"""What a run is: every setting with its default, help text and check; from presets, TOML files and the command line."""
from __future__ import annotations

import argparse
import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field, fields
from inspect import Parameter
from typing import Any

from npdvae import estimators, latents, likelihoods, mlp, optimizers, priors, schedules
from npdvae.checkpoint import KEEP
from npdvae.data.binarize import MODES
from npdvae.presets import PRESETS


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
    prior: str | None = option(None, f"prior over the codes: {', '.join(priors.names())} (default: uniform)",
                               metavar="NAME")
    estimator: str | None = option(None, "gradient estimator of categorical and soft_vq latents by name, or "
                                   "module:Class of your own (default: rloo)", metavar="NAME")
    samples: int | None = option(None, "samples per image, for estimators and latents that take several", metavar="S")
    baseline: str | None = option(None, "baseline of reinforce: none, constant, running_mean, batch_leave_one_out, "
                                  "nvil", metavar="NAME")
    baseline_value: float | None = option(None, "the constant baseline, in nats", metavar="NATS")
    temperature: float | None = option(None, "temperature of the relaxations and of straight-through", metavar="TAU")
    estimator_options: dict[str, Any] = option({}, "further options of the estimator", nargs="+", metavar="KEY=VALUE")
    epochs: int = option(150, "passes over the training images", metavar="N")
    batch_size: int = option(50, "images per step", metavar="B")
    microbatch: int | None = option(None, "images per forward pass; gradients add up over the batch", metavar="M")
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
    engine: str = option("auto", "auto takes the fused or captured engine where it can, else the readable one; "
                         "segmented (numba backend) runs any latent's and estimator's own code, but exact, between "
                         "compiled layers", choices=("auto", "readable", "segmented"))
    threads: int | None = option(None, "threads of the numba backend (default: all cores)", metavar="N")
    device: int = option(0, "CUDA device of the cupy backend", metavar="N")
    matmul_precision: str = option("float32", "matrix products of the cupy backend", choices=("float32", "tf32"))
    dtype: str = option("float32", "precision of parameters and arithmetic", choices=("float32", "float64"))
    seed: int = option(0, "seed of all random numbers")
    seeds: list[int] | None = option(None, "several runs, one per seed, with mean and standard deviation", nargs="+",
                                     type=int, metavar="SEED")
    out: str | None = option(None, "run folder (default: a new one under runs/)", metavar="FOLDER")
    checkpoint_every: int | None = option(None, "steps between checkpoints (default: one per epoch)", metavar="STEPS")
    keep_checkpoints: int = option(KEEP, "newest checkpoints that stay, 0 for all", metavar="N")
    figures: bool = option(True, "draw the figures and the page of the run at its end",
                           action=argparse.BooleanOptionalAction)
    tensorboard: bool = option(False, "also write TensorBoard event files (needs tensorboardX)", action="store_true")

    def check(self) -> Config:
        """Raise ValueError at the first value out of range, naming it."""
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
        if self.estimator_options and "estimator" not in takes:
            raise ValueError(f"--estimator-options: latent {self.latent} cannot use it")
        for name in offered:
            if name in self.latent_options:
                raise ValueError(f"--latent-options: {name} is given already, by {self.flag(name)}")
            if name not in takes and "estimator" not in takes:      # an estimator takes the rest, or refuses it
                flag = self.flag(name if name in FIELDS else "estimator_options")
                raise ValueError(f"{flag}: latent {self.latent} cannot use it")
        return {**offered, **self.latent_options}

    def given(self, *names: str) -> dict[str, Any]:
        """Those of these settings that are not None."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

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
PAIRS = ("estimator_options", "latent_options", "likelihood_options")


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


def add_arguments(parser: argparse.ArgumentParser):
    """One command-line option per field; unset options stay absent, so that presets and files show through."""
    for f in fields(Config):
        extra = {k: v for k, v in f.metadata.items() if k != "help"}
        if "action" not in extra:
            kind = str(f.type).split(" ")[0].split("[")[0]
            extra.setdefault("type", {"int": int, "float": float}.get(kind, str))
        hidden = f.default in (None, False, True) or f.default is dataclasses.MISSING
        shown = "" if hidden else f" (default: {f.default})"
        parser.add_argument("--" + f.name.replace("_", "-"), default=argparse.SUPPRESS,
                            help=(f.metadata["help"] + shown).replace("%", "%%"), **extra)


def from_mapping(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Check the keys and types of settings read from `source`; dashes and underscores are the same."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            raise ValueError(f"{source}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        settings[name] = coerce(name, value, source)
    return settings


def coerce(name, value, source):
    """`value` as the type of the field, or a ValueError."""
    kind = str(FIELDS[name].type)
    base = kind.split(" ")[0]
    expected: Any = {"str": str, "int": int, "float": (int, float), "bool": bool, "list[int]": list}.get(base, dict)
    good = isinstance(value, expected) and (base == "bool" or not isinstance(value, bool))
    if base == "list[int]":
        good = good and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    choices = FIELDS[name].metadata.get("choices")
    if not good and not (value is None and "None" in kind):
        raise ValueError(f"{source}: {name} must be {kind}, got {value!r}")
    if choices and value is not None and value not in choices:
        raise ValueError(f"{source}: {name} must be one of {', '.join(choices)}, got {value!r}")
    if name in PARTS:
        check_name(name, value, f"{source}: ")
    return float(value) if base == "float" and value is not None else value


def parse_pairs(flag: str, pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE words to a dict; values are read as TOML where they can be, else kept as text."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{flag}: expected KEY=VALUE, got {pair!r}")
        try:
            options[key] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            options[key] = value
    return options


OWNED = {                                       # settings that go with the choice of a part
    "estimator": ("samples", "baseline", "baseline_value", "temperature", "estimator_options"),
    "latent": ("samples", "baseline", "baseline_value", "temperature", "estimator_options", "latent_options",
               "estimator", "categories", "prior", "free_bits"),
    "likelihood": ("likelihood_options", "binarize"),
}


def resolve(arguments: dict[str, Any], preset: str | None = None, file: str | None = None) -> Config:
    """Defaults, then preset, then TOML file, then command line, checked."""
    settings: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            near = difflib.get_close_matches(preset, PRESETS, n=3, cutoff=0.4)
            raise ValueError(f"unknown preset {preset!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
                             + f" (known: {', '.join(PRESETS)})")
        settings |= PRESETS[preset]
    if file is not None:
        settings |= from_mapping(load_toml(file), file)
    for name in PAIRS:
        if isinstance(arguments.get(name), list):
            arguments = {**arguments, name: parse_pairs("--" + name.replace("_", "-"), arguments[name])}
    for part, options in OWNED.items():         # the options of a preset's estimator are not another's
        if part in arguments and arguments[part] != settings.get(part, FIELDS[part].default):
            settings = {k: v for k, v in settings.items() if k not in options}
    return Config(**{**settings, **arguments}).check()


def load_toml(path: str) -> dict[str, Any]:
    """The table of a TOML file, or a ValueError that names the file and the line."""
    try:
        with open(path, "rb") as f:
            return tomllib.load(f)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: not UTF-8 text") from error


def to_toml(config: Config) -> str:
    """The configuration as TOML text; settings that are None are left out."""
    def show(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if isinstance(value, list):
            return "[" + ", ".join(map(show, value)) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {show(v)}" for k, v in value.items()) + "}"
        return repr(value)

    return "".join(f"{name} = {show(getattr(config, name))}\n" for name in FIELDS
                   if getattr(config, name) is not None)
