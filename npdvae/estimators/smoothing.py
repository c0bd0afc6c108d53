"""Smoothing transformations: bits smeared over [0, 1] by a continuous function of their probability."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw
from npdvae.estimators.parts.antithetic import bit_logits, bit_logits_backward
from npdvae.estimators.parts.smoothing_functions import FUNCTIONS, smooth
from npdvae.estimators.parts.temperature import Tempered
from npdvae.ops.kernelled import kernelled

STEEPEST = {"f1": 8, "overlapping_exponential": 16}     # beta; deviations grow like e^(beta/2)/beta, e^(beta/4)/beta


@kernelled
def power_rows(ops, p, u, beta):
    """Rows (1 - zeta, zeta) [S, B, D, 2] and dzeta / da [S, B, D] of f2: p [B, D], u [S, B, D]."""
    zeta, slope = smooth(ops.xp, "f2", p, u, u, beta)               # 2 x [S, B, D]
    return ops.xp.stack([1 - zeta, zeta], -1), slope


@kernelled
def bits_backward(ops, dcodes, slope):
    """Mean over s of (g_1 - g_0) dzeta / da, at the logits: dcodes [S, B, D, 2], slope [S, B, D] -> [B, D, 2]."""
    da = ((dcodes[..., 1] - dcodes[..., 0]) * slope).mean(0)        # [B, D]
    return bit_logits_backward(ops, da)


@register
class Smoothing(Tempered):
    """(g_1 - g_0) dzeta / da at rows (1 - zeta, zeta), zeta = smooth(sigmoid(a), u), beta = 1 / temperature.

    Unbiased for E[f(zeta)], which is not E[f(z)]: with the analytic KL a bound of the smoothed model (a surrogate
    for f3, whose smoothing depends on p). The bias against E[f(z)] falls like 1 / beta. To anneal: linear, from
    temperature 5/6 to 1/4 (beta 1.2 to 4). function: f1 (spike and exponential, Rolfe 2016; temperatures from 1/8 on),
    f2 (spike and power), f3 (two powers that meet; temperatures below 1), overlapping_exponential (Vahdat et al.
    2018a; from 1/16 on), overlapping_power (Vahdat et al. 2018b). Cost: S evaluations and S backwards.
    """

    name = "smoothing"
    noise = "two_pieces"
    needs_dcodes = True
    binary = True
    relaxed = True

    def __init__(self, ops=None, samples=4, function="f2", temperature=0.5, anneal="constant", anneal_rate=0.0,
                 anneal_min=0.25, anneal_every=1):
        super().__init__(ops)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if samples < 1:
            raise ValueError(f"estimator smoothing needs samples >= 1, got {samples}")
        if function not in FUNCTIONS:
            raise ValueError(f"estimator smoothing: function must be one of {', '.join(FUNCTIONS)}, got {function!r}")
        coldest = self.temperature if anneal == "constant" else self.anneal_min
        if function in STEEPEST and coldest < 1 / STEEPEST[function]:
            raise ValueError(f"estimator smoothing: function {function} needs every temperature >= "
                             f"1/{STEEPEST[function]} (beta <= {STEEPEST[function]}; beyond, its deviation explodes), "
                             f"got {coldest}")
        if function == "f3" and not self.temperature < 1:
            raise ValueError("estimator smoothing: function f3 needs every temperature < 1 (beta > 1), got "
                             f"{self.temperature}")
        self.samples, self.function = samples, function

    def evaluations(self, latents, categories):
        return self.samples

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        u, rho = rng.uniform((2 * self.samples, B, D), logits.dtype).reshape(2, -1, B, D)   # 2 x [S, B, D]
        return self.from_noise(logits, u, rho, state)

    def from_noise(self, logits, u, v, state=None, context=None):
        """The draw that uniforms u and v [S, B, D] give; v is read by the overlapping functions only."""
        xp, p = self.ops.xp, self.ops.sigmoid(bit_logits(logits))   # [B, D]
        tau = xp.asarray(self.tau(state, logits.dtype), u.dtype)
        if self.function == "f2":
            rows, slope = power_rows(self.ops, p, u, 1 / tau)       # [S, B, D, 2], [S, B, D]
        else:
            zeta, slope = smooth(xp, self.function, p, u, v, 1 / tau)   # 2 x [S, B, D]
            rows = xp.stack([1 - zeta, zeta], -1)
        return Draw(rows, logits, {"tau": tau, "slope": slope})

    def backward(self, draw, cost, dcodes=None, state=None):
        return bits_backward(self.ops, dcodes, draw.kept["slope"])  # [B, D, 2]
