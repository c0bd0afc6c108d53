"""What a result is to be judged by: the negative ELBO of a collapsed posterior, and the floor of grey targets."""
import numpy as np


def collapsed_baseline(train, test, levels=1):
    """Negative ELBO on `test` when the decoder predicts each pixel's training mean and q is the prior, in nats.

    train [N, P], test [M, P]: values 0..levels. For dynamic binarization it is the expectation (the cost is linear
    in the targets). Means are kept half an image away from 0 and from 1, so that no pixel costs infinity.
    """
    margin = 0.5 / len(train)
    mean = np.clip(train.mean(0, dtype=np.float64) / levels, margin, 1 - margin)     # [P]
    target = test.mean(0, dtype=np.float64) / levels                                 # [P]
    return float(-(target * np.log(mean) + (1 - target) * np.log1p(-mean)).sum())


def irreducible_cost(rows, levels=1, chunk=1000):
    """Cost of grey targets at a perfect reconstruction: mean over images of the pixels' entropy, in nats.

    rows [N, P]: values 0..levels. Zero for binary targets.
    """
    total = 0.0
    for start in range(0, len(rows), chunk):
        p = rows[start:start + chunk].astype(np.float64) / levels
        inside = p[(p > 0) & (p < 1)]
        total -= float((inside * np.log(inside) + (1 - inside) * np.log1p(-inside)).sum())
    return total / len(rows)
