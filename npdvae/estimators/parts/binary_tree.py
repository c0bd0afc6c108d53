"""A categorical as the leaf reached by independent bits on the nodes of a binary tree, and antithetic pairs of leaves.

A tree is two masks, `left` and `right`, bool [..., N, K]: the categories on either side of each of its
N = K - 1 nodes. Bit n is 1 for left; its logit is a_n = logsumexp(left) - logsumexp(right).
"""
from npdvae.ops.kernelled import kernelled


@kernelled
def stick_breaking(ops, logits):
    """One category after another, the least probable first, so every a_n <= 0: logits [B, D, K] -> [B, D, K-1, K]."""
    xp, K = ops.xp, logits.shape[-1]
    rank = xp.argsort(xp.argsort(logits, -1, kind="stable"), -1)[..., None, :]      # [B, D, 1, K]
    node = xp.arange(K - 1)[:, None]                                # [K-1, 1]
    return rank == node, rank > node


def balanced(xp, categories):
    """Halves of halves, in the order of the categories: bool [K-1, K] twice."""
    left, right = [], []

    def split(first, last):
        if last - first < 2:
            return
        middle = (first + last) // 2
        left.append([first <= k < middle for k in range(categories)])
        right.append([middle <= k < last for k in range(categories)])
        split(first, middle)
        split(middle, last)

    split(0, categories)
    shape = (categories - 1, categories)
    return xp.asarray(left, bool).reshape(shape), xp.asarray(right, bool).reshape(shape)


def side_of(xp, logits, side):
    """logsumexp of the logits on one side of each node, and its softmax: [B, D, N], [B, D, N, K]."""
    x = logits[..., None, :]                                        # [B, D, 1, K]
    top = xp.where(side, x, -xp.inf).max(-1, keepdims=True)         # [B, D, N, 1]
    e = xp.exp(xp.where(side, x, top) - top) * side                 # [B, D, N, K]
    mass = e.sum(-1, keepdims=True)                                 # [B, D, N, 1], at least 1
    return (top + xp.log(mass))[..., 0], e / mass


@kernelled
def node_logits(ops, logits, left, right):
    """a [B, D, N] and its slope da / dlogits [B, D, N, K]."""
    (log_left, share_left), (log_right, share_right) = (side_of(ops.xp, logits, side) for side in (left, right))
    return log_left - log_right, share_left - share_right


def node_logits_backward(da, slope):
    """Adjoint of `node_logits`: da [B, D, N], slope [B, D, N, K] -> [B, D, K]."""
    return (da[..., None] * slope).sum(-2)


def leaf(xp, bits, left, right):
    """The category whose path agrees with every bit it meets: bool [B, D, N] -> int [B, D]."""
    contrary = xp.where(bits[..., None], right, left)               # [B, D, N, K]
    return (~contrary.any(-2)).argmax(-1)


@kernelled
def leaf_pair(ops, a, left, right, u):
    """Leaves of the bits [u < sigma(a)] and [1 - u < sigma(a)]: u [B, D, N] in (0, 1) -> int [2, B, D]."""
    theta = ops.sigmoid(a)                                          # [B, D, N]
    return ops.xp.stack([leaf(ops.xp, u < theta, left, right), leaf(ops.xp, 1 - u < theta, left, right)])


@kernelled
def leaf_pair_backward(ops, half, codes, a, slope, left, right):
    """DisARM at the nodes that both paths meet, REINFORCE at those that one meets (Dong et al. 2021), to the logits.

    half = (f - f') / 2 [B], codes int [2, B or 1, D], a [B, D, N], slope [B, D, N, K] -> [B, D, K].
    """
    z = ops.one_hot(codes, slope.shape[-1], half.dtype)[..., None, :]   # [2, B or 1, D, 1, K]
    b, other = (left * z).sum(-1)                                   # bits on the two paths, 0 elsewhere: [B, D, N]
    met, met_other = ((left | right) * z).sum(-1)                   # 1 where a path meets the node: [B, D, N]
    theta = ops.sigmoid(a)
    da = (met * met_other * (b - other) * ops.sigmoid(abs(a))       # (-1)^b' [b != b'] = b - b'
          + met * (1 - met_other) * (b - theta) - met_other * (1 - met) * (other - theta))
    return node_logits_backward(half[:, None, None] * da, slope)


def leaf_pair_joint(ops, a, left, right):
    """Probability of each pair of leaves: [B, D, K, K].

    Nodes that both paths meet are antithetic, nodes that one path meets are free.
    """
    xp, a = ops.xp, a[..., None, None]                              # [B, D, N, 1, 1]
    go, turn = ops.sigmoid(a), ops.sigmoid(-a)
    both = xp.tanh(abs(a) / 2)                                      # probability that the two bits agree
    first = [side[..., :, None] for side in (left, right)]          # [..., N, K, 1]
    other = [side[..., None, :] for side in (left, right)]          # [..., N, 1, K]
    meets, meets_other = first[0] | first[1], other[0] | other[1]
    shared = xp.where(first[0] & other[0], xp.where(a > 0, both, 0),
                      xp.where(first[1] & other[1], xp.where(a > 0, 0, both), ops.sigmoid(-abs(a))))
    alone = xp.where(first[0] | other[0], go, turn)
    factor = xp.where(meets & meets_other, shared, xp.where(meets | meets_other, alone, 1))
    return factor.prod(-3).astype(a.dtype)                          # [B, D, K, K]
