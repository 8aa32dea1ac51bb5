"""A larger norm, without more variance relative to the mean."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import Look, VectorEdit


@dataclass(kw_only=True, eq=False)
class NormControl(VectorEdit):
    """I3: o'_k = λ o_k, λ > 0 the strength: the variance of amplification, with an unchanged dispersion relative to the mean."""

    strength: float

    formula = "λ o_k"
    role = "control"
    control_of = "variance_amplification"
    identity_at = 1.0
    look = Look(colour=3, marker="s", dashes=2)
    adds_variance = False

    def edited(self, vectors, at):
        return self.strength * vectors
