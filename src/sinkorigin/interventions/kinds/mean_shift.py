"""A shift of all sequences by the size of what variance amplification adds."""

from dataclasses import dataclass

from sinkorigin.interventions.kind import Look, VectorEdit, random_directions


@dataclass(kw_only=True, eq=False)
class MeanShift(VectorEdit):
    """Control: every sequence is shifted by one vector, o'_k = o_k + (λ − 1) s u, λ the strength.

    u is one random unit vector a head, drawn with the seed, and s the root mean square over sequences of ‖o_k − μ‖: the size
    of what amplification adds, without any variance.
    """

    strength: float
    seed: int = 0

    formula = "o_k + (λ − 1) s u, u one random unit vector of each head, s the root mean square of ‖o_k − μ‖"
    role = "control"
    control_of = "variance_amplification"
    identity_at = 1.0
    takes_mean = True
    look = Look(colour=5, marker="v")
    adds_variance = False

    def edited(self, vectors, at):
        directions = vectors.new_tensor(random_directions(vectors.shape[1:], self.seed, at.layer, at.position))
        return vectors + (self.strength - 1) * self.spread(vectors, at).unsqueeze(-1) * directions
