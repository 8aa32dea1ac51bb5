"""A change by the size of what variance amplification adds, in random directions."""

from dataclasses import dataclass

import numpy as np

from sinkorigin.interventions.kind import Look, VectorEdit, random_directions


@dataclass(kw_only=True, eq=False)
class RandomDirections(VectorEdit):
    """Control: o'_k = o_k + (λ − 1) ‖o_k − μ‖ u, λ the strength, u a random unit vector of each head and sequence.

    With one seed the vectors are the same in every run and for every batch size.
    """

    strength: float
    seed: int = 0

    formula = "o_k + (λ − 1) ‖o_k − μ‖ u, u a random unit vector of each head and sequence"
    role = "control"
    control_of = "variance_amplification"
    identity_at = 1.0
    takes_mean = True
    look = Look(colour=4, marker="^")
    adds_variance = True

    def edited(self, vectors, at):
        size = (vectors - self.mean(vectors, at)).norm(dim=-1, keepdim=True)
        numbers = range(at.first_sequence, at.first_sequence + len(vectors))
        place = self.seed, at.layer, at.position
        directions = np.stack([random_directions(vectors.shape[1:], *place, number) for number in numbers])
        return vectors + (self.strength - 1) * size * vectors.new_tensor(directions)
