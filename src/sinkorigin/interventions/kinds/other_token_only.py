"""No averaging either, but not of itself: a position attends to one other token only."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import AttentionEdit


@dataclass(kw_only=True, eq=False)
class OtherTokenOnly(AttentionEdit):
    """Takes the mask apart: at ``layers`` the positions attend to the token before them only, so o_k = v_{k−1} exactly.

    As under the mask nothing is averaged and position 0 is hidden; only attending to oneself is not there.
    """

    formula = "k attends to k − 1 only, so o_k = v_{k−1}"
    role = "treatment"

    @classmethod
    def refusal(cls, targets, strengths):
        if targets and min(targets) < 2:
            return f"{cls.kind} lets a position attend to the one before it, which is not to be position 0; choose positions above 1"
        return super().refusal(targets, strengths)

    def visible(self, position):
        return [position - 1]
