"""KL of relaxed rows to a uniform Concrete prior, at the rows drawn (Maddison et al. 2017, appendix C).

Of l = log y, y = softmax((phi + G) / tau): log q(l) = log (K-1)! + (K-1) log tau + sum_k log_softmax(phi - tau l)_k,
and phi - tau l is -G up to a constant: at fixed noise log q does not depend on phi.
"""


def sampled_kl(ops, gumbels, log_y, tau, prior_tau):
    """log q - log p of rows: gumbels, log_y [S, B, D, K] -> [S, B, D], nats."""
    xp, K = ops.xp, log_y.shape[-1]
    log_ratio = xp.log(xp.asarray(tau / prior_tau, gumbels.dtype))
    return (K - 1) * log_ratio + (ops.log_softmax(-gumbels) - ops.log_softmax(-prior_tau * log_y)).sum(-1)


def sampled_kl_backward(ops, log_y, tau, prior_tau):
    """Its derivative by the logits at fixed noise: [S, B, D, K].

    d / dl is prior_tau (1 - K softmax(-prior_tau l)), which adds up to 0: what crosses the log-softmax is unchanged.
    """
    return prior_tau * (1 - log_y.shape[-1] * ops.softmax(-prior_tau * log_y)) / tau
