"""Two codes per example from antithetic bits on a binary tree: what the three categorical DisARM estimators share."""
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.binary_tree import leaf_pair, leaf_pair_backward, leaf_pair_joint, node_logits
from npdvae.estimators.parts.outcomes import coupled_tuples


class CoupledPairs(Estimator):
    """Sampling and enumeration of the pairs; subclasses give the tree, and may weigh the pairs otherwise.

    `backward` is DisARM at the nodes that both paths meet and REINFORCE at those that one meets (Dong et al. 2021),
    in the nodes' logits, then through the tree to the logits of the categories.
    """

    unbiased = True
    exact_for = "any"

    def tree(self, logits):
        """The masks (left, right) of the tree: bool [..., K-1, K] twice."""
        raise NotImplementedError

    def evaluations(self, latents, categories):
        return 2

    def sample(self, logits, rng, state=None, context=None):
        B, D, K = logits.shape
        kept = self.keep(logits)
        u = rng.uniform((1, B, D, K - 1), logits.dtype)[0]          # [B, D, N]
        return Draw(leaf_pair(self.ops, kept["a"], kept["left"], kept["right"], u), logits, kept)

    def outcomes(self, logits, state=None, context=None):
        kept = self.keep(logits)
        joint = leaf_pair_joint(self.ops, kept["a"], kept["left"], kept["right"])       # [B, D, K, K]
        for probability, codes in coupled_tuples(self.ops.xp, joint):
            yield probability, Draw(codes, logits, kept)

    def keep(self, logits):
        """The tree with its nodes' logits and their slopes, for `backward`."""
        left, right = self.tree(logits)
        a, slope = node_logits(self.ops, logits, left, right)    # [B, D, N], [B, D, N, K]
        return {"left": left, "right": right, "a": a, "slope": slope}

    def backward(self, draw, cost, dcodes=None, state=None):
        left, right, a, slope = (draw.kept[name] for name in ("left", "right", "a", "slope"))
        return leaf_pair_backward(self.ops, (cost[0] - cost[1]) / 2, draw.codes, a, slope, left, right)     # [B, D, K]
