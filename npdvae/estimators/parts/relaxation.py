"""Gumbel noise with the codes that it draws, and the relaxed rows that stand for them."""
from npdvae.ops.kernelled import kernelled


@kernelled
def perturbed(ops, logits, u):
    """G = -log(-log u) and argmax(phi + G): logits [B, D, K], u [S, B, D, K] -> [S, B, D, K], int [S, B, D]."""
    gumbels = ops.gumbel(u)
    return gumbels, ops.gumbel_max(logits, gumbels)


@kernelled
def relaxed(ops, logits, gumbels, tau):
    """y = softmax((phi + G) / tau): [S, B, D, K]."""
    return ops.softmax((logits + gumbels) / tau)


@kernelled
def relaxed_backward(ops, dy, y, tau):
    """J(y) dy / tau, the mean of the samples: dy, y [S, B, D, K] -> [B, D, K]."""
    return ops.softmax_backward(dy, y).mean(0) / tau
