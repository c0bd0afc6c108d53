"""DisARM for categoricals: the coupled pair of stick-breaking, weighted as if it had been independent."""
from npdvae.estimators import register
from npdvae.estimators.parts.binary_tree import stick_breaking
from npdvae.estimators.parts.coupled_pairs import CoupledPairs


@register
class DisARMIW(CoupledPairs):
    """(f - f') / 2 rho_d (z - z')_d, rho_d = q(z_d) q(z'_d) / P(z_d, z'_d) (Dong, Mnih & Tucker 2021).

    With m the earlier stick of the two, rho = (1 - sigma(a_m)) prod_{n < m} 1 / (1 - exp(2 a_n)). It needs sticks below
    one half: ascending order makes all but the last at most a third, and the last is in no product.
    Cost: 2 evaluations.
    """

    name = "disarm_iw"

    def tree(self, logits):
        return stick_breaking(self.ops, logits)

    def backward(self, draw, cost, dcodes=None, state=None):
        ops, xp, left, a = self.ops, self.ops.xp, draw.kept["left"], draw.kept["a"]     # a [B, D, K-1]
        K = draw.logits.shape[-1]
        z = ops.one_hot(draw.codes, K, cost.dtype)                  # [2, B or 1, D, K]
        if K == 1:
            return xp.zeros(draw.logits.shape, cost.dtype)
        before = xp.cumprod(-1 / xp.expm1(2 * a[..., :-1]), -1)     # q q' / P of both codes passing sticks 0..n
        ratio = xp.concatenate([xp.ones_like(a[..., :1]), before], -1) * ops.sigmoid(-a)     # [B, D, K-1]
        stops = left & (z.sum(0) != 0)[..., None, :]                # where either code stops: [B, D, K-1, K]
        first = (stops.reshape(*stops.shape[:2], -1).argmax(-1) // K)[..., None]    # [B, D, 1]
        rho = xp.take_along_axis(ratio, first, -1)                  # [B, D, 1]; of no effect where z = z'
        return ((cost[0] - cost[1]) / 2)[:, None, None] * rho * (z[0] - z[1])
