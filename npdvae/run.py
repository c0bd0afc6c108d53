"""A run from its folder: the Python API to encode, decode, sample and score images with a trained model."""
from __future__ import annotations

import json
import pathlib
import tomllib

import numpy as np

from npdvae import backends, build, checkpoint, evaluation, rng
from npdvae.config import Config, from_mapping
from npdvae.state import unpack


class Run:
    """A trained model with its configuration; probabilities, costs and bounds in nats, arrays NumPy.

    Images are rows [N, P] of values in [0, 1], codes int [N, D]. Attributes: folder, config, step, shape (H, W),
    pixels, model, params.
    """

    def __init__(self, folder, config, params, step, shape, model):
        self.folder, self.config, self.params, self.step = folder, config, params, step
        self.shape, self.model, self.pixels = shape, model, shape[0] * shape[1]
        self.dtype = np.dtype(config.dtype)

    @classmethod
    def load(cls, folder, which="last"):
        """Read a run folder: the "last" good checkpoint, the "best" by validation, or the path of a checkpoint.

        Raises ValueError where there is no run or no good checkpoint.
        """
        folder = pathlib.Path(folder)
        if not (folder / "config.toml").is_file():
            raise ValueError(f"{folder}: no run there (no config.toml)")
        if which == "last":
            path, arrays, meta, _ = checkpoint.latest(folder)
        else:
            path = folder / "best.safetensors" if which == "best" else pathlib.Path(which)
            if not path.is_file():
                raise ValueError(f"{path}: no such checkpoint" + (
                    " (the run had no --validation)" if which == "best" else ""))
            arrays, meta = checkpoint.load(path)
        config = Config(**from_mapping(tomllib.loads(meta["config"]), str(path)))
        model = build.build_model(config, int(meta["pixels"]), backends.load("numpy"))
        state = unpack(arrays, int(meta["step"]))
        expected = {k: v.shape for k, v in model.init(rng.Generator(0, rng.INIT), np.float32).items()}
        found = {k: v.shape for k, v in state.params.items()}
        if found != expected:
            raise ValueError(f"{path}: its parameters do not fit the model of its configuration")
        return cls(folder, config, state.params, state.step, tuple(json.loads(meta["shape"])), model)

    def dataset(self):
        """The data set of the run (read or made again), binarized once where its mode is static or threshold."""
        return build.load_data(self.config)[0]

    @property
    def mode(self):
        """How rows of `dataset()` are binarized batch by batch: dynamic or none; fixed modes are done already."""
        return self.config.binarize if self.config.binarize == "dynamic" else "none"

    def targets(self, dataset, rows, step=0):
        """Targets x [N, P] of rows of the data set; `step` numbers the draw where binarization is dynamic."""
        parts = evaluation.batches(dataset, rows, self.mode, self.config.seed, step, self.dtype, np)
        return np.concatenate([x for _, x in parts])

    def encode(self, x):
        """q(z | x): probabilities [N, D, K]."""
        return np.exp(evaluation.posterior(self.model, self.params, self._check(x)).log_q)

    def decode(self, codes):
        """p(x = 1 | z): codes int [N, D] or rows [N, D, K] -> pixel probabilities [N, P]."""
        codes = np.asarray(codes)
        D, K = self.config.latents, self.config.categories
        if codes.dtype.kind not in "iu":
            codes = codes.astype(self.dtype, copy=False)
        if codes.shape[1:] != ((D,) if codes.dtype.kind in "iu" else (D, K)):
            raise ValueError(f"codes must be int [N, {D}] or float [N, {D}, {K}], got {codes.dtype} "
                             f"{list(codes.shape)}")
        if codes.dtype.kind in "iu" and codes.size and not (0 <= codes.min() and codes.max() < K):
            raise ValueError(f"codes must be categories 0 to {K - 1}, got {codes.min()} to {codes.max()}")
        return self.model.ops.sigmoid(self.model.decode(self.params, codes)[0])

    def sample(self, n, seed=0):
        """n codes from the prior and their pixel probabilities: int [n, D], [n, P]."""
        codes = self.model.latent.sample_prior(self.params, rng.Generator(seed, rng.PRIOR), n)
        return codes, self.decode(codes)

    def elbo(self, x, samples=1, seed=0):
        """Estimate of the ELBO of each image (eq. 86) with hard codes from q: [N]."""
        x = self._check(x)
        kept = evaluation.posterior(self.model, self.params, x)
        codes = evaluation.hard_codes(self.model, kept.log_q, rng.Generator(seed, rng.TEST_LATENT), samples)
        logits, _ = self.model.decode(self.params, codes)           # [S, N, P]
        return -self.model.ops.bce(logits, x).mean(0) - kept.kl.sum(-1)

    def log_prob(self, x):
        """Exact log p(x) of each image by enumeration of all K**D codes: [N]. ValueError above 2**20 codes."""
        return evaluation.log_prob(self.model, self.params, self._check(x))

    def _check(self, x):
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise ValueError(f"images must be rows [N, {self.pixels}], got shape {list(x.shape)}")
        if not (x.min(initial=0) >= 0 and x.max(initial=0) <= 1):
            raise ValueError(f"pixels must lie in [0, 1], got {x.min()} to {x.max()}")
        return x.astype(self.dtype, copy=False)
