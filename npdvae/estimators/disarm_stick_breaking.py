"""DisARM for categoricals: the coupled bits of stick-breaking."""
from npdvae.estimators import register
from npdvae.estimators.parts.binary_tree import stick_breaking
from npdvae.estimators.parts.coupled_pairs import CoupledPairs


@register
class DisARMStickBreaking(CoupledPairs):
    """(f - f') / 2 times, per stick: DisARM's factor where both codes reach it, else the score of the one that does,
    negative where that is the code of f'.

    Sticks in ascending order of the logits. Dong, Mnih & Tucker 2021. Cost: 2 evaluations.
    """

    name = "disarm_stick_breaking"

    def tree(self, logits):
        return stick_breaking(self.ops, logits)
