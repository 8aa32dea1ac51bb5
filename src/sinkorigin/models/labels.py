"""What figures and claims call a model: its label, and the type that its weights were dequantised from."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sinkorigin.tables import read_json

_PLAIN = ("F32", "F16", "BF16")  # types of a GGUF file that lose no digits of a trained model


def label_of(label: str, quantisation: str | None) -> str:
    """A label that says what a dequantised model was dequantised from.

    Args:
        label: what the config calls the model.
        quantisation: file type of the GGUF file that it comes from, such as Q4_K_M; None for any other model.
    """
    if quantisation is None or quantisation in _PLAIN or quantisation in label.upper():
        return label
    return f"{label}, dequantised from {quantisation}"


def complete_labels(labels: Mapping[str, str], provenances: Iterable[str | Path]) -> dict[str, str]:
    """Labels of models, those of dequantised ones with what they were dequantised from.

    Args:
        labels: model → label by the config.
        provenances: provenance.json of the fetched models among them.
    """
    quantisations = {facts["model"]: facts["quantisation"] for facts in map(read_json, provenances)}
    return {model: label_of(label, quantisations.get(model)) for model, label in labels.items()}
