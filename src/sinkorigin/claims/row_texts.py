"""Rows of the ledger in words: a value with its interval, in how many settings a claim holds, the place of a claim among others."""

from collections.abc import Mapping

import numpy as np


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}".replace("-", "−")


def value_text(row: Mapping) -> str:
    """Value with its interval; of a value that is the same in every sequence, that it has none."""
    if row["value"] is None:
        return "–"
    if row["low"] is not None and np.allclose([row["low"], row["high"]], row["value"], rtol=1e-6, atol=0):
        return f"{number(row['value'])} [no spread]"
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"


def settings_text(row: Mapping) -> str:
    """In how many settings a claim of the ledger holds."""
    if not row["settings"]:
        return "–"
    opposite = f", contradicted in {row['opposite']}" if row["opposite"] else ""
    return f"holds in {row['holds']} of {row['settings']}{opposite}"


def p_text(value: float) -> str:
    """A p-value, "p < 0.001"."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def claim_order(code: str) -> tuple[int, str]:
    """Place of a claim's code among others: C2 before C10, C11a before C11b."""
    digits = "".join(filter(str.isdigit, code))
    return int(digits or 0), code
