"""A position averages over a few tokens."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import AttentionEdit


@dataclass(kw_only=True, eq=False)
class Window(AttentionEdit):
    """Takes the mask apart: at ``layers`` the positions attend to the last ``strength`` tokens only, themselves included.

    With one token it is the mask, with k + 1 it changes nothing: how much averaging does it take to have no sink?
    """

    strength: float

    formula = "k attends to k − λ + 1 … k"
    role = "treatment"
    counts = "tokens"

    @classmethod
    def refusal(cls, targets, strengths):
        for count in strengths:
            if count != int(count) or count < 1:
                return f"strengths of {cls.kind} are numbers of tokens, not {count:g}; write whole numbers from 1"
            if targets and count > min(targets):
                return (
                    f"{cls.kind} of {count:g} tokens reaches position 0 from position {min(targets)}; choose positions above "
                    f"{count - 1:g}, or fewer tokens"
                )
        return super().refusal(targets, strengths)

    @classmethod
    def strength_text(cls, strength, mean_factor):
        return f"{strength:g} tokens"

    def visible(self, position):
        return range(position - int(self.strength) + 1, position + 1)
