"""What latents of K categories share, whatever they decode: priors over codes, their enumeration and traversal."""
from __future__ import annotations

import functools

from npdvae import priors
from npdvae.estimators.parts.outcomes import MOST_CODES, all_codes
from npdvae.latents.base import Latent


class Discrete(Latent):
    """D variables of K categories with a prior over their codes, int [..., D].

    `prior`: a name, or what makes one, such as functools.partial(priors.get, "autoregressive", hidden=256).
    """

    categories: int

    def __init__(self, latents, categories, ops, prior="uniform"):
        super().__init__(latents, ops)
        if categories < 1:
            raise ValueError(f"categories must be at least 1, got {categories}")
        self.categories = categories
        make = functools.partial(priors.get, prior) if isinstance(prior, str) else prior
        self.prior = make(latents=latents, categories=categories, ops=ops)

    def init(self, rng, dtype):
        return self.prior.init(rng, dtype)

    def spec(self):
        return {"prior": priors.registry.name_of(self.prior)}

    def code_count(self):
        return self.categories ** self.latents

    def codes(self):
        return all_codes(self.ops.xp, self.latents, self.categories) if self.code_count() <= MOST_CODES else None

    def log_prior(self, params, codes, dtype=None):
        return self.prior.log_prob(params, codes, dtype)

    def sample_prior(self, params, rng, n):
        return self.prior.sample(params, rng, n)

    def traverse(self, params, z, d):
        xp = self.ops.xp
        codes = xp.broadcast_to(z, (self.categories, self.latents)).copy()      # [K, D]
        codes[:, d] = xp.arange(self.categories)
        return codes

    def check_z(self, z):
        D, K = self.latents, self.categories
        if z.dtype.kind not in "iu" or z.shape[1:] != (D,):
            raise ValueError(f"codes must be int [N, {D}], got {z.dtype} {list(z.shape)}")
        if z.size and not (0 <= z.min() and z.max() < K):
            raise ValueError(f"codes must be categories 0 to {K - 1}, got {z.min()} to {z.max()}")
        return z
