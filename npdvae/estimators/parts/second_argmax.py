"""Two argmaxes over the same Gumbel noise, at the logits and at logits moved towards a lower or a higher cost."""
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.relaxation import perturbed
from npdvae.ops.kernelled import kernelled
from npdvae.ops.samples import samples_mean


@kernelled
def second_step(ops, logits, shift, gumbels, codes):
    """z' - z of z' = argmax(phi + shift + G), z = codes int [S, B, D], as one-hot rows: [S, B, D, K]."""
    K, dtype = logits.shape[-1], logits.dtype
    moved = ops.gumbel_max(logits + shift, gumbels)                 # [S, B, D]
    return ops.one_hot(moved, K, dtype) - ops.one_hot(codes, K, dtype)


class SecondArgmax(Estimator):
    """(z' - z) / size, z = argmax(phi + G), z' = argmax(phi + shift + G); subclasses say shift and 1 / size.

    The codes are exactly softmax(phi)'s. `from_noise` is the whole forward as a function of its uniforms.
    """

    noise = "second_argmax"
    samples = 1

    def sample(self, logits, rng, state=None, context=None):
        return self.from_noise(logits, rng.uniform((self.samples, *logits.shape), logits.dtype))    # u [S, B, D, K]

    def from_noise(self, logits, u, v=None, state=None, context=None):
        """The draw that uniforms u [S, B, D, K] give."""
        gumbels, codes = perturbed(self.ops, logits, u)             # [S, B, D, K], [S, B, D]
        return Draw(self.rows(codes, logits), logits, {"gumbels": gumbels, "hard": codes})

    def rows(self, codes, logits):
        """Where the decoder is evaluated: the codes, unless a subclass needs more."""
        return codes

    def move(self, draw, cost, dcodes, state):
        """shift [S, B, D, K] of the logits and 1 / size [S, B, 1, 1] of the estimate."""
        raise NotImplementedError

    def step(self, draw, shift):
        """z' - z as one-hot rows: [S, B, D, K]."""
        return second_step(self.ops, draw.logits, shift, draw.kept["gumbels"], draw.kept["hard"])

    def moved(self, draw, cost, dcodes, state):
        """`step` of the move, [S, B, D, K], and what the estimate multiplies it by."""
        shift, inverse = self.move(draw, cost, dcodes, state)
        return self.step(draw, shift), inverse

    def backward(self, draw, cost, dcodes=None, state=None):
        step, inverse = self.moved(draw, cost, dcodes, state)
        return samples_mean(inverse * step)                         # [B, D, K]
