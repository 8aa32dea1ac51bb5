"""Columns that the tables of many statistics share, as arguments of ``tables.schema``."""

import pyarrow as pa

KEYS = {"model": (pa.string(), "name of the model"), "prompts": (pa.string(), "name of the prompt set")}
LAYER = (pa.int32(), "layer, counted from 0")
LAYER_KEYS = {**KEYS, "layer": LAYER}
SITE = (pa.string(), "site, as in docs/science.md")
LAYER_OR_EMBEDDING = (pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding")
SITE_KEYS = {**KEYS, "site": SITE, "layer": LAYER_OR_EMBEDDING}
POSITION = (pa.int32(), "position in the sequence, from 0")
_LOW = (pa.float64(), "lower end of its 95 % bootstrap interval over sequences, of text over documents")
_HIGH = (pa.float64(), "upper end of it")
_LOW_ALL = (pa.float64(), "lower end of its interval among all comparisons of the model and prompts")
_HIGH_ALL = (pa.float64(), "upper end of it")
NOT_APPLICABLE = (pa.string(), "why values are null")
BEGIN_ALIKE = "every sequence begins with the same token"  # why position 0 has no variance over sequences

FIRST_TOKEN = (
    pa.string(),
    "what the sequences begin with: drawn, bos or fixed; there is no variance at position 0 but of drawn ones",
)

RUN = {"run": (pa.string(), "name of the run in the config"), "variant": (pa.string(), "attention variant")}
SEED = (pa.int32(), "seed of the weights and of the order of the data")
PARAMETERS = (pa.int64(), "number of stored parameters; tied embeddings count once")
TOKENS = (pa.int64(), "tokens trained on")


def estimate(name: str, description: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of a quantity and of the ends of its 95 % bootstrap interval: ``name``, ``name_low``, ``name_high``."""
    return {name: (pa.float64(), description), f"{name}_low": _LOW, f"{name}_high": _HIGH}


def order_columns(name: str, description: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of a Kendall's τ and of its 95 % interval, see ``kendall.order_interval``."""
    how = "percentile over bootstrap replicates of sequences, of these as they are or moved by their bias"
    return {
        name: (pa.float64(), description),
        f"{name}_low": (pa.float64(), f"2.5th {how}, whichever is lower"),
        f"{name}_high": (pa.float64(), f"97.5th {how}, whichever is higher"),
    }


def among_all(name: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of the interval of a quantity that holds together with those of all comparisons."""
    return {f"{name}_low_all": _LOW_ALL, f"{name}_high_all": _HIGH_ALL}


def onset_columns(threshold: str, quantity: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of the first layer whose quantity passes a threshold, and of the ends of its interval."""
    end = "percentile over bootstrap replicates; none counts as the number of layers"
    return {
        "threshold": (pa.float64(), threshold),
        "layer": (pa.int32(), f"first layer whose {quantity} is above the threshold; null if none"),
        "layer_low": (pa.int32(), f"2.5th {end}"),
        "layer_high": (pa.int32(), f"97.5th {end}"),
    }
