"""A grid of factors of the mean over sequences and of the deviation from it."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import VectorEdit
from sinkorigin.interventions.kinds.norm_control import NormControl
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification


@dataclass(kw_only=True, eq=False)
class MeanAndDeviation(VectorEdit):
    """The grid o'_k = α μ + λ (o_k − μ), λ the strength and α the mean factor, computed so that factors of 1 change no bit."""

    strength: float
    mean_factor: float

    formula = "α μ + λ (o_k − μ)"
    role = "treatment"
    takes_mean = True
    at_mean_factor_one = VarianceAmplification
    at_equal_factors = NormControl

    @property
    def changes_nothing(self):
        return super().changes_nothing or self.strength == self.mean_factor == 1

    @property
    def needs_mean(self):
        return self.strength != self.mean_factor

    @property
    def compares_sequences(self):
        return self.mean_factor == 1

    def edited(self, vectors, at):
        if self.strength == self.mean_factor:
            return self.strength * vectors
        mean = self.mean(vectors, at)
        vectors = vectors + (self.strength - 1) * (vectors - mean)
        return vectors if self.mean_factor == 1 else vectors + (self.mean_factor - 1) * mean
