"""A categorical code as a Gaussian diffusion x_t = a_t z + s_t noise: deterministic denoising, and its adjoint.

x0 = softmax(phi + (a x - c) / (v s^2)) is the code's mean given x_t: v = 1 and c = 0 for a prior N(0, 1) of the noise;
with `cov` the noise is N(p, v), v = max(p (1 - p), 0.1), p = softmax(phi) and c = a s p + a^2 / 2.
"""
LEAST = 0.1                                     # of the variance v


def schedule(steps: int, first: float) -> list[tuple[float, float]]:
    """(a_t, s_t) of steps - 1 times from the noisiest, a = 1e-4, to a = 1 - first; s = 1 - a."""
    gap = (first - 1 + 1e-4) / max(steps - 2, 1)
    return [(1 - first + i * gap, first - i * gap) for i in reversed(range(steps - 1))]


def step(times: list[tuple[float, float]], i: int) -> tuple[float, float]:
    """x_{t-1} = ratio x_t + share x0 after time i: (ratio, share)."""
    (a, s), (below_a, below_s) = times[i:i + 2]
    return below_s / s, below_a - below_s / s * a


def moments(ops, phi, cov):
    """Mean and variance of the noise with cov: [B, D, K] each; else none, and 1."""
    if not cov:
        return None, 1
    p = ops.softmax(phi)                                            # [B, D, K]
    return p, ops.xp.maximum(p * (1 - p), LEAST)


def centred(x, a, s, p, cov):
    """a x - c: [S, B, D, K]."""
    return a * x - a * s * p - a * a / 2 if cov else a * x


def forward(ops, phi, normals, times: list[tuple[float, float]], cov):
    """x and x0 of every time: phi [B, D, K], normals [S, B, D, K] -> lists of [S, B, D, K]; the last x0 is the end."""
    p, v = moments(ops, phi, cov)
    x, xs, clean = p + v ** 0.5 * normals if cov else normals, [], []
    for i, (a, s) in enumerate(times):
        xs.append(x)
        clean.append(ops.softmax(phi + centred(x, a, s, p, cov) / (v * s * s)))
        if i + 1 < len(times):
            ratio, share = step(times, i)
            x = ratio * x + share * clean[i]
    return xs, clean


def seen_backward(dlogits, x, a, s, p, v, cov):
    """Adjoint of (a x - c) / (v s^2): dx, dp, dv, the last two for cov; all [S, B, D, K]."""
    dcentred = dlogits / (v * s * s)
    return a * dcentred, -a * s * dcentred, -dcentred * centred(x, a, s, p, cov) / v


def backward(ops, dlast, direct, phi, normals, path, times: list[tuple[float, float]], cov):
    """Adjoint of `forward`, which gave the path, from dlast w.r.t. the last x0 as x moves it.

    direct: what phi moves beside x [S, B, D, K]. Not summed over samples: [S, B, D, K].
    """
    (p, v), (xs, clean) = moments(ops, phi, cov), path
    dx, dp, dv = seen_backward(ops.softmax_backward(dlast, clean[-1]), xs[-1], *times[-1], p, v, cov)
    dphi = direct
    for i in reversed(range(len(times) - 1)):
        ratio, share = step(times, i)
        dlogits = ops.softmax_backward(share * dx, clean[i])
        into, more_p, more_v = seen_backward(dlogits, xs[i], *times[i], p, v, cov)
        dphi, dx, dp, dv = dphi + dlogits, ratio * dx + into, dp + more_p, dv + more_v
    if not cov:
        return dphi
    dv = dv + dx * normals / (2 * v ** 0.5)                         # of the first x
    dp = dp + dx + dv * (1 - 2 * p) * ops.xp.sign(v - LEAST)        # no slope where v is held
    return dphi + ops.softmax_backward(dp, p)
