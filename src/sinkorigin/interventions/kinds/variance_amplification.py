"""More variance over sequences, with the mean unchanged."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import Look, VectorEdit


@dataclass(kw_only=True, eq=False)
class VarianceAmplification(VectorEdit):
    """I2: o'_k = o_k + (λ − 1)(o_k − μ), μ the mean over sequences, λ > 0 the strength; below 1 it shrinks the variance."""

    strength: float

    formula = "o_k + (λ − 1)(o_k − μ)"
    role = "treatment"
    compared_at = "strength"
    identity_at = 1.0
    takes_mean = True
    look = Look(colour=0, marker="o", linewidth=2.2, dashes=0)

    @classmethod
    def at_first(cls, strength, mean_factor, to):
        return f"with its deviations times {strength:g}", strength >= 1

    def edited(self, vectors, at):
        return vectors + (self.strength - 1) * (vectors - self.mean(vectors, at))
