"""Columns that the tables of many statistics share, as arguments of ``tables.schema``."""

import pyarrow as pa

KEYS = {"model": (pa.string(), "name of the model"), "prompts": (pa.string(), "name of the prompt set")}
SITE = (pa.string(), "site, as in docs/science.md")
LAYER = (pa.int32(), "layer, counted from 0")
LAYER_OR_EMBEDDING = (pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding")
POSITION = (pa.int32(), "position in the sequence, from 0")
LOW = (pa.float64(), "2.5th percentile over bootstrap replicates of sequences")
HIGH = (pa.float64(), "97.5th percentile over bootstrap replicates of sequences")
NOT_APPLICABLE = (pa.string(), "why values are null")

RUN = {"run": (pa.string(), "name of the run in the config"), "variant": (pa.string(), "attention variant")}
SEED = (pa.int32(), "seed of the weights and of the order of the data")
PARAMETERS = (pa.int64(), "number of stored parameters; tied embeddings count once")
TOKENS = (pa.int64(), "tokens trained on")


def with_interval(name: str, description: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of a quantity and of the ends of its 95 % bootstrap interval: ``name``, ``name_low``, ``name_high``."""
    return {name: (pa.float64(), description), f"{name}_low": LOW, f"{name}_high": HIGH}


def onset(threshold: str, quantity: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of the first layer whose quantity passes a threshold, and of the ends of its interval."""
    end = "percentile over bootstrap replicates; none counts as the number of layers"
    return {
        "threshold": (pa.float64(), threshold),
        "layer": (pa.int32(), f"first layer whose {quantity} is above the threshold; null if none"),
        "layer_low": (pa.int32(), f"2.5th {end}"),
        "layer_high": (pa.int32(), f"97.5th {end}"),
    }
