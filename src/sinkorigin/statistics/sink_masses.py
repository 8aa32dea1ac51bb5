"""What each head gives position 0 in each sequence, for statistics that compare it with something else."""

import numpy as np

from sinkorigin.statistics.grids import read_layers


def sink_masses(scores: str) -> dict[int, np.ndarray]:
    """Layer → (N, H) score of position 0 over q > 0."""
    return {
        layer: columns["score_excluding_self"][:, :, 0]
        for layer, _, columns in read_layers(
            scores, axes=("sequence", "head", "position"), columns=("score_excluding_self",), position=0
        )
    }
