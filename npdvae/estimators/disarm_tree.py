"""DisARM for categoricals: the coupled bits of a balanced binary tree."""
from npdvae.estimators import register
from npdvae.estimators.parts.binary_tree import balanced
from npdvae.estimators.parts.coupled_pairs import CoupledPairs


@register
class DisARMTree(CoupledPairs):
    """(f - f') / 2 times, per node: DisARM's factor where both codes reach it, else the score of the one that does,
    negative where that is the code of f'.

    Nodes of a balanced binary tree over the categories. Dong, Mnih & Tucker 2021. Cost: 2 evaluations.
    """

    name = "disarm_tree"

    def tree(self, logits):
        return balanced(self.ops.xp, logits.shape[-1])
