"""What other accounts of attention sinks predict, beside this paper's: written down before the run, and tested by the same tables.

A prediction is declared like a claim of the ledger. No account is judged as a whole: the rows say which of its predictions hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.judging import LEDGER_SCHEMA
from sinkorigin.claims.primary.c07_fixed_key import FIXED
from sinkorigin.claims.primary.c13_what_the_norm_removes import disparity
from sinkorigin.claims.run_pairs import TABLE, RunPair, TrainingClaim, exceeds, interval_text, over_seeds
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.interventions.kind import SHOWN_POSITION, SHOWN_STRENGTH
from sinkorigin.statistics.layer_permutations import layer_orders
from sinkorigin.statistics.rank_correlation import permuted_p
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


def _key_of_amplified(tables: StudyTables) -> Iterator[Setting]:
    table = tables.read("interventions")
    if table is None:
        return
    amplified = (pl.col("kind") == "variance_amplification") & (pl.col("site") == "value_aggregation")
    rows = table.filter(amplified & (pl.col("strength") == SHOWN_STRENGTH)).to_dicts()
    for row in sorted(rows, key=lambda row: abs(row["target"] - SHOWN_POSITION))[:1]:
        ends = (row["key_cosine_change"], row["key_cosine_change_low"], row["key_cosine_change_high"])
        reason = f"{row['key_cosine']:.2f} against {row['baseline_key_cosine']:.2f} in layer {row['peak_layer']}, position {row['target']}"
        yield Setting("", *ends, reason, ("interventions",))


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
        Claim(
            "structural-6",
            "amplified variance makes the key more fixed",
            f"under amplification by {SHOWN_STRENGTH:g} the target's keys are more alike between sequences, where its sink is strongest",
            "the key collapses to a fixed direction",
            Test(
                "cosine of the target's keys between sequences under amplification − unedited, paired by sequence",
                "above",
                0.0,
                "a relation, not a level",
                "the target's keys are less alike",
            ),
            _key_of_amplified,
        ),
    ),
)


def _column(table_name: str, name: str, *, one: str | None = None, p: str | None = None):
    """Settings: a column of a table of one row, or of the row in which another column is 1.

    Args:
        p: column with a p-value that must be small too.
    """

    def settings(tables: StudyTables) -> Iterator[Setting]:
        table = tables.read(table_name)
        if table is None:
            return
        rows = (table if one is None else table.filter(pl.col(one) == 1)).to_dicts()
        if not rows or rows[0][name] is None:
            reason = (rows or table.to_dicts() or [{"not_applicable": None}])[0]["not_applicable"]
            yield not_applicable("", reason or f"{name} is not defined there", table_name)
            return
        [row] = rows[:1]
        where = f"layer {row['layer']}" if "layer" in row else None
        ends = (row[name], row[f"{name}_low"], row[f"{name}_high"])
        yield _with_chance(Setting("", *ends, where, (table_name,)), None if p is None else row[p])

    return settings


def _with_chance(setting: Setting, chance: float | None) -> Setting:
    """A setting of a correlation, which must differ from 0 by more than permutations of its heads or layers do, whose number no sequences raise.

    Args:
        chance: their p-value; None where there are none.
    """
    if chance is None or setting.value is None or setting.low is None or setting.high is None:
        return setting
    interval = Test("correlation", "below", 0.0, "a relation", "a relation of the other sign").p(
        setting.value, setting.low, setting.high
    )
    reason = "; ".join(filter(None, [setting.reason, f"permutations of layers p = {chance:.2g}"]))
    return replace(setting, reason=reason, p=max(interval, chance))


def _entropy_and_sink(tables: StudyTables) -> Iterator[Setting]:
    """The correlation of sink mass and entropy over layers, against permutations of the layers."""
    names = ("entropy_valley", "sink_mass", "matrix_entropy")
    found = [tables.read(name) for name in names]
    if found[0] is None:
        return
    [setting] = _column("entropy_valley", "correlation")(tables)
    if setting.value is None or found[1] is None or found[2] is None:
        yield setting
        return
    # the residual that enters layer l is the one that leaves layer l - 1, or the embedding, whose layer is -1
    entering = found[2].filter(positions="all", over="sequence").select(pl.col("layer") + 1, "normalised")
    both = found[1].join(entering, on="layer").sort("layer").drop_nulls(["mass", "normalised"])
    mass, entropy = (both[name].to_numpy() for name in ("mass", "normalised"))
    chance = permuted_p(mass, entropy, layer_orders(np.arange(len(mass)), seed=0))
    yield replace(_with_chance(setting, chance), tables=names)


def _fixed_direction(tables: StudyTables) -> Iterator[Setting]:
    """The primary setting of this paper's own claim about the key, C7a."""
    return islice(FIXED.settings(tables), 1)


def _sink_stays(pair: RunPair) -> Iterator[Setting]:
    """Largest sink mass of a layer over uniform attention, where the baseline has a sink."""
    raw = pair.pairs("sink_mass")
    if not len(raw) or raw.uniform is None:
        return
    base = pair.baseline_values("sink_mass") / raw.uniform
    if not exceeds(base, SINK_FACTOR):
        yield not_applicable("", f"{pair.baseline} has no sink: {interval_text(base)} × uniform attention", TABLE)
        return
    yield over_seeds("", raw.run / raw.uniform, _STAYS, f"{pair.baseline} {interval_text(base)}", log=True)


