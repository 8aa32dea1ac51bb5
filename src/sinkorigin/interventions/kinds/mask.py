"""No averaging: a position attends to itself only."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import AttentionEdit, Look


@dataclass(kw_only=True, eq=False)
class Mask(AttentionEdit):
    """I1: at ``layers`` the positions attend to themselves only, so o_k = v_k exactly.

    Where a model has learned sink logits (gpt-oss), these keep their share of the attention.
    """

    formula = "k attends to itself only, so o_k = v_k"
    role = "treatment"
    compared_at = "layers"
    look = Look(colour=2, marker="", linewidth=2.0, dashes=1)

    @classmethod
    def refusal(cls, targets, strengths):
        if 0 in targets:
            return "position 0 attends to itself only anyway, a mask changes nothing; choose positions above 0"
        return super().refusal(targets, strengths)

    def visible(self, position):
        return [position]
