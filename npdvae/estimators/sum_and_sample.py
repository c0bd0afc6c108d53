"""Sum-and-sample: the most probable codes exactly, one code drawn from the rest."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.distinct_codes import draw_outside, log_outside, most_probable
from npdvae.estimators.parts.log_sum_exp import LOG_ZERO
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.estimators.parts.score import weighted_score

BASELINES = ("summed", "none")


@register
class SumAndSample(Estimator):
    """sum_C q (f - b) s + (1 - q(C)) (f_j - b) s_j, s = z - p (Liang et al. 2018; Liu et al. 2019).

    C holds the k-1 most probable of the K**D codes, j is drawn outside C. baseline summed: b is the mean of f
    over C, which no draw changes (0 when k = 1); none: b = 0, the formula as published.
    Cost: k evaluations, at most K**D.
    """

    name = "sum_and_sample"
    unbiased = True
    exact_for = "any"

    def __init__(self, ops=None, k=8, baseline="summed"):
        super().__init__(ops)
        if k < 1:
            raise ValueError(f"estimator sum_and_sample needs k >= 1 codes, got {k}")
        if baseline not in BASELINES:
            raise ValueError(f"estimator sum_and_sample: baseline must be one of {', '.join(BASELINES)}, "
                             f"got {baseline!r}")
        self.k, self.baseline = k, baseline

    def evaluations(self, latents, categories):
        return min(self.k, categories ** latents)

    def summed(self, logits):
        """The codes summed exactly, int [k-1, B, D]; weights [k, B], the last for the code drawn; tables."""
        xp, (_, D, K) = self.ops.xp, logits.shape
        log_p = self.ops.log_softmax(logits)
        codes, log_q = most_probable(self.ops, log_p, self.evaluations(D, K) - 1)
        log_rest, tables = log_outside(self.ops, log_p, codes)
        return codes, xp.exp(xp.concatenate([log_q, log_rest[None]])), tables

    def sample(self, logits, rng, state=None, context=None):
        codes, weights, tables = self.summed(logits)
        u = rng.uniform((1, *logits.shape[:2]), logits.dtype)[0]    # [B, D]
        drawn = draw_outside(self.ops, self.ops.log_softmax(logits), codes, tables, u)
        return self.draw(codes, drawn, weights, logits)

    def draw(self, codes, drawn, weights, logits):
        rows = self.ops.xp.concatenate([codes, drawn[None]])        # [k, B, D]
        return Draw(rows, logits, {"p": self.ops.softmax(logits), "weights": weights})

    def outcomes(self, logits, state=None, context=None):
        xp, (_, D, K) = self.ops.xp, logits.shape
        codes, weights, _ = self.summed(logits)
        every = all_codes(xp, D, K)                                 # [N, D]
        place = (codes * K ** xp.arange(D - 1, -1, -1)).sum(-1)     # [k-1, B], rows of `every`
        inside = (xp.arange(len(every))[:, None, None] == place).any(1)   # [N, B]
        log_q = xp.where(inside, LOG_ZERO, codes_log_prob(self.ops, logits, every))
        q = self.ops.softmax(log_q.T).T                             # [N, B], given that the code is outside
        order = xp.argsort(inside.astype(int), axis=0, kind="stable")   # [N, B], those outside first
        for place in order[:len(every) - len(codes)]:
            drawn = self.draw(codes, every[place], weights, logits)
            yield xp.take_along_axis(q, place[None], 0)[0], drawn   # [B]

    def weigh(self, draw, cost):
        return draw.kept["weights"]                                 # [k, B]

    def backward(self, draw, cost, dcodes=None, state=None):
        p, weights = draw.kept["p"], draw.kept["weights"]           # [B, D, K], [k, B]
        if self.baseline == "summed" and len(cost) > 1:
            share = self.ops.softmax(self.log_q(draw)[:-1].T).T     # [k-1, B], q / q(C)
            cost = cost - (share * cost[:-1]).sum(0)                # [k, B]
        return weighted_score(self.ops, weights * cost, draw.codes, p)      # [B, D, K]

    def log_q(self, draw):
        return self.ops.log_prob(self.ops.log_softmax(draw.logits), draw.codes)   # [k, B]
