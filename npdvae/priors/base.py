"""What a prior over codes is: its probability, the adjoint of it, and samples; in nats."""
from __future__ import annotations

from typing import ClassVar

from npdvae.ops.table import Ops
from npdvae.rng import Generator
from npdvae.types import Array, DType, Params


class Prior:
    """p(z) over D latents of K categories; parameters, if any, are named latent.prior...

    A factorised prior has its rows log p(z_d = k) and an analytic KL(q || p) for factorised q; another has the
    `terms` of its log-probability, and `dcodes` for estimators that read derivatives at the codes.
    """

    name: ClassVar[str]
    factorised: bool = True
    learns: bool = True                         # whether there are parameters

    def __init__(self, latents: int, categories: int, ops: Ops):
        self.latents, self.categories, self.ops = latents, categories, ops

    def init(self, rng: Generator, dtype: DType) -> Params:
        """Fresh parameters by name, NumPy arrays of `dtype`."""
        return {}

    def log_rows(self, params: Params) -> Array:
        """log p(z_d = k): [D, K]."""
        raise NotImplementedError

    def terms(self, params: Params, codes: Array) -> Array:
        """log p(z_d | z_<d) of codes int [..., D] or rows [..., D, K]: [..., D]."""
        raise NotImplementedError

    def dcodes(self, params: Params, codes: Array) -> Array:
        """d log p(z) / d rows at codes [S, B or 1, ...]: [S or 1, B or 1, D, K]."""
        return self.log_rows(params)[None, None]

    def log_prob(self, params: Params, codes: Array, dtype: DType | None = None) -> Array:
        """log p(z) of codes int [..., D] or rows [..., D, K] -> [...], in `dtype` (None: that of the rows)."""
        if not self.factorised:
            return self.terms(params, codes).sum(-1)                # [...]
        rows = self.log_rows(params)                                # [D, K]
        return self.ops.log_prob(rows if dtype is None else rows.astype(dtype), codes)

    def log_prob_backward(self, params: Params, dlog_p: Array, codes: Array) -> Params:
        """Adjoint of `log_prob` w.r.t. the parameters: dlog_p [S, B], codes as there -> gradients by name."""
        raise NotImplementedError

    def kl(self, params: Params, log_q: Array) -> Array:
        """KL(q || p) of each latent: log q [B, D, K] -> [B, D]."""
        return self.ops.kl_categorical(log_q, self.log_rows(params))

    def kl_backward(self, params: Params, dkl: Array, log_q: Array) -> tuple[Array, Params]:
        """Adjoint of `kl`: dkl [B, D] -> d / d logits of q [B, D, K], gradients of the parameters by name."""
        raise NotImplementedError

    def posterior(self, params: Params, logits: Array) -> tuple[Array, Array | None]:
        """log q of logits [B, D, K], and its `kl` where the prior is factorised."""
        log_q = self.ops.log_softmax(logits)                        # [B, D, K]
        return log_q, self.kl(params, log_q) if self.factorised else None

    def plus_kl_backward(self, params: Params, dlogits: Array, kl_weight: float, free_bits: float, log_q: Array,
                         kl: Array) -> tuple[Array, Params]:
        """dlogits [B, D, K] plus the adjoint of kl_weight `kl`, constant where kl [B, D] is below the free bits."""
        dkl = self.ops.xp.where(kl >= free_bits, kl_weight, 0.0).astype(kl.dtype)       # [B, D]
        dq, grads = self.kl_backward(params, dkl, log_q)
        return dlogits + dq, grads

    def sample(self, params: Params, rng: Generator, n: int) -> Array:
        """Codes: int [n, D]."""
        p = self.ops.xp.exp(self.log_rows(params))                  # [D, K]
        u = rng.uniform((1, n, self.latents))[0]                    # [n, D]
        return self.ops.inverse_cdf(self.ops.xp.broadcast_to(p, (n, *p.shape)), u)
