"""A run from its folder: the Python API to encode, decode, sample and score images with a trained model."""
from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from npdvae import backends, build, costs, evaluation, rng, saved, settings
from npdvae.config import Config, with_defaults
from npdvae.data import Dataset
from npdvae.estimators.parts.outcomes import MOST_CODES
from npdvae.model import DiscreteVAE
from npdvae.types import Array, Params


class Run:
    """A trained model with its configuration; probabilities, costs and bounds in nats, arrays NumPy.

    Images are rows [N, P] of values in [0, 1], codes int [N, D]. Attributes: folder, config, step, shape (H, W),
    pixels, model, params.
    """

    def __init__(self, folder: pathlib.Path | None, config: Config, params: Params, step: int, shape: tuple[int, ...],
                 model: DiscreteVAE):
        self.folder, self.config, self.params, self.step = folder, config, params, step
        self.shape, self.model, self.pixels = shape, model, shape[0] * shape[1]
        self.dtype = np.dtype(config.dtype)

    @classmethod
    def load(cls, folder: str | pathlib.Path, which: str = "last", trust: bool = False) -> Run:
        """Read a run folder: the "last" good checkpoint, the "best" by validation, or the path of a checkpoint.

        Raises ValueError where there is no run, no good checkpoint, or parameters that are not finite. Parts of the
        run that are module:Class are imported where you `trust` it; an estimator is left out otherwise, else refused.
        """
        folder = pathlib.Path(folder)
        if not (folder / "config.toml").is_file():
            raise ValueError(f"{folder}: no run there (no config.toml)")
        found, _ = saved.load(folder, which)
        if not trust:
            settings.refuse_code(vars(found.config), found.path, allowed=("estimator", "optimizer"))
        config = with_defaults(found.config)
        left_out = not trust and settings.own_code({"estimator": config.estimator})
        built = without_estimator(config) if left_out else config
        model = build.build_model(built, math.prod(found.shape), backends.load("numpy"))
        saved.fit(found, model)
        return cls(folder, config, found.state.params, found.state.step, found.shape, model)

    def dataset(self) -> Dataset:
        """The data set of the run (read or made again), binarized once where its mode is static or threshold.

        ValueError where it cannot be had, or its images have another number of pixels by now.
        """
        found = build.load_data(self.config)[0]
        if found.pixels != self.pixels:
            raise ValueError(f"{self.folder}: the run is for {self.pixels} pixels, the data set {self.config.data} has "
                             f"{found.pixels}")
        return found

    @property
    def mode(self) -> str:
        """How rows of `dataset()` are binarized batch by batch: dynamic or none; fixed modes are done already."""
        return self.config.binarize if self.config.binarize == "dynamic" else "none"

    def split(self, dataset: Dataset, rows: Array, step: int | None = None) -> evaluation.Split:
        """Rows of the data set as `npdvae.evaluation` takes them; `step` numbers the draws (default: the run's)."""
        step = self.step if step is None else step
        return evaluation.Split(dataset, rows, self.mode, self.config.seed, step, self.dtype)

    def targets(self, dataset: Dataset, rows: Array, step: int = 0) -> Array:
        """Targets x [N, P] of rows of the data set; `step` numbers the draw where binarization is dynamic."""
        return np.concatenate([x for _, x in self.split(dataset, rows, step).batches(self.model.ops)])

    def compiled(self, products: float) -> bool:
        """Whether there are compiled workers for this model, and so many products repay their loading."""
        if products < costs.MANY or self.config.backend == "numpy":
            return False
        try:
            backends.load("numba")
        except backends.BackendError:
            return False
        from npdvae.fused.forward import reason_undecoded
        return reason_undecoded(self.model, self.dtype) is None

    def way(self, images: int, samples: int) -> Any:
        """The way of `npdvae.costs` to those of so many samples of so many images."""
        few = costs.few_codes(self.model, samples)
        if few or not self.compiled(images * samples * costs.products(self.model)):
            return costs.of_each
        from npdvae.fused.forward import Forward
        return Forward

    def shared(self, images: int, most: int = MOST_CODES) -> Any:
        """The way of `npdvae.costs` to those of all codes for so many images, where there are no more than `most`."""
        count = self.model.latent.code_count()
        known = count is not None and count <= most and self.config.likelihood == "bernoulli"
        if not known or not self.compiled(images * count * self.pixels):
            return costs.shared
        from npdvae.fused.listed import shared
        return shared

    def encode(self, x: Array) -> Any:
        """q(z | x): probabilities [N, D, K] where z is discrete, else arrays by name."""
        return self.model.latent.readout(self.posterior(x))

    def posterior(self, x: Array) -> Any:
        """q(z | x) as the latent keeps it: a NamedTuple; its `kl` is [N, D] in nats, or None (see `Latent.kl_of`)."""
        return self.model.encode(self.params, self._check(x))

    def mode_of(self, x: Array) -> Array:
        """The most probable z of each image: codes int [N, D] where z is discrete."""
        return self.model.latent.mode(self.params, self.posterior(x))

    def draw(self, x: Array, seed: int = 0, step: int = 0) -> Array:
        """One z of each image, drawn from q(z | x): codes int [N, D] where z is discrete."""
        generator = rng.Generator(seed, rng.TEST_LATENT, step=step)
        return self.model.latent.sample(self.params, self.posterior(x), generator, 1)[0]

    def decode(self, z: Array) -> Array:
        """E[x | z]: codes int [N, D] (or rows [N, D, K], or what the latent draws) -> mean pixels [N, P].

        Probabilities where the likelihood is Bernoulli.
        """
        return self.model.likelihood.mean(self.params, self.decoded(z))

    def decoded(self, z: Array) -> Array:
        """The decoder's output at z: [N, P]."""
        z = np.asarray(z)
        z = z if z.dtype.kind in "iu" else z.astype(self.dtype, copy=False)
        return self.model.decode(self.params, self.model.latent.check_z(z))[0]

    def sample(self, n: int, seed: int = 0) -> tuple[Array, Array]:
        """n draws from the prior and their images: codes int [n, D] where z is discrete, [n, P]."""
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        z = self.model.latent.sample_prior(self.params, rng.Generator(seed, rng.PRIOR), n)
        return z, self.decode(z)

    def elbo(self, x: Array, samples: int = 1, seed: int = 0) -> Array:
        """Estimate of the ELBO of each image (eq. 86) with z drawn from q: [N], nats."""
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        x, q = self._check(x), self.posterior(x)
        z = self.model.latent.sample(self.params, q, rng.Generator(seed, rng.TEST_LATENT), samples)
        kl = self.model.latent.kl_of(self.params, q, z)             # [N, D]
        return -evaluation.cost_of(self.model, self.params, z, x).mean(0) - kl.sum(-1)

    def collapsed(self, dataset: Dataset) -> float | None:
        """Negative ELBO of predicting each pixel's training mean, on the test split, in nats; None for a density."""
        return self.model.likelihood.collapsed(dataset.train, dataset.test, dataset.levels)

    def draw_images(self, z: Array, seed: int = 0) -> Array:
        """Images drawn from p(x | z): [N, P]."""
        a = self.decoded(z)
        return self.model.likelihood.sample(self.params, a, rng.Generator(seed, rng.PRIOR, step=1))

    def log_prob(self, x: Array) -> Array:
        """Exact log p(x) of each image by enumeration of all K**D codes: [N]. ValueError above 2**20 codes."""
        return evaluation.log_prob(self.model, self.params, self._check(x))

    def _check(self, x: Array) -> Array:
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise ValueError(f"images must be rows [N, {self.pixels}], got shape {list(x.shape)}")
        if not (x.min(initial=0) >= 0 and x.max(initial=0) <= 1):
            raise ValueError(f"pixels must lie in [0, 1], got {x.min()} to {x.max()}")
        return x.astype(self.dtype, copy=False)


def without_estimator(config: Config) -> Config:
    """The configuration with another estimator and nothing that belongs to its own: what is evaluated is the same."""
    return dataclasses.replace(config, estimator="rloo", samples=None, baseline=None, baseline_value=None,
                               temperature=None, estimator_options={}, free_bits=0.0, kl_weight=1.0, kl_warmup=0,
                               microbatch=None, shares=None)
