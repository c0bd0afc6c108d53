"""z = loc + exp(s) e with noise e of a standard family: six latents, pathwise or score-function gradients.

KL to the prior N(0, 1) is analytic for every family of variance v0 and entropy H0:
(loc^2 + v0 exp(2 s)) / 2 + log(2 pi) / 2 - H0 - s.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae.latents import families, register
from npdvae.latents.families import LOG_TAU
from npdvae.latents.reparameterised import Reparameterised
from npdvae.ops.kernelled import kernelled
from npdvae.ops.samples import samples_mean

PRIORS = {name: families.TABLE[name] for name in ("gaussian", "laplace", "logistic")}     # of unbounded support
NODES = 64                                      # of a half-line, for the KL to another prior than N(0, 1)


@kernelled
def analytic_kl(ops, loc, s, variance, entropy):
    """KL to N(0, 1) of noise of this variance and entropy: loc, s [B, D] -> [B, D]."""
    return (loc ** 2 + variance * ops.xp.exp(s) ** 2) / 2 + LOG_TAU / 2 - entropy - s


@kernelled
def moved(ops, loc, s, e):
    """z = loc + exp(s) e: [B, D] and noise [S, B, D] -> [S, B, D]."""
    return loc + ops.xp.exp(s) * e


class Posterior(NamedTuple):
    """q(z | x) of each example."""

    loc: Any                                    # [B, D]
    s: Any                                      # [B, D], log scale
    kl: Any                                     # [B, D], nats


class Kept(NamedTuple):
    """What the backward of the latent layer needs."""

    q: Posterior
    e: Any                                      # [S, B, D]
    z: Any                                      # [S, B, D]
    kl: Any                                     # [B, D], analytic or sampled


class LocationScale(Reparameterised):
    """h = (loc, s); the decoder reads T(z), T of `transform`, so KL and log-ratio are those of z.

    `kl`: analytic; sampled, log q(z) - log p(z) at the z drawn, where the prior may be of another `prior_family`; or
    parameters, a penalty loc^2 + (exp(s) - 1)^2 in the gradient alone: the KL that is reported is the analytic one.
    `gradient` score is REINFORCE with leave-one-out baselines.
    """

    def __init__(self, latents, ops=None, samples=1, gradient="pathwise", kl="analytic", prior_family="gaussian",
                 transform="none", free_bits=0.0):
        super().__init__(latents, ops, samples, free_bits)
        self.gradient = self.choose("gradient", gradient, ("pathwise", "score"))
        self.penalty = self.choose("kl", kl, ("analytic", "sampled", "parameters"))
        self.prior_family = self.choose("prior_family", prior_family, tuple(PRIORS))
        self.transform = self.choose("transform", transform, ("none", "exp", "sigmoid"))
        self.family, self.prior = self.standard(), PRIORS[prior_family](ops)
        self.needs_dz, self.width = gradient == "pathwise", 2 * latents
        self.check()

    def standard(self) -> families.Family:
        """The family of the noise."""
        return families.TABLE[self.name](self.ops)

    def check(self) -> None:
        """Raise ValueError for options that do not go together."""
        if self.gradient == "score" and self.samples < 2:
            raise ValueError(f"latent {self.name}: gradient score compares samples, so it needs at least 2, got 1")
        if self.gradient == "score" and isinstance(self.family, families.Uniform):
            raise ValueError("latent uniform: gradient score misses what moving the ends of the support does; "
                             "take pathwise")
        if self.prior_family != "gaussian" and self.penalty != "sampled":
            raise ValueError(f"latent {self.name}: prior_family {self.prior_family} needs kl sampled")
        if self.free_bits and self.penalty == "parameters":
            raise ValueError(f"latent {self.name}: free bits are of a KL, which kl parameters does not descend")

    def spec(self):
        names = ("samples", "gradient", "penalty", "prior_family", "transform")
        family = {"nu": self.family.nu} if isinstance(self.family, families.StudentT) else {}
        return {"settings": {**{name: getattr(self, name) for name in names}, **family}, "free_bits": self.free_bits}

    # ---- the training step ----------------------------------------------------------------------------------------

    def noise(self, family, rng, shape, dtype):
        """e of a family: [S, B, D]."""
        return family.noise(rng.uniform((*shape, family.uniforms), dtype))

    def forward(self, params, h, rng, state=None, context=None):
        """h [B, 2 D] -> z [S, B, D], kept."""
        q = self.posterior(params, h)
        e = self.noise(self.family, rng, (self.samples, *q.loc.shape), h.dtype)
        z = moved(self.ops, q.loc, q.s, e)                          # [S, B, D]
        if self.penalty != "sampled":
            return z, Kept(q, e, z, q.kl)
        log_ratio = self.family.log_density(e) - q.s - self.prior.log_density(z)    # [S, B, D]
        return z, Kept(q, e, z, log_ratio.mean(0))

    def rows(self, params, z):
        """T(z)."""
        if self.transform == "exp":
            return self.ops.xp.exp(z)
        return self.ops.sigmoid(z) if self.transform == "sigmoid" else z

    def rows_backward(self, drows, z):
        """Adjoint of `rows`."""
        if self.transform == "exp":
            return drows * self.ops.xp.exp(z)
        return drows * self.ops.sigmoid(z) * self.ops.sigmoid(-z) if self.transform == "sigmoid" else drows

    def cost_gradient(self, kept, cost, drows):
        return self.pathwise(kept, drows) if self.needs_dz else self.score(kept, cost)

    def pathwise(self, kept, drows):
        """E[dz] and E[dz sigma e] over the samples: [B, D] each (Kingma and Welling 2014)."""
        dz = self.rows_backward(drows, kept.z)                      # [S, B, D]
        return samples_mean(dz), samples_mean(dz * kept.e) * self.ops.xp.exp(kept.q.s)

    def score(self, kept, cost):
        """E[(f - b) d log q]: [B, D] each; b is the mean cost of the other samples."""
        f = ((cost - cost.mean(0)) / (len(cost) - 1))[..., None]    # [S, B, 1], (f - b) / S
        psi = self.family.slope(kept.e)                             # [S, B, D]
        # d log q / ds = -1 - e psi, whose -1 meets sum f = 0
        return -(f * psi).sum(0) / self.ops.xp.exp(kept.q.s), -(f * kept.e * psi).sum(0)

    def kl_gradient(self, kept):
        """d KL / d loc and d KL / ds, or of what stands for it: [B, D] each."""
        q, sigma = kept.q, self.ops.xp.exp(kept.q.s)                # [B, D]
        if self.penalty == "analytic":
            return q.loc, self.family.variance * sigma ** 2 - 1
        if self.penalty == "parameters":
            return 2 * q.loc, 2 * (sigma - 1) * sigma
        r = -self.prior.slope(kept.z)                               # [S, B, D], -d log p / dz
        return r.mean(0), (r * kept.e).mean(0) * sigma - 1

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def posterior(self, params, h):
        loc, s = h[:, :self.latents], h[:, self.latents:]           # [B, D] each
        if self.prior_family == "gaussian":
            return Posterior(loc, s, analytic_kl(self.ops, loc, s, self.family.variance, self.family.entropy))
        return Posterior(loc, s, self.cross_entropy(loc, s) - self.family.entropy - s)

    def cross_entropy(self, loc, s):
        """-E_q[log p(z)] by quadrature: [B, D]."""
        sigma = self.ops.xp.exp(s)
        e, w = (a.astype(loc.dtype)[:, None, None] for a in families.nodes(self.family, NODES))    # [N, 1, 1]
        return -(w * self.prior.log_density(loc + sigma * e)).sum(0)

    def readout(self, q):
        return {"loc": q.loc, "scale": self.ops.xp.exp(q.s)}        # [B, D] each

    def sample(self, params, q, rng, samples):
        e = self.noise(self.family, rng, (samples, *q.loc.shape), q.loc.dtype)
        return moved(self.ops, q.loc, q.s, e)                       # [S, B, D]

    def mode(self, params, q):
        return q.loc                                                # [B, D]

    def log_ratio(self, params, q, z):
        e = (z - q.loc) / self.ops.xp.exp(q.s)                      # [S, B, D]
        return (self.prior.log_density(z) - self.family.log_density(e) + q.s).sum(-1)   # [S, B]

    def sample_prior(self, params, rng, n):
        return self.noise(self.prior, rng, (1, n, self.latents), float)[0]      # [n, D]

    def traverse(self, params, z, d):
        return self.set_latent(z, d, families.quantiles(self.prior, 12))        # [12, D]


@register
class Gaussian(LocationScale):
    name = "gaussian"


@register
class Laplace(LocationScale):
    name = "laplace"


@register
class Logistic(LocationScale):
    name = "logistic"


@register
class Triangular(LocationScale):
    name = "triangular"


@register
class Uniform(LocationScale):
    name = "uniform"


@register
class StudentT(LocationScale):
    """`nu` degrees of freedom, above 2."""

    name = "student_t"

    def __init__(self, latents, ops=None, samples=1, gradient="pathwise", kl="analytic", prior_family="gaussian",
                 transform="none", free_bits=0.0, nu=5.0):
        self.nu = nu
        super().__init__(latents, ops, samples, gradient, kl, prior_family, transform, free_bits)

    def standard(self):
        return families.StudentT(self.ops, self.nu)
