"""Columns that the tables of many statistics share, as arguments of ``tables.schema``."""

import pyarrow as pa

KEYS = {
    "model": (pa.string(), "name of the model"),
    "prompts": (pa.string(), "name of the prompt set"),
}
SITE = (pa.string(), "site, as in docs/science.md")
LAYER = (pa.int32(), "layer, counted from 0")
LAYER_OR_EMBEDDING = (pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding")
POSITION = (pa.int32(), "position in the sequence, from 0")
LOW = (pa.float64(), "2.5th percentile over bootstrap replicates of sequences")
HIGH = (pa.float64(), "97.5th percentile over bootstrap replicates of sequences")
NOT_APPLICABLE = (pa.string(), "why values are null")
