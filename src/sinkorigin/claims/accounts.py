"""What other accounts of attention sinks predict, beside this paper's: written down before the run, and tested by the same tables.

A prediction is declared like a claim of the ledger. No account is judged as a whole: the rows say which of its predictions hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.judging import LEDGER_SCHEMA
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.interventions.kind import SHOWN_POSITION
from sinkorigin.statistics.uniform import SINK_FACTOR

NO_MORE_THAN = 0.1  # share of sequences up to which an edit counts as making no sink
_MAKES_A_SINK = "in most sequences"
_MAKES_NONE = "a tenth, the margin of an equivalence test"


@dataclass(frozen=True)
class Account:
    """An explanation of attention sinks.

    Attributes:
        name: how pages call it.
        source: where it is from.
        predictions: what it predicts of this project's tables.
    """

    name: str
    source: str
    predictions: tuple[Claim, ...]


def _converted(kind: str, strength: float | None = None):
    """Settings: share of the sequences that an edit of the early layers converts, nearest to the shown position."""

    def settings(tables: StudyTables) -> Iterator[Setting]:
        table = tables.read("conversions")
        rows = [] if table is None else table.filter(kind=kind, factor=SINK_FACTOR).to_dicts()
        rows = [row for row in rows if strength is None or row["strength"] == strength]
        rows.sort(key=lambda row: (row["layers_rule"] != "until_onset", abs(row["target"] - SHOWN_POSITION)))
        for row in rows[:1]:
            reason = f"position {row['target']}: {row['converted']} of {row['sequences']} sequences"
            yield Setting("", row["share"], row["share_low"], row["share_high"], reason, ("conversions",))

    return settings


def _against_shuffled(tables: StudyTables) -> Iterator[Setting]:
    table = tables.read("curve_contrasts")
    if table is None:
        return
    pair = (pl.col("treatment_kind") == "variance_amplification") & (pl.col("control_kind") == "shuffled_deviations")
    rows = sorted(table.filter(pair).to_dicts(), key=lambda row: abs(row["target"] - SHOWN_POSITION))
    for row in rows[:1]:
        ends = (row["converted_area"], row["converted_area_low"], row["converted_area_high"])
        yield Setting("", *ends, f"position {row['target']}", ("curve_contrasts",))


def _lost(removal: str):
    """Settings: share of the sequences with a sink at position 0 that lose it under a removal."""

    def settings(tables: StudyTables) -> Iterator[Setting]:
        table = tables.read("removals")
        for row in [] if table is None else table.filter(removal=removal).head(1).to_dicts():
            if row["lost_share"] is None:
                yield not_applicable("", "in no sequence is position 0 a sink, so there is none to lose", "removals")
                return
            reason = f"lost in {row['lost']} of the {row['before']} sequences with a sink"
            yield Setting("", row["lost_share"], row["lost_share_low"], row["lost_share_high"], reason, ("removals",))

    return settings


def _share(quantity: str, side: str, why: str, contradicted_by: str) -> Test:
    """Test of a share of sequences: most of them, or nearly none."""
    return Test(quantity, side, 0.5 if side == "above" else NO_MORE_THAN, why, contradicted_by)  # type: ignore[arg-type]


_BECOMES = "share of the sequences whose target becomes a sink"
_LOSES = "share of the sequences with a sink at position 0 that lose it"

STRUCTURAL = Account(
    "variance, super neurons and dims",
    "Li et al. 2026, arXiv 2605.06611",
    (
        Claim(
            "structural-1",
            "other content of the same variance makes a sink",
            "deviations of another sequence, amplified alike, make sinks in as many sequences over the curve of strengths",
            "variance is the cause",
            Test(
                "mean over λ of the share of sequences that become sinks under amplification − with another sequence's deviations",
                "within",
                NO_MORE_THAN,
                _MAKES_NONE,
                "the content of the deviations matters",
            ),
            _against_shuffled,
        ),
        Claim(
            "structural-2",
            "a swap without more variance makes no sink",
            "another sequence's deviations at their own size make no sink",
            "variance is the cause",
            _share(_BECOMES, "below", _MAKES_NONE, "other content makes sinks without more variance"),
            _converted("shuffled_deviations", 1.0),
        ),
        Claim(
            "structural-3",
            "one other token alone makes a sink",
            "a position that attends to one other token only becomes a sink: what counts is that nothing is averaged",
            "lack of averaging is the cause",
            _share(_BECOMES, "above", _MAKES_A_SINK, "attending to oneself is needed"),
            _converted("other_token_only"),
        ),
        Claim(
            "structural-4",
            "losing position 0 makes no sink",
            "a position that averages over all tokens but the first becomes no sink",
            "lack of averaging is the cause",
            _share(_BECOMES, "below", _MAKES_NONE, "not to see the old sink is enough to become one"),
            _converted("blind_to_first"),
        ),
        Claim(
            "structural-5",
            "without the dims no sink",
            "position 0 loses its sink when the dims that its super neurons write are set to zero",
            "dimension disparity is a link of the chain",
            _share(_LOSES, "above", _MAKES_A_SINK, "the sink stays without the dims"),
            _lost("dominating dims by zero"),
        ),
    ),
)

ACCOUNTS: tuple[Account, ...] = (STRUCTURAL,)
PREDICTIONS: tuple[Claim, ...] = tuple(prediction for account in ACCOUNTS for prediction in account.predictions)

SCHEMA = pa.schema(
    [
        pa.field("account", pa.string(), metadata={"description": "explanation of attention sinks that predicts it"}),
        pa.field("source", pa.string(), metadata={"description": "where the account is from"}),
        *LEDGER_SCHEMA,
    ]
)


def with_account(rows: list[dict]) -> list[dict]:
    """Rows of ``SCHEMA``, from rows of the ledger about predictions, in the order of the accounts."""
    found = []
    for account in ACCOUNTS:
        codes = {prediction.code for prediction in account.predictions}
        about = {"account": account.name, "source": account.source}
        found += [about | row for row in rows if row["claim"] in codes]
    return found
