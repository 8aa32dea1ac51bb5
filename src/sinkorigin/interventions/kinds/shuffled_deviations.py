"""The variance of amplification with the deviations of other sequences."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import Look, VectorEdit


@dataclass(kw_only=True, eq=False)
class ShuffledDeviations(VectorEdit):
    """Control: o'_k of sequence n is μ + λ (o_k of sequence n + 1 − μ): the variance of amplification, the wrong content.

    The batch's last sequence takes the deviation of its first. A strength λ of 1 swaps the deviations only.
    """

    strength: float = 1.0

    formula = "μ + λ (o_k of the batch's next sequence − μ)"
    role = "control"
    control_of = "variance_amplification"
    takes_mean = True
    look = Look(colour=9, marker="D")
    adds_variance = True

    @classmethod
    def mixes(cls, strength):
        return 2

    @property
    def needs_mean(self):
        return self.strength != 1

    def edited(self, vectors, at):
        other = vectors.roll(-1, dims=0)
        if self.strength == 1:
            return other
        return other + (self.strength - 1) * (other - self.mean(vectors, at))
