"""log sum exp, and a log of zero that stays finite."""

LOG_ZERO = -1e30                                # exp gives 0 and no arithmetic on it gives NaN, in float32 too


def log_sum_exp(xp, x, axis):
    """log of the sum of exp(x) along an axis, shifted by the largest."""
    top = x.max(axis, keepdims=True)
    return xp.log(xp.exp(x - top).sum(axis)) + top.squeeze(axis)
