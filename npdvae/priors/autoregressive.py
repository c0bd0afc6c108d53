"""An autoregressive prior p(z) = prod_d p(z_d | z_<d): MADE over codes (Germain et al. 2015), one hidden layer."""
from __future__ import annotations

import numpy as np

from npdvae.mlp import MLP
from npdvae.priors import register
from npdvae.priors.base import Prior


class MaskedMLP(MLP):
    """D K one-hot inputs, H hidden units, D K outputs; outputs of latent d see inputs of latents before d alone.

    Input and output (d, k) have degree d, hidden unit j has j mod (D - 1); weights outside the masks count as zero.
    """

    def __init__(self, name, latents, categories, hidden, ops):
        super().__init__(name, (latents * categories, hidden, latents * categories), "relu", ops)
        degree = np.repeat(np.arange(latents), categories)          # [D K]
        m = np.arange(hidden) % max(latents - 1, 1)                 # [H]; D = 1 leaves biases only
        self.masks = [ops.xp.asarray(a) for a in (m >= degree[:, None], degree > m[:, None])]    # [D K, H], [H, D K]

    def layers(self, params):
        return [(weight * mask, bias) for (weight, bias), mask in zip(super().layers(params), self.masks)]

    def backward(self, params, inputs, dy, weights=None, need_dx=False):
        dx, grads = super().backward(params, inputs, dy, weights, need_dx)
        masked = {f"{self.name}.{i}.weight": mask for i, mask in enumerate(self.masks)}
        return dx, {k: g * masked[k] if k in masked else g for k, g in grads.items()}


@register
class Autoregressive(Prior):
    """Parameters latent.prior.<i>.weight and .bias; starts uniform. No KL in closed form: it is estimated at z."""

    name = "autoregressive"
    factorised = False

    def __init__(self, latents, categories, ops, hidden=128):
        super().__init__(latents, categories, ops)
        if hidden < 1:
            raise ValueError(f"prior autoregressive needs hidden >= 1, got {hidden}")
        self.net = MaskedMLP("latent.prior", latents, categories, hidden, ops)

    def init(self, rng, dtype):
        params = self.net.init(rng, dtype)
        last = ("latent.prior.1.weight", "latent.prior.1.bias")
        return {**params, **{k: np.zeros_like(params[k]) for k in last}}

    def conditionals(self, params, codes):
        """log p(z_d = k | z_<d) of codes int [..., D] or rows [..., D, K]: [..., D, K]; and what backward needs."""
        x = codes if codes.dtype.kind in "iu" else codes.reshape(*codes.shape[:-2], -1)
        out, kept = self.net.forward(params, x)                     # [..., D*K]
        return self.ops.log_softmax(out.reshape(*out.shape[:-1], self.latents, self.categories)), kept

    def rows(self, codes, dtype):
        """Codes as rows: [..., D, K]."""
        return self.ops.one_hot(codes, self.categories, dtype) if codes.dtype.kind in "iu" else codes

    def terms(self, params, codes):
        """log p(z_d | z_<d): [..., D]."""
        log_p, _ = self.conditionals(params, codes)
        return (self.rows(codes, log_p.dtype) * log_p).sum(-1)

    def log_prob_backward(self, params, dlog_p, codes):
        return self.adjoint(params, dlog_p, codes, need_dcodes=False)[1]

    def dcodes(self, params, codes):
        log_p, _ = self.conditionals(params, codes)
        ones = self.ops.xp.ones(codes.shape[:2], log_p.dtype)       # [S, B]
        return self.adjoint(params, ones, codes, need_dcodes=True)[0] + log_p

    def adjoint(self, params, dlog_p, codes, need_dcodes):
        """Through the net: dlog_p [S, B], codes [S, B or 1, ...] -> d / d rows [S, B or 1, D, K], gradients by name."""
        log_p, kept = self.conditionals(params, codes)              # [S, B or 1, D, K]
        if codes.shape[1] == 1:
            dlog_p = dlog_p.sum(1, keepdims=True)                   # shared by the batch: [S, 1]
        z = self.rows(codes, log_p.dtype)
        dout = dlog_p[..., None, None] * (z - self.ops.xp.exp(log_p))      # rows sum to one
        dx, grads = self.net.backward(params, kept, dout.reshape(*dout.shape[:-2], -1), need_dx=need_dcodes)
        return None if dx is None else dx.reshape(log_p.shape), grads

    def sample(self, params, rng, n):
        u = rng.uniform((1, n, self.latents))[0]                    # [n, D]
        codes = self.ops.xp.zeros(u.shape, np.int64)
        for d in range(self.latents):
            log_p, _ = self.conditionals(params, codes)             # [n, D, K]
            codes[:, d] = self.ops.inverse_cdf(self.ops.xp.exp(log_p[:, d]), u[:, d])
        return codes
