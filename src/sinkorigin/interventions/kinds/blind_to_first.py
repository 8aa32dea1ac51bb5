"""The old sink is hidden, and nothing else."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import AttentionEdit


@dataclass(kw_only=True, eq=False)
class BlindToFirst(AttentionEdit):
    """Takes the mask apart: at ``layers`` the positions attend to all tokens but the first, so they average, without the old sink."""

    formula = "k attends to 1 … k"
    role = "treatment"
    only_hides = True

    @classmethod
    def refusal(cls, targets, strengths):
        if targets and min(targets) < 2:
            return f"{cls.kind} hides position 0; at position 1 that leaves a mask, so choose positions above 1"
        return super().refusal(targets, strengths)

    def visible(self, position):
        return range(1, position + 1)
