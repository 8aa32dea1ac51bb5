"""Interventions: composable edits of a running model, and sweeps over many of them."""

from sinkorigin.interventions.context import applied, intervene
from sinkorigin.interventions.edits import (
    DimReplacement,
    Mask,
    MeanShift,
    Moments,
    NeuronAblation,
    NormControl,
    RandomDirections,
    Recombination,
    ShuffledDeviations,
    ValueAveraging,
    VarianceAmplification,
    check_layers,
    layer_text,
)

__all__ = [
    "DimReplacement",
    "Mask",
    "MeanShift",
    "Moments",
    "NeuronAblation",
    "NormControl",
    "RandomDirections",
    "Recombination",
    "ShuffledDeviations",
    "ValueAveraging",
    "VarianceAmplification",
    "applied",
    "check_layers",
    "intervene",
    "layer_text",
]
