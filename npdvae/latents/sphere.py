"""Vectors on the sphere: their direction, and the rotation that takes one to another, each with its adjoint."""

SMALLEST = 1e-6                                 # a shorter vector counts as this long
OPPOSITE = -1 + 1e-6                            # a smaller cosine has no rotation of its own


def dot(a, b):
    """Inner product over the last axis, which stays: [..., C], [..., C] -> [..., 1]."""
    return (a * b).sum(-1, keepdims=True)


def length(ops, h):
    """|h|, at least `SMALLEST`: [..., C] -> [..., 1]."""
    return ops.xp.maximum(ops.xp.sqrt(dot(h, h)), SMALLEST)


def unit(ops, h):
    """h / |h|: [..., C] -> [..., C]."""
    return h / length(ops, h)


def unit_backward(ops, d, h):
    """Adjoint of `unit`: [..., C], [..., C] -> [..., C]."""
    u = unit(ops, h)
    return (d - u * dot(u, d)) / length(ops, h)


def rotation_backward(ops, d, h, q):
    """Adjoint of x -> |q|/|h| R x with R the rotation from h to q, both held fixed (Fifty et al. 2024): [..., C].

    Straight through where h and q are opposite.
    """
    xp, hu, qu = ops.xp, unit(ops, h), unit(ops, q)                 # [..., C]
    r = unit(ops, hu + qu)
    turned = d - 2 * r * dot(r, d) + 2 * hu * dot(qu, d)
    return xp.where(dot(hu, qu) < OPPOSITE, d, length(ops, q) / length(ops, h) * turned)
