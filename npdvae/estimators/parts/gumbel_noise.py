"""Gumbel noise: perturbed logits, and perturbed logits given which category won."""
from npdvae.estimators.base import Draw
from npdvae.estimators.parts.relaxation import perturbed
from npdvae.estimators.parts.temperature import Tempered
from npdvae.ops.kernelled import kernelled


class GumbelNoise(Tempered):
    """Codes argmax(phi + G) from S x K uniforms per latent; subclasses say what crosses the argmax.

    `from_noise` is the whole forward as a function of its uniforms, for quadrature and for tests.
    """

    noise = "gumbel"
    needs_dcodes = True
    conditional_draws = 0                       # further draws of the noise, given the codes

    def __init__(self, ops=None, samples=1):
        super().__init__(ops)
        if samples < 1:
            raise ValueError(f"estimator {self.name} needs samples >= 1, got {samples}")
        self.samples = samples

    def evaluations(self, latents, categories):
        return self.samples

    def sample(self, logits, rng, state=None, context=None):
        B, D, K = logits.shape
        u = rng.uniform((self.samples, B, D, K), logits.dtype)      # [S, B, D, K]
        k = self.conditional_draws
        v = rng.uniform((self.samples, B, D, k * K), logits.dtype) if k else None   # [S, B, D, k*K]
        return self.from_noise(logits, u, v, state, context)

    def from_noise(self, logits, u, v=None, state=None, context=None):
        """The draw that uniforms u [S, B, D, K] give; v [S, B, D, k*K] are those of k conditional draws."""
        gumbels, codes = perturbed(self.ops, logits, u)             # [S, B, D, K], [S, B, D]
        kept = {"gumbels": gumbels, **self.keep(logits, state)}
        if v is not None:
            kept["v"] = v
        return Draw(codes, logits, kept)


@kernelled
def conditional_gumbels(ops, log_p, codes, v):
    """Perturbed log-probabilities log p + G given that `codes` win (Maddison et al. 2014; Paulus et al. 2021).

    log_p [..., D, K], codes int [S, B, D], v [S, B, D, k*K] in (0, 1) -> [S, B, D, k, K]. With E = -log v:
    -log E_i for the winner i, -log(E_j / p_j + E_i) for the others.
    """
    xp, K = ops.xp, log_p.shape[-1]
    log_e = xp.log(-xp.log(v)).reshape(*v.shape[:-1], -1, K)        # [S, B, D, k, K]
    won = ops.one_hot(codes, K, log_e.dtype)[..., None, :]          # [S, B, D, 1, K]
    log_winner = (log_e * won).sum(-1, keepdims=True)               # [S, B, D, k, 1]
    others = xp.logaddexp(log_e - log_p[..., None, :], log_winner)  # [S, B, D, k, K]
    return -xp.where(won > 0, log_winner, others)


@kernelled
def conditional_gumbels_backward(ops, dnoisy, log_p, codes, v):
    """Adjoint of `conditional_gumbels` w.r.t. log_p at given codes and v, not summed: all [S, B, D, k, K].

    The winner stays where it is; the others move by (E_j / p_j) / (E_j / p_j + E_i).
    """
    xp, K = ops.xp, log_p.shape[-1]
    log_e = xp.log(-xp.log(v)).reshape(*v.shape[:-1], -1, K)        # [S, B, D, k, K]
    won = ops.one_hot(codes, K, log_e.dtype)[..., None, :]          # [S, B, D, 1, K]
    log_winner = (log_e * won).sum(-1, keepdims=True)               # [S, B, D, k, 1]
    return (1 - won) * ops.sigmoid(log_e - log_p[..., None, :] - log_winner) * dnoisy


@kernelled
def conditional_straight_through(ops, log_p, codes, v, dcodes, tau):
    """Mean over k conditional draws of J(softmax((log p + G) / tau)) g / tau: dcodes [S, B, D, K] -> [S, B, D, K]."""
    y = ops.softmax(conditional_gumbels(ops, log_p, codes, v) / tau)   # [S, B, D, k, K]
    return ops.softmax_backward(dcodes[..., None, :], y).mean(-2) / tau
