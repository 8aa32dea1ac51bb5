"""The section ``statistics``: their settings."""

from typing import Annotated

from pydantic import Field

from harness.config.values import Strict


class Statistics(Strict):
    """Settings of the statistics."""

    replicates: int = Field(200, ge=20, description="Bootstrap replicates; each resamples the sequences.")
    comparison_replicates: int = Field(
        2000,
        ge=1000,
        description="Bootstrap replicates of the intervals that hold for all comparisons of interventions together.",
    )
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")
    surge_ratio: float = Field(
        3.0,
        gt=1,
        description="The norm surge is the first layer where the first token's norm is so many times the others'.",
    )
    onset_mass: float = Field(
        0.3, gt=0, lt=1, description="The sink onset is the first layer whose mean attention to position 0 passes this."
    )
    change_factor: float = Field(
        2.0, gt=1, description="The norm ratio has a change point where it rises or falls by this factor over layers."
    )
    change_mass: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="The sink mass has a change point where it rises or falls by this much over layers.",
    )
    super_neuron_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="A super neuron carries at least this share of the first token's FFN output, with its whole interval.",
    )
    super_neuron_ratio: float = Field(
        10.0, gt=1, description="A super neuron's magnitude at position 0 is at least so many times that elsewhere."
    )
    epsilons: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.2, 0.3, 0.4], min_length=1, description="Thresholds of the sink rate; the paper's is 0.3."
    )
