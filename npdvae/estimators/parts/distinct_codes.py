"""Distinct codes of a product of categoricals, never all K**D of them: the k most probable, k drawn in turn
without replacement, and how much probability a set leaves outside."""
from npdvae.estimators.parts.log_sum_exp import LOG_ZERO, log_sum_exp
from npdvae.ops.kernelled import kernelled
from npdvae.types import Array


@kernelled
def most_probable(ops, log_p, count):
    """The `count` most probable codes, best first: log_p [B, D, K] -> int [count, B, D], their log q [count, B].

    Latent by latent: every prefix of a code among the n best is among the n best prefixes.
    """
    xp, (B, D, K) = ops.xp, log_p.shape
    orders, log_q = [], xp.zeros((B, 1), log_p.dtype)               # d x [B, n], [B, n]
    for d in range(D):
        grown = (log_q[:, :, None] + log_p[:, d, None]).reshape(B, -1)   # [B, n*K]
        orders.append(xp.argsort(-grown, axis=1, kind="stable")[:, :count])   # [B, n]
        log_q = xp.take_along_axis(grown, orders[-1], 1)
    return trace_back(xp, orders, K), log_q.T


def trace_back(xp, orders, categories):
    """Codes from the choices made latent by latent, prefix * K + category: D x int [B, n] -> int [n, B, D]."""
    columns: list[Array] = []
    choice = orders[-1]                                             # [B, n]
    for order in reversed(orders[:-1]):
        columns.insert(0, choice % categories)
        choice = xp.take_along_axis(order, choice // categories, 1)
    columns.insert(0, choice)
    return xp.stack(columns, -1).transpose(1, 0, 2)


@kernelled
def without_replacement(ops, log_p, u):
    """k distinct codes in the order of their draws: log_p [B, D, K], uniforms [k, B, D, K] -> int [k, B, D].

    Stochastic beam search (Kool et al. 2019) as a race: code z arrives at an exponential time of rate q(z), the k
    first win. Time of a prefix = first arrival below it: one child inherits it, the others arrive later by an
    exponential time of their own rate (no memory). Fewer rows where K**D < k.
    """
    xp, (B, D, K) = ops.xp, log_p.shape
    tiny = xp.finfo(log_p.dtype).tiny
    orders, log_q = [], xp.zeros((B, 1), log_p.dtype)               # d x [B, n], [B, n]
    log_time = xp.full((B, 1), LOG_ZERO, log_p.dtype)
    for d in range(D):
        noise = u[:log_time.shape[1], :, d].swapaxes(0, 1)          # [B, n, K]
        race = xp.log(-xp.log(noise)) - log_p[:, d, None]           # [B, n, K], log of a time of rate p_dk
        first = race.min(-1, keepdims=True)                         # [B, n, 1]
        lead = race + xp.log(xp.maximum(-xp.expm1(first - race), tiny))   # log of the time after the first
        later = xp.logaddexp(log_time[..., None], lead - log_q[..., None])
        times = xp.where(race == first, log_time[..., None], later).reshape(B, -1)   # [B, n*K]
        orders.append(xp.argsort(times, axis=1, kind="stable")[:, :len(u)])   # [B, n]
        grown = (log_q[..., None] + log_p[:, d, None]).reshape(B, -1)
        log_q, log_time = (xp.take_along_axis(a, orders[-1], 1) for a in (grown, times))
    return trace_back(xp, orders, K)


@kernelled
def log_outside(ops, log_p, codes):
    """log of the probability outside a set: log_p [B, D, K], distinct codes int [n, B, D] -> [B], and tables.

    tables [D, n, B, K], at d: log of the share of q outside the set below the prefix (z_<d of that member, k). Sums of
    positive terms over the tree of prefixes, so nothing cancels, however close to one the set's probability is.
    """
    xp, (n, B, D), K = ops.xp, codes.shape, log_p.shape[-1]
    if n == 0:
        return xp.zeros(B, log_p.dtype), xp.zeros((D, 1, B, K), log_p.dtype)
    same = [xp.ones((n, n, B), bool)]                               # whether two members share the first d categories
    for d in range(D - 1):
        same.append(same[d] & (codes[:, None, :, d] == codes[None, :, :, d]))
    hot = codes[..., None] == xp.arange(K)                          # [n, B, D, K]
    outside = xp.full((n, B), LOG_ZERO, log_p.dtype)
    tables: list[Array] = []
    for d in reversed(range(D)):
        table = xp.zeros((n, B, K), log_p.dtype)
        for j in range(n):
            reached = same[d][:, j, :, None] & hot[j, :, d]         # [n, B, K]
            table = xp.where(reached, outside[j][:, None], table)
        tables.insert(0, table)
        outside = log_sum_exp(xp, log_p[:, d] + table, 2)           # [n, B]
    return outside[0], xp.stack(tables)


@kernelled
def draw_outside(ops, log_p, codes, tables, u):
    """A code given that it is outside the set: tables of `log_outside`, uniforms [B, D] -> int [B, D]."""
    xp, columns = ops.xp, []
    on = xp.ones(tables.shape[1:3], bool)                # [n, B], members with the prefix drawn so far
    for d in range(log_p.shape[1]):
        table = xp.where(on[..., None], tables[d], 0).min(0)        # [B, K]
        z = ops.inverse_cdf(ops.softmax(log_p[:, d] + table), u[:, d])   # [B]
        if len(codes):
            on = on & (codes[:, :, d] == z)
        columns.append(z)
    return xp.stack(columns, -1)
