"""The claim that tells a sink of the position from one of the token: is it there whatever the first token is?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter

import polars as pl

from sinkorigin.claims.verdicts import NO_SINK_FACTOR, StudyTables, decided, with_ends
from sinkorigin.statistics.uniform import SINK_FACTOR

NAMES = {"drawn": "drawn tokens", "bos": "BOS", "fixed": "one fixed token"}  # condition → how sentences call it
FIRST_TOKENS = "sink under each first token"  # name of the claim
_TABLE = "first_positions"
_QUANTITY = "largest sink mass of a layer / uniform attention, under the first token where that is"


def first_token_claims(conditions: Mapping[str, StudyTables]) -> Iterator[dict]:
    """Claim about one model on prompt sets that differ in their first token alone, if it reads at least two of them.

    Args:
        conditions: drawn, bos or fixed → the model's tables on the set of this condition.
    """
    missing = {name: reason for name, tables in conditions.items() if (reason := tables.not_applicable(_TABLE))}
    found = {name: table for name, tables in conditions.items() if (table := tables.read(_TABLE)) is not None}
    peaks = {name: _peak(table) for name, table in found.items()}
    about = [tables for name, tables in conditions.items() if name in peaks or name in missing]
    if len(about) < 2:
        return
    numbers = [*map(_numbers, peaks.values()), *(f"not under {NAMES[name]}: {why}" for name, why in missing.items())]
    judge = _no_sink if about[0].model.is_control else _sink
    yield judge(about[0], peaks, numbers) | {
        "prompts": ", ".join(tables.prompts for tables in about),
        "table": ", ".join(tables.path(_TABLE) for tables in about),
    }


def _sink(tables: StudyTables, peaks: Mapping[str, dict], numbers: Sequence[str]) -> dict:
    """Row of a model that is not a control: decided by the condition under which it has the least sink."""
    return tables.row(
        FIRST_TOKENS,
        "position 0 is a sink whatever the first token is, so that the sink belongs to the position",
        f"{_QUANTITY} smallest", None, f"> {SINK_FACTOR:g}", _TABLE,
        **_decided(peaks, min, lambda x: x > SINK_FACTOR, [*_summary(peaks), *numbers]),
    )  # fmt: skip


def _no_sink(tables: StudyTables, peaks: Mapping[str, dict], numbers: Sequence[str]) -> dict:
    """Row of random weights: decided by the condition under which they have most attention on position 0."""
    return tables.row(
        "no sink under any first token",
        "control: random weights have no sink at position 0, whatever the first token is",
        f"{_QUANTITY} largest", None, f"< {NO_SINK_FACTOR:g}", _TABLE,
        **_decided(peaks, max, lambda x: x < NO_SINK_FACTOR, numbers),
    )  # fmt: skip


def _decided(peaks: Mapping[str, dict], least: Callable, holds: Callable, reasons: Sequence[str]) -> dict:
    """Verdict of the condition under which the claim holds least; none where there is nothing to compare."""
    if len(peaks) < 2:
        return {"reason": "; ".join(["nothing to compare", *reasons])}
    decisive = least(peaks.values(), key=itemgetter("ratio"))
    return decided(*with_ends(decisive, "ratio"), holds, "; ".join(reasons))


def _peak(table: pl.DataFrame) -> dict:
    """The layer where position 0 has most attention, and the position of 1 to 3 that has most in any layer."""
    ratios = table.with_columns(
        (pl.col(name) / pl.col("uniform")).alias(name.replace("mass", "ratio"))
        for name in ("mass", "mass_low", "mass_high")
    ).sort("ratio", descending=True, nulls_last=True)
    others = ratios.filter(pl.col("position") > 0).to_dicts()
    first = ratios.filter(pl.col("position") == 0).to_dicts()[0]
    return {**first, "other": others[0] if others else None}


def _is_sink(peak: Mapping) -> bool:
    return peak["ratio_low"] > SINK_FACTOR


def _numbers(peak: Mapping) -> str:
    """What was measured under one condition, and which of the next positions is a sink, if one is."""
    value, low, high = with_ends(peak, "ratio")
    text = f"{NAMES[peak['first_token']]}: {value:.2f} [{low:.2f}, {high:.2f}] in layer {peak['layer']}"
    other = peak["other"]
    if other is not None and _is_sink(other):
        text += f" (position {other['position']}: {other['ratio']:.2f} in layer {other['layer']})"
    return text


def _summary(peaks: Mapping[str, Mapping]) -> Iterator[str]:
    """What several conditions say together; nothing for one."""
    having = [condition for condition, peak in peaks.items() if _is_sink(peak)]
    if len(peaks) < 2:
        return
    if len(having) == len(peaks):
        yield "a sink under each: it belongs to the position"
    elif having == ["bos"]:
        yield "sink under BOS only: it belongs to the token"
    elif having:
        yield f"sink under {' and '.join(NAMES[condition] for condition in having)} only"
    else:
        yield "no sink under any"
