"""What a claim is: a row with a predicate, decided by the whole interval."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    kind=(pa.string(), "kind of the edit that the claim is about, or whose effect it compares; null for other claims"),
    position=(pa.int32(), "position that it edits; null for other claims"),
    paper=(pa.string(), "what the paper reports (Llama-2-7B, or a 152 M model for pretraining); null for our controls"),
    value=(pa.float64(), "our value"),
    low=(pa.float64(), "lower end of its 95 % interval"),
    high=(pa.float64(), "upper end of its 95 % interval"),
    predicate=(pa.string(), "what the interval is held against"),
    verdict=(pa.string(), "seen, not seen at this scale, undecided or not applicable"),
    reason=(pa.string(), "numbers behind the verdict, or why there is none"),
    table=(pa.string(), "table it was read from, below the study's folder"),
)

NO_CLAIMS = "claims on these prompts"  # the row that says why a model has none there

# Criteria of this project, where the paper gives none; see also SINK_FACTOR of statistics.uniform.
NO_SINK_FACTOR = 1.5  # a model without a sink has at most so many times the attention that uniform attention would give
DOMINANCE_FACTOR = 2.0  # the first token's dominance ratio against the others'
ONSET_DISTANCE = 1  # layers between norm surge and sink onset: a layer's sink reads the residual before it
PAPER_EPSILON = 0.3  # threshold of the paper's sink rate; a layer with more sink mass has a sink
NEGLIGIBLE = 0.1  # an effect below this share of the uniform score counts as none


@dataclass(frozen=True)
class Judged:
    """A model that claims are about.

    Attributes:
        name: its name in the tables.
        label: its name for people.
        role: "pretrained", "random" (the control) or "trained" (here).
        run, variant, seed: where a trained model comes from.
        reading: which form of its variant a trained model has, where the paper leaves several open.
    """

    name: str
    label: str
    role: str
    run: str | None = None
    variant: str | None = None
    seed: int | None = None
    reading: str | None = None

    @property
    def is_control(self) -> bool:
        """Whether its weights are random."""
        return self.role == "random"

    @property
    def prefix(self) -> str:
        """What statements about it begin with."""
        return "control: " if self.is_control else ""


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
    """Row of ``SCHEMA`` of one claim; ``found``: its other columns, as far as there are some."""
    return {
        "claim": claim, "statement": statement, "quantity": quantity, "model": model, "prompts": prompts,
        "paper": paper, "predicate": predicate, "table": table,
        **{"kind": None, "position": None, "value": None, "low": None, "high": None, "verdict": NOT_APPLICABLE, "reason": None, **found},
    }  # fmt: skip


def decided(value, low, high, holds, reason=None) -> dict:
    """Value, interval, verdict and reason of a claim, see :func:`verdict`."""
    return {"value": value, "low": low, "high": high, "verdict": verdict(value, low, high, holds), "reason": reason}


def with_ends(row: Mapping | pl.DataFrame, name: str, among: str = "") -> tuple[Any, Any, Any]:
    """Value of a table's column and the ends of its interval; ``among="_all"`` takes the one that holds for all comparisons."""
    return row[name], row[f"{name}_low{among}"], row[f"{name}_high{among}"]


class StudyTables:
    """Statistics of one model on one prompt set, as far as the study has them, and rows of claims about them.

    Attributes:
        model: the model.
        prompts: name of the prompt set.
    """

    def __init__(self, places: Mapping[str, Mapping[tuple[str, ...], Path]], model: Judged, prompts: str):
        """Take the files of one model on one prompt set, of all files by table and (model, prompts)."""
        self.model, self.prompts = model, prompts
        self._paths = {name: files.get((model.name, prompts)) for name, files in places.items()}

    def path(self, name: str) -> str:
        """Place of a table below the study's folder."""
        return f"statistics/{self.model.name}/{self.prompts}/{name}.parquet"

    def read(self, name: str) -> pl.DataFrame | None:
        """A table; None where the study does not have it of this model and prompt set, or it is not applicable to them.

        Raises:
            KeyError: the study's tables were given without this one.
        """
        path = self._paths[name]
        return None if path is None or tables.not_applicable(path) else pl.DataFrame(tables.read_table(path))

    def not_applicable(self, name: str) -> str | None:
        """Why a table is not applicable to the model on the prompt set; None where it is, or the study has none."""
        path = self._paths[name]
        return None if path is None else tables.not_applicable(path)

    def not_applicable_claims(self) -> Iterator[dict]:
        """A row for each reason why tables are not applicable, in place of the claims about them."""
        without: dict[str, list[str]] = {}
        for name in self._paths:
            if reason := self.not_applicable(name):
                without.setdefault(reason, []).append(name)
        had = [name for name, path in self._paths.items() if path is not None]
        for reason, names in without.items():
            row = self.row(
                NO_CLAIMS, f"{self.model.prefix}every claim about the model on these prompts", None, None,
                None, *names, reason=reason,
            )  # fmt: skip
            yield row if len(names) < len(had) else row | {"table": f"statistics/{self.model.name}/{self.prompts}"}

    def row(self, claim, statement, quantity, paper, predicate, *names, **found) -> dict:
        """Row of a claim about the model, from the tables of these names, see :func:`row_of`."""
        places = ", ".join(map(self.path, names))
        return row_of(claim, statement, quantity, self.model.label, self.prompts, paper, predicate, places, **found)
