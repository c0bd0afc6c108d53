"""The cost of a trained decoder as `npdvae.verify` takes it: every code of every image once, relaxed rows on demand."""
from __future__ import annotations

from typing import Any

import numpy as np

from npdvae.estimators.parts.outcomes import all_codes

MOST_BYTES = 2 ** 29                            # of the table of code gradients
ROWS = 2048                                     # decoder evaluations at a time


class ModelCost:
    """-log p(x_b | z) in nats: `cost(codes)` [S, B] and `cost.gradient(codes)` [S, B, D, K], for fixed images x [B, P].

    Tables of all K**D codes are made when first used. `tabulate=False` evaluates the decoder every time.
    """

    def __init__(self, model, params, x, tabulate=True):
        self.model, self.params, self.x, self.tabulate = model, params, x, tabulate
        latent = model.latent
        self.latents, self.categories = latent.latents, latent.categories
        self.place = latent.categories ** np.arange(latent.latents)[::-1]       # of codes as all_codes counts
        self.parent: ModelCost | None = None                        # of the same cost without the prior
        self.offset: Any = None                                     # -log p(z_d = k) [D, K], added to the parent's
        self.costs: Any = None                                      # tables [C, B] and [C, B, D, K]
        self.gradients: Any = None

    def with_prior(self, log_prior):
        """-log p(x, z): the same tables, with the prior's rows [D, K] taken off."""
        other = ModelCost(self.model, self.params, self.x, self.tabulate)
        other.offset, other.parent = -np.asarray(log_prior, np.float64), self
        return other

    def __call__(self, codes):
        if self.parent is not None:
            return self.parent(codes) + self.prior_cost(codes)
        if codes.ndim == 4 or not self.tabulate:
            return self.evaluate(codes, want_gradient=False)
        if self.costs is None:
            self.costs = self.table(want_gradient=False)
        return self.look_up(self.costs, codes)

    def gradient(self, codes):
        """d cost / d codes, in the one-hot or relaxed rows."""
        if self.parent is not None:
            return self.parent.gradient(codes) + self.offset
        size = self.categories ** self.latents * len(self.x) * self.latents * self.categories * 4
        if codes.ndim == 4 or not self.tabulate or size > MOST_BYTES:
            return self.evaluate(codes, want_gradient=True)
        if self.gradients is None:
            self.gradients = self.table(want_gradient=True)
        return self.look_up(self.gradients, codes)

    def prior_cost(self, codes):
        """-log p(z) of codes: [S, B or 1]."""
        if codes.ndim == 4:
            return (codes * self.offset).sum((-2, -1))
        return self.offset[np.arange(self.latents), codes].sum(-1)

    def look_up(self, table, codes):
        """Entries [C, B, ...] of codes int [S, B or 1, D] -> float64 [S, B, ...]."""
        index = codes @ self.place                                  # [S, B or 1]
        return table[index, np.arange(len(self.x))].astype(np.float64)

    def table(self, want_gradient):
        """Cost [C, B] or its gradient [C, B, D, K] of every code and image; codes are decoded once for all images."""
        codes = all_codes(np, self.latents, self.categories)[:, None]           # [C, 1, D]
        parts = [self.shared(codes[i:i + ROWS // 16], want_gradient) for i in range(0, len(codes), ROWS // 16)]
        return np.concatenate(parts)

    def shared(self, codes, want_gradient):
        """Codes int [C, 1, D] against every image: [C, B] or [C, B, D, K]."""
        logits, kept = self.model.decode(self.params, codes)        # [C, 1, P]
        if not want_gradient:
            return self.model.likelihood.forward(self.params, logits, self.x).astype(np.float64)
        return self.through(kept, self.dlogits(np.broadcast_to(logits, (len(logits), *self.x.shape))))

    def evaluate(self, codes, want_gradient):
        """Codes int or float, evaluated as they are, in chunks over S: [S, B] or [S, B, D, K]."""
        if codes.ndim == 3 and codes.shape[1] == 1:
            step = max(ROWS // (len(self.x) if want_gradient else 1), 1)
            parts = [self.shared(codes[i:i + step], want_gradient) for i in range(0, len(codes), step)]
            return np.concatenate(parts)
        codes = codes if codes.ndim == 3 else codes.astype(self.x.dtype)
        step = max(ROWS // len(self.x), 1)
        return np.concatenate([self.chunk(codes[i:i + step], want_gradient) for i in range(0, len(codes), step)])

    def chunk(self, codes, want_gradient):
        logits, kept = self.model.decode(self.params, codes)        # [s, B, P]
        if want_gradient:
            return self.through(kept, self.dlogits(logits))
        return self.model.likelihood.forward(self.params, logits, self.x)

    def dlogits(self, logits):
        """d cost / d logits at logits [S, B, P] of each image: [S, B, P]."""
        ones = np.ones(logits.shape[:2], logits.dtype)
        return self.model.likelihood.backward(self.params, ones, logits, self.x)[0]

    def through(self, kept, dlogits):
        """Back through the decoder to its input, parameters left out: [S, B, P] -> [S, B, D, K]."""
        decoder = self.model.decoder
        dy = dlogits
        for i, (weight, _) in reversed(list(enumerate(decoder.layers(self.params)))):
            dy = dy @ weight.T                                      # [S, B, H]
            if i > 0:
                dy = decoder.activate_backward(dy, kept[i])
        return dy.reshape(*dy.shape[:2], self.latents, self.categories)
