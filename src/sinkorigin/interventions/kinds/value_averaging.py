"""A position averages value vectors, as later positions do."""

from dataclasses import dataclass

import numpy as np

from sinkorigin.interventions.kind import VectorEdit


@dataclass(kw_only=True, eq=False)
class ValueAveraging(VectorEdit):
    """Necessity: o'_k is the mean of o_k over ``strength`` sequences of the batch, the edited one among them.

    At position 0, where o_0 = v_0, this is what a position would have that attends evenly to so many value vectors of first
    tokens: position 0 averages like the others.

    A batch falls into groups of ``strength`` consecutive sequences (what is left over joins the last group), and a sequence averages the
    vectors of its group alone. Members of a group have the same vectors, so that intervals resample groups, not sequences.
    """

    strength: float

    formula = "mean of the o_k of a group of λ sequences of the batch"
    role = "necessity"
    counts = "sequences"
    identity_at = 1.0

    @classmethod
    def mixes(cls, strength):
        return int(strength)

    @classmethod
    def refusal(cls, targets, strengths):
        for count in strengths:
            if count != int(count) or count < 2:
                return f"strengths of {cls.kind} are numbers of vectors, not {count:g}; write whole numbers from 2"
        return super().refusal(targets, strengths)

    @classmethod
    def strength_text(cls, strength, mean_factor):
        return f"{strength:g} vectors"

    @classmethod
    def at_first(cls, strength, mean_factor, to):
        return f"averaging {strength:g} value vectors", False

    def units(self, sequences):
        first = np.arange(sequences) // int(self.strength) * int(self.strength)
        return np.minimum(first, (sequences // int(self.strength) - 1) * int(self.strength))

    def edited(self, vectors, at):
        units = self.units(len(vectors))
        sizes = np.bincount(units)[units]
        places = (
            np.arange(len(vectors)) - units + np.arange(int(self.strength))[:, None]
        )  # (λ, N), from each group's first
        return vectors[units + places % sizes].mean(dim=0)
