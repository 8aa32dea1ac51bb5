"""What a claim is: a row with a predicate, decided by the whole interval."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables

SEEN, NOT_SEEN, UNDECIDED, NOT_APPLICABLE = "seen", "not seen at this scale", "undecided", "not applicable"

SCHEMA = tables.schema(
    claim=(pa.string(), "short name of the claim"),
    statement=(pa.string(), "what is claimed, in words"),
    quantity=(pa.string(), "what value is"),
    model=(pa.string(), "label of the model, or the models and seeds compared"),
    prompts=(pa.string(), "prompt set; null for losses"),
    paper=(pa.string(), "what the paper reports (Llama-2-7B, or a 152 M model for pretraining); null for our controls"),
    value=(pa.float64(), "our value"),
    low=(pa.float64(), "lower end of its 95 % interval"),
    high=(pa.float64(), "upper end of its 95 % interval"),
    predicate=(pa.string(), "what the interval is held against"),
    verdict=(pa.string(), "seen, not seen at this scale, undecided or not applicable"),
    reason=(pa.string(), "numbers behind the verdict, or why there is none"),
    table=(pa.string(), "table it was read from, below the study's folder"),
)

# Criteria of ours, where the paper gives none.
SINK_FACTOR = 3.0  # a sink gets at least so many times the attention that uniform attention would give
NO_SINK_FACTOR = 1.5  # and a model without one at most so many times
DOMINANCE_FACTOR = 2.0  # the first token's dominance ratio against the others'
ONSET_DISTANCE = 1  # layers between norm surge and sink onset: a layer's sink reads the residual before it
PAPER_EPSILON = 0.3  # of the sink rate; a layer with more sink mass has a sink
NEGLIGIBLE = 0.1  # an effect below this share of the uniform score counts as none


@dataclass(frozen=True)
class Judged:
    """A model that claims are about.

    Attributes:
        name: as in the tables; label: as in its provenance.
        role: "pretrained", "random" (the control) or "trained" (here).
        run, variant, seed, reading: of a trained model; reading says which form of its variant.
    """

    name: str
    label: str
    role: str
    run: str | None = None
    variant: str | None = None
    seed: int | None = None
    reading: str | None = None


def verdict(value: float | None, low: float | None, high: float | None, holds: Callable[[float], bool]) -> str:
    """Verdict of a predicate that is true on one side of a threshold, or between two.

    An interval that is missing or not finite (one seed, for instance) decides nothing.
    """
    if value is None or not np.isfinite(value):
        return NOT_APPLICABLE
    if not holds(value):
        return NOT_SEEN
    ends = [end for end in (low, high) if end is not None and np.isfinite(end)]
    return SEEN if len(ends) == 2 and all(map(holds, ends)) else UNDECIDED


def row_of(claim, statement, quantity, model, prompts, paper, predicate, table, **found) -> dict:
    return {
        "claim": claim, "statement": statement, "quantity": quantity, "model": model, "prompts": prompts,
        "paper": paper, "predicate": predicate, "table": table,
        **{"value": None, "low": None, "high": None, "verdict": NOT_APPLICABLE, "reason": None, **found},
    }  # fmt: skip


def decided(value, low, high, holds, reason=None) -> dict:
    return {"value": value, "low": low, "high": high, "verdict": verdict(value, low, high, holds), "reason": reason}


class StudyTables:
    """The statistics tables of one model on one prompt set."""

    def __init__(self, root: Path, model: str, prompts: str):
        self._root, self._folder = root, f"statistics/{model}/{prompts}"

    def path(self, name: str) -> str:
        return f"{self._folder}/{name}.parquet"

    def read(self, name: str) -> pl.DataFrame | None:
        path = self._root / self.path(name)
        return pl.read_parquet(path, hive_partitioning=False, glob=False) if path.is_file() else None
