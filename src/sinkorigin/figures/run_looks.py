"""Looks and names of the runs of the pretraining comparison in the figures that draw them as lines."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from sinkorigin.figures import style


def looks(runs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Run → colour and dashes of its lines."""
    dashes = {run: style.DASHES[i % len(style.DASHES)] for i, run in enumerate(runs)}
    return {run: {"color": colour, "linestyle": dashes[run]} for run, colour in style.colours(runs).items()}


def label(history: pl.DataFrame) -> str:
    """Name, variant and number of seeds of the run that ``history`` is of."""
    run, variant = history["run"][0], history["variant"][0]
    name = style.as_words(run) if run == variant else f"{style.as_words(run)} ({style.as_words(variant)})"
    seeds = history["seed"].n_unique()
    return f"{name}, {seeds} seed{'' if seeds == 1 else 's'}"
