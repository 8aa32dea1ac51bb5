"""Values of every variant by the size of the model, and the gap to the baseline of the same size, with its slope."""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator

from sinkorigin.figures import run_looks, style
from sinkorigin.statistics.ladder import slope_weights
from sinkorigin.statistics.student import paired_interval

TITLES = {"validation_loss": "validation loss", "sink_mass": "sink mass, largest layer"}
DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 2.4, "alpha": 0.5}
MARKERS = "Ds^ov"  # of the means of each family
MEAN: dict[str, Any] = {"markersize": 4, "markerfacecolor": "white", "linestyle": ""}
ASIDE = 1.05  # factor on the x axis between one variant and the next, so that none hides another


@style.styled
def draw(*, ladder: pl.DataFrame, ladder_slope: pl.DataFrame) -> Figure:
    """One column of two panels, values above gaps, for each quantity, prompt set and kind of data."""
    columns = [
        key
        for key in ladder.select("data", "end_of_text_first", "length", "quantity", "prompts")
        .unique(maintain_order=True)
        .rows()
        if key[3] in TITLES
    ]
    figure, axes = style.panels(columns, rows=2, share_x=True, height=1.6)
    families = ladder.select("variant", "reading").unique(maintain_order=True).rows()
    looks = {
        family: {**look, "marker": MARKERS[number % len(MARKERS)]}
        for number, (family, look) in enumerate(run_looks.looks(families).items())
    }
    several = len({column[:3] for column in columns}) > 1
    for key, (above, below) in axes.items():
        for number, family in enumerate(families):
            rows = _of(ladder, key, family)
            factor = ASIDE ** (number - (len(families) - 1) / 2)
            _points(above, rows, "value", factor, looks[family])
            _points(below, rows, "gap", factor, looks[family])
            _trend(below, rows, factor, looks[family])
        for level in _of(ladder, key)["uniform"].drop_nulls().unique():
            above.axhline(level, **run_looks.UNIFORM)
        data, end_of_text_first, length, quantity, prompts = key
        start = "begins with the end-of-text token" if end_of_text_first else "begins anywhere"
        where = f"{style.as_words(data)}, {length} tokens, {start}" if several else ""
        style.title(above, TITLES[quantity] + (f" on {style.as_words(prompts)}" if prompts else ""), where)
        below.axhline(0, **style.LEVEL)
        below.set_xscale("log")
        sizes = sorted(ladder["parameters"].unique())
        below.xaxis.set_major_locator(FixedLocator(sizes))
        below.xaxis.set_minor_locator(NullLocator())
        below.xaxis.set_major_formatter(EngFormatter(sep="", places=0))
        below.set_xlabel("parameters")
        [unit] = _of(ladder, key)["unit"].unique()
        above.set_ylabel("share of attention" if unit == "1" else unit)
        below.set_ylabel("gap to the baseline")
    handles = [
        style.line_handle(f"{_name(family)}{_slope(ladder_slope, family)}", markerfacecolor="white", **look)
        for family, look in looks.items()
    ]
    grey = {"color": style.REFERENCE}
    handles += [
        style.line_handle("one seed", **DOTS, **grey),
        style.line_handle(
            "mean over seeds, with its 95 % Student interval; line: least squares", **MEAN, marker=MARKERS[0], **grey
        ),
    ]
    if ladder["uniform"].is_not_null().any():
        handles.append(style.line_handle("sink mass under uniform attention", **run_looks.UNIFORM))
    style.legend(figure, handles)
    return figure


def _of(table: pl.DataFrame, key: tuple, family: tuple | None = None) -> pl.DataFrame:
    """The rows of one column of the figure, and of one family."""
    names = ("data", "end_of_text_first", "length", "quantity", "prompts", *(("variant", "reading") if family else ()))
    pairs = zip(names, (*key, *(family or ())), strict=True)
    return table.filter(*(pl.col(name).eq_missing(pl.lit(value)) for name, value in pairs))


def _points(ax: Axes, rows: pl.DataFrame, name: str, factor: float, look: dict[str, Any]) -> None:
    """Draw a dot for each seed, and the mean of each size with its interval."""
    rows, colour = rows.drop_nulls(name), look["color"]
    ax.plot(rows["parameters"].to_numpy() * factor, rows[name].to_numpy(), color=colour, **DOTS)
    for (parameters,), own in rows.group_by("parameters", maintain_order=True):
        mean, low, high = paired_interval(own[name].to_list())
        place = float(str(parameters)) * factor
        if low is not None and high is not None:
            ax.plot([place, place], [low, high], color=colour, linewidth=1.2)
        ax.plot([place], [mean], color=colour, marker=look["marker"], **MEAN)


def _trend(ax: Axes, rows: pl.DataFrame, factor: float, look: dict[str, Any]) -> None:
    """Draw the least-squares line through the mean gaps."""
    means = rows.drop_nulls("gap").group_by("parameters").agg(pl.col("gap").mean()).sort("parameters")
    if len(means) < 2:
        return
    parameters, gaps = means["parameters"].to_numpy().astype(float), means["gap"].to_numpy()
    x = np.log(parameters) / np.log(4)
    fitted = gaps.mean() + slope_weights(parameters) @ gaps * (x - x.mean())
    ax.plot(parameters * factor, fitted, color=look["color"], linestyle=look["linestyle"], linewidth=1.0)


def _name(family: tuple) -> str:
    variant, reading = family
    return style.as_words(variant) + (f" ({style.as_words(reading)})" if reading else "")


def _slope(slopes: pl.DataFrame, family: tuple) -> str:
    """What the legend says of a family's slope of the validation loss; nothing of a baseline's, or of several kinds of data."""
    variant, reading = family
    rows = slopes.filter(
        pl.col("quantity") == "validation_loss",
        pl.col("variant") == variant,
        pl.col("reading").eq_missing(pl.lit(reading)),
        pl.col("slope").is_not_null(),
    ).to_dicts()
    if len(rows) != 1:
        return ""
    row = rows[0]
    interval = "" if row["slope_low"] is None else f" [{row['slope_low']:+.3f}, {row['slope_high']:+.3f}]"
    text = f": gap of the validation loss {row['slope']:+.3f}{interval} for a factor 4, {row['answer']}"
    return text.replace("-", "−")
