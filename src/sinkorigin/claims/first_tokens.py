"""The claim that tells a sink of the position from one of the token: is it there whatever the first token is?"""

from collections.abc import Iterator, Mapping

import polars as pl

from sinkorigin.claims.verdicts import (
    NO_SINK_FACTOR,
    NOT_APPLICABLE,
    StudyTables,
    decided,
    with_ends,
)
from sinkorigin.statistics.uniform import SINK_FACTOR

NAMES = {"drawn": "drawn tokens", "bos": "BOS", "fixed": "one fixed token"}  # condition → how sentences call it


def first_token_claims(conditions: Mapping[str, StudyTables]) -> Iterator[dict]:
    """Claim about one model on prompt sets that differ in their first token alone.

    Args:
        conditions: drawn, bos or fixed → the model's tables on the set of this condition, as far as the model reads it.
    """
    peaks: dict[str, dict] = {}  # condition → the layer where position 0 has most, as ratio to uniform attention
    missing: dict[str, str] = {}  # condition → why it is not applicable
    read = {}
    for condition, tables in conditions.items():
        if reason := tables.not_applicable("first_positions"):
            missing[condition] = reason
        elif (table := tables.read("first_positions")) is not None:
            read[condition] = tables
            peaks[condition] = _peak(table)
    if not peaks and not missing:
        return
    tables = next(iter((read or conditions).values()))
    control = tables.model.is_control
    words = (
        ("control: random weights have no sink at position 0, whatever the first token is", NO_SINK_FACTOR, "<")
        if control
        else (
            "position 0 is a sink whatever the first token is, so that the sink belongs to the position",
            SINK_FACTOR,
            ">",
        )
    )
    statement, threshold, sign = words
    found: dict = {"verdict": NOT_APPLICABLE, "reason": "; ".join(_lacking(missing))}
    if len(peaks) > 1:
        # the condition under which the claim holds least
        decisive = (max if control else min)(peaks.values(), key=lambda peak: peak["ratio"])
        found = decided(
            *with_ends(decisive, "ratio"),
            (lambda x: x < threshold) if control else (lambda x: x > threshold),
            "; ".join([_summary(peaks, control), *map(_numbers, peaks.values()), *_lacking(missing)]),
        )
    elif peaks:
        found["reason"] = "; ".join(
            [
                "there is one condition only, nothing to compare it with",
                *map(_numbers, peaks.values()),
                *_lacking(missing),
            ]
        )
    names = ", ".join(one.prompts for one in conditions.values())
    places = ", ".join(one.path("first_positions") for one in (read or conditions).values())
    yield tables.row(
        "no sink under any first token" if control else "sink under each first token",
        statement,
        f"largest sink mass of a layer / uniform attention, under the first token where it is {'largest' if control else 'smallest'}",
        None, f"{sign} {threshold:g}", "first_positions", **found,
    ) | {"prompts": names, "table": places}  # fmt: skip


def _peak(table: pl.DataFrame) -> dict:
    """The layer where position 0 has most attention, and the position of 1 to 3 that has most in any layer."""
    ratios = table.with_columns(
        (pl.col(name) / pl.col("uniform")).alias(name.replace("mass", "ratio"))
        for name in ("mass", "mass_low", "mass_high")
    ).sort("ratio", descending=True, nulls_last=True)
    others = ratios.filter(pl.col("position") > 0).to_dicts()
    first = ratios.filter(pl.col("position") == 0).to_dicts()[0]
    return {**first, "other": others[0] if others else None}


def _lacking(missing: Mapping[str, str]) -> list[str]:
    return [f"not under {NAMES[condition]}: {reason}" for condition, reason in missing.items()]


def _is_sink(peak: Mapping) -> bool:
    return peak["ratio_low"] > SINK_FACTOR


def _numbers(peak: Mapping) -> str:
    """What was measured under one condition; where position 0 is no sink, which of the next positions is one."""
    value, low, high = with_ends(peak, "ratio")
    text = f"{NAMES[peak['first_token']]}: {value:.2f} [{low:.2f}, {high:.2f}] in layer {peak['layer']}"
    other = peak["other"]
    if not _is_sink(peak) and other is not None and _is_sink(other):
        text += f", but {other['ratio']:.2f} at position {other['position']} in layer {other['layer']}"
    return text


def _summary(peaks: Mapping[str, Mapping], control: bool) -> str:
    """What the conditions say together."""
    having = [condition for condition, peak in peaks.items() if _is_sink(peak)]
    if len(having) == len(peaks):
        return "a sink under each" + ("" if control else ": it belongs to the position")
    if not having:
        return "no sink under any"
    under = f"sink under {' and '.join(NAMES[condition] for condition in having)} only"
    return f"{under}: it belongs to the token" if having == ["bos"] else under
