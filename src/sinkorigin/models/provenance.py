"""Provenance of a model: where its files come from, what they were, and how figures and claims call it."""

from collections.abc import Mapping
from typing import Any


def labelled(provenance: Mapping[str, Any], *, label: str | None, licence: str | None) -> dict[str, Any]:
    """Provenance of a fetched model with the label and the licence that a study's config gives it.

    A dequantised model says so in its label, since its weights are not those that its authors released. Random weights
    have no licence.

    Args:
        provenance: as ``fetch_model`` writes it.
        label: None takes the model's name.
    """
    label, quantisation = label or provenance["model"], provenance["quantisation"]
    if quantisation is not None and quantisation not in label:
        label += f", dequantised from {quantisation}"
    return {**provenance, "label": label, "licence": None if provenance["weights"] == "random" else licence}
