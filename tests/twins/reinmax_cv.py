"""Wang & Bui 2026: ReinMax + eta (GR_k - straight-through Gumbel), the correction at theta' = log (p + D) / 2."""
import math

from tests.twins import FIXED, reinmax
from tests.twins.gr_mc import gumbel_rao
from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """ReinMax's twin, plus the mean over s of eta (GR_k - J(y) g / tau'), y = softmax((theta' + G) / tau')."""
    tau = estimator.gumbel_temperature
    S, B, D, K = dcodes.shape
    out = reinmax.backward(estimator, draw, cost, dcodes, state)
    for s in range(S):
        for b in range(B):
            for d in range(D):
                z, g = code(draw, s, b, d), [float(v) for v in dcodes[s, b, d]]
                p = softmax([float(v) for v in draw.logits[b, d]])
                midpoint = [(p[k] + (k == z)) / 2 for k in range(K)]
                rao = gumbel_rao(midpoint, z, list(draw.kept["v"][s, b, d]), g, tau)
                noisy = [math.log(midpoint[k]) + float(draw.kept["gumbels"][s, b, d, k]) for k in range(K)]
                through = jacobian_times(softmax([v / tau for v in noisy]), g)
                for k in range(K):
                    out[b, d, k] += estimator.eta * (rao[k] - through[k] / tau) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, conditional_draws=10, temperature=1.0, gumbel_temperature=0.5, eta=0.5, **FIXED), 1, 1