_STAYS = Test(
    "sink mass of the layer where it is largest / uniform attention, mean over seeds",
    "above",
    SINK_FACTOR,
    "this is what a sink is (docs/science.md)",
    "no layer has a sink at position 0",
)
_GOES = replace(_STAYS, side="below", contradicted_by="a layer has a sink at position 0 still")
_NO_DISPARITY = Test(
    "first token's dominance ratio, mean over layers, / the baseline's of the same seed, geometric mean over seeds",
    "below",
    0.9,
    "a tenth less is the smallest effect of interest",
    "it is as large, or smaller by less than that",
)


def _decoupled(variant: str, words: str, numbers: tuple[int, int]) -> tuple[TrainingClaim, TrainingClaim]:
    """The two predictions about a variant that is to part massive activations from sinks."""
    stays, falls = numbers
    return (
        TrainingClaim(
            f"spike-{stays}", f"{words}: the sink stays", f"with {words} position 0 is a sink still, where softmax has one",
            "massive activations and sinks part", _STAYS, _sink_stays, scale="ratio", variant=variant,
        ),
        TrainingClaim(
            f"spike-{falls}", f"{words}: the disparity falls",
            f"with {words} the first token has a smaller dimension disparity, where softmax has one",
            "massive activations and sinks part", _NO_DISPARITY, disparity, scale="ratio", variant=variant,
        ),
    )  # fmt: skip


SPIKE = Account(
    "norm placement and QK-norm",
    "Sun et al. 2026, arXiv 2603.05498",
    (
        Claim(
            "spike-1",
            "first token's key is nearly constant",
            "normalisation makes the first token's vectors nearly the same in every sequence, so that they act as parameters (as C7a says too)",
            "near-constant representations",
            Test(
                "cosine of the first token's keys between sequences, mean over heads, where the sink is strongest",
                "above",
                0.9,
                FIXED.test.why,
                "the first token's key varies between sequences",
            ),
            _fixed_direction,
        ),
        *_decoupled("sandwich_norm", "norms after attention and FFN", (2, 3)),
        *_decoupled("qk_norm", "QK-norm", (4, 5)),
    ),
)

DRAIN = Account(
    "value drain",
    "Guo et al. 2024, arXiv 2410.13835",
    (
        Claim(
            "drain-1",
            "first token's values are small",
            "in the layers with a sink the first token's value vectors are small",
            "sinks have small value vectors",
            Test(
                "norm of the value vectors at position 0 / mean of the others, mean over the layers with a sink",
                "below",
                0.5,
                "half of the others'",
                "they are more than half as large as the others'",
            ),
            _column("value_drain_and_sink", "with_sink"),
        ),
        Claim(
            "drain-2",
            "smaller values where the sink is stronger",
            "heads with more attention on position 0 have smaller value vectors there",
            "sinks have small value vectors",
            Test(
                "Spearman's rank correlation, over key/value heads, of that ratio and the sink mass",
                "below",
                0.0,
                "a relation, not a level; it must exceed what permutations of whole layers give",
                "heads with more attention on position 0 have larger values there, beyond chance",
            ),
            _column("value_drain_and_sink", "correlation", p="p"),
            decided_by="models",
        ),
        TrainingClaim(
            "drain-3",
            "a learned sink logit takes the sink's place",
            "with a learned logit that takes attention and gives nothing, position 0 is no sink, where softmax has one",
            "a sink is where a head puts attention that it does not need",
            _GOES,
            lambda pair: (replace(one, test=_GOES) if one.applicable else one for one in _sink_stays(pair)),
            scale="ratio",
            variant="sink_logits",
        ),
    ),
)

VALLEY = Account(
    "entropy valley",
    "Queipo-de-Llano et al. 2025, arXiv 2510.06477",
    (
        Claim(
            "valley-1",
            "position 0 makes the entropy valley",
            "the residual's matrix entropy is low because of position 0",
            "massive activations compress the residual stream",
            Test(
                "normalised matrix entropy without position 0 − with it, in the layer where it is lowest",
                "above",
                0.1,
                "a tenth of the largest possible entropy",
                "without position 0 the entropy is as low",
            ),
            _column("entropy_valley", "first_token"),
        ),
        Claim(
            "valley-2",
            "sinks where the entropy is low",
            "layers with more attention on position 0 read a residual stream of lower entropy",
            "sinks and valleys appear together",
            Test(
                "Spearman's rank correlation, over layers, of the sink mass and the entropy of the residual that enters the layer",
                "below",
                0.0,
                "a relation, not a level; it must exceed what permutations of the layers give",
                "layers with more attention on position 0 read a residual stream of higher entropy, beyond chance",
            ),
            _entropy_and_sink,
            decided_by="models",
        ),
    ),
)

SUPER_WEIGHT = Account(
    "one super weight",
    "Yu et al. 2024, arXiv 2411.07191",
    (
        Claim(
            "weight-1",
            "one weight makes the spike",
            "one weight of a down-projection gives most of the largest output at position 0",
            "a single super weight",
            Test(
                "share of the largest output spike at position 0 that the weight between the two spikes gives alone",
                "above",
                0.5,
                "more than half is most of it",
                "half of the spike or more comes from other weights",
            ),
            _column("super_weight", "share", one="place"),
        ),
    ),
)

ACCOUNTS: tuple[Account, ...] = (STRUCTURAL, SPIKE, DRAIN, VALLEY, SUPER_WEIGHT)
_ALL = tuple(prediction for account in ACCOUNTS for prediction in account.predictions)
TRAINING_PREDICTIONS = tuple(one for one in _ALL if isinstance(one, TrainingClaim))
PREDICTIONS = tuple(one for one in _ALL if not isinstance(one, TrainingClaim))

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
