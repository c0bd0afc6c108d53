"""ReDGE: the code as the end of a denoising diffusion, differentiated through its steps."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts import denoiser
from npdvae.ops.samples import samples_mean


@register
class ReDGE(Estimator):
    """Straight-through at z ~ Cat(x0), x0(phi) the end of steps - 1 denoising steps (Gourevitch et al. 2026).

    cov: the noise has the mean p and the variances of the code, none below 0.1. reinmax: ReinMax in the last step for
    what phi moves beside x. `first` is 1 - a of the cleanest noisy time. The codes are not softmax(phi)'s, so the
    training cost is no ELBO. Cost: S evaluations and S backwards.
    """

    name = "redge"
    noise = "normal"
    needs_dcodes = True
    relaxed = True

    def __init__(self, ops=None, samples=1, steps=3, first=0.5, cov=False, reinmax=False):
        super().__init__(ops)
        for option, value, least in (("samples", samples, 1), ("steps", steps, 2)):
            if value < least:
                raise ValueError(f"estimator redge needs {option} >= {least}, got {value}")
        if not 0 < first < 1:
            raise ValueError(f"estimator redge needs first between 0 and 1, got {first}")
        if cov and reinmax:
            raise ValueError("estimator redge has no ReinMax with covariance: choose one of cov and reinmax")
        self.samples, self.steps, self.first, self.cov, self.reinmax = samples, steps, first, cov, reinmax
        self.times = denoiser.schedule(steps, first)

    def evaluations(self, latents, categories):
        return self.samples

    def sample(self, logits, rng, state=None, context=None):
        B, D, K = logits.shape
        pairs = rng.uniform((self.samples, B, D, 2 * K), logits.dtype)
        normals = self.ops.normal(pairs.reshape(-1, B, D, K, 2))    # [S, B, D, K]
        path = self.path(logits, normals)
        codes = self.ops.inverse_cdf(path[1][-1], rng.uniform(normals.shape[:3], logits.dtype))
        return self.draw(codes, logits, normals).keeping(path=path)

    def draw(self, codes, logits, normals):
        """codes int [S, B, D] that the end of the path from these normals [S, B, D, K] gave."""
        return Draw(codes, logits, {"normals": normals})

    def path(self, logits, normals):
        """x and x0 of every time: lists of [S, B, D, K]."""
        return denoiser.forward(self.ops, logits, normals, self.times, self.cov)

    def end(self, logits, normals):
        """x0 of the last step, from which the code is drawn: [S, B, D, K]."""
        return self.path(logits, normals)[1][-1]

    def backward(self, draw, cost, dcodes=None, state=None):
        ops, normals = self.ops, draw.kept["normals"]
        path = draw.kept["path"] if "path" in draw.kept else self.path(draw.logits, normals)
        x0 = path[1][-1]                                            # [S, B, D, K]
        direct = ops.softmax_backward(dcodes, x0)                   # [S, B, D, K]
        if self.reinmax:
            score = ops.one_hot(draw.codes, x0.shape[-1], x0.dtype) - x0
            direct = (direct + (dcodes * score).sum(-1, keepdims=True) * score) / 2
        dlogits = denoiser.backward(ops, dcodes, direct, draw.logits, normals, path, self.times, self.cov)
        return samples_mean(dlogits)                                # [B, D, K]
