"""Settings of the statistics, with the defaults of the workflow's config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from sinkorigin.activations.writers import Kept
from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.statistics.bootstrap import Resampling

SOME_POSITIONS = (0, 1, 2, 4, 8, 16, 32, 48)
# sites whose variance is measured → positions at which it is, None for all, as in the default study
SITES: Mapping[str, Sequence[int] | None] = {
    "value_aggregation": None,
    "output_projection_output": SOME_POSITIONS,
    "attention_output": SOME_POSITIONS,
    "ffn_output": SOME_POSITIONS,
    "residual": SOME_POSITIONS,
}


@dataclass(frozen=True)
class Settings:
    """Settings of the statistics; each is what the key of that name in the config's section ``statistics`` says."""

    replicates: int = 200
    comparison_replicates: int = 2000
    seed: int = 0
    surge_ratio: float = 3.0
    onset_mass: float = 0.3
    change_factor: float = 2.0
    change_mass: float = 0.1
    super_neuron_share: float = 0.1
    super_neuron_ratio: float = 10.0
    epsilons: tuple[float, ...] = (0.2, 0.3, 0.4)

    @classmethod
    def of(cls, given: dict) -> "Settings":
        """The defaults with some others.

        Raises:
            SinkoriginError: there is no setting of that name.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise SinkoriginError(
                    f"there is no setting {name!r} of the statistics; choose of {listed(known, len(known))}"
                )
        return cls(**given)

    @property
    def resampling(self) -> Resampling:
        """How intervals are made; the sequences count as independent."""
        return Resampling(self.replicates, self.seed)


def kept(positions: Sequence[int] | None, length: int) -> Kept:
    """What is kept of a site of sequences of ``length`` tokens: all positions, or those of these that the sequences have."""
    return Kept(positions=None if positions is None else tuple(k for k in positions if k < length))
