"""The one style of every figure: colours, fonts, sizes, panels, bands, legends, and how a figure is written.

Colours are seaborn's colour-blind-safe palette, and no meaning rests on colour alone: lines also differ in dashes,
markers or width. The font is the one that matplotlib carries, so that a figure has the same bytes on every machine.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextToPath
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

from sinkorigin import tables
from sinkorigin.errors import listed

PALETTE: list[tuple[float, float, float]] = list(sns.color_palette("colorblind", 10))
REFERENCE = (0.35, 0.35, 0.35)  # of what a measurement is compared with: uniform attention, the unedited model
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1))]
BAND_ALPHA = 0.22
LEVEL: dict[str, Any] = {"color": REFERENCE, "linestyle": ":", "linewidth": 1.1}  # of a bound, or of no effect
BEHIND: dict[str, Any] = {"facecolor": "white", "linewidth": 0, "pad": 0.6}  # of words that lines would cross
# the columns of a quantity of the first token and of the others: what the legend says, and the look of the line
FIRST_AND_REST: dict[str, tuple[str, dict[str, Any]]] = {
    "first": ("first token", {"marker": "o"}),
    "rest": ("the other tokens, mean", {"linestyle": DASHES[1], "linewidth": 1.2}),
}
SUPER_NEURON: dict[str, Any] = {
    "color": PALETTE[3],
    "marker": "o",
    "markersize": 6,
    "markeredgecolor": "black",
    "markeredgewidth": 0.7,
    "linestyle": "",
}

PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.35  # inches
MARGIN = 0.55  # inches that a row of panels needs beside the panels, for its label
SMALLEST_WIDTH = 6.0  # inches; below it the legend under a single panel becomes a tower
MOST_COLUMNS = 4
TITLE_SIZE, SUBTITLE_SIZE, LEGEND_SIZE = 9.0, 8.0, 8.0  # points

_RC: Any = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "axes.labelsize": 8.5,
    "axes.titlesize": TITLE_SIZE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "0.3",
    "grid.color": "0.92",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.minor.width": 0.6,
    "ytick.minor.width": 0.6,
    "xtick.major.size": 3.5,
    "ytick.major.size": 3.5,
    "xtick.minor.size": 2,
    "ytick.minor.size": 2,
    "legend.fontsize": LEGEND_SIZE,
    "legend.frameon": False,
    "legend.handlelength": 2.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 200,
    "figure.dpi": 100,
    "svg.fonttype": "path",
    "svg.hashsalt": "sinkorigin",  # else the ids in an SVG are random
}


# what matplotlib would otherwise fill with the time of day
_UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run ``draw`` under this style, and leave the caller's matplotlib settings as they were."""

    @wraps(draw)
    def under_style(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(_RC):
            return draw(*args, **kwargs)

    return under_style


def save(figure: Figure, paths: Iterable[str | Path], *, lacks: Sequence[str] = ()) -> None:
    """Write ``figure`` to each of ``paths``, in the format of its suffix (svg, png, pdf).

    A figure has the same bytes each time (no date, no random ids), and a file takes its name only when it is complete.

    Args:
        lacks: models or runs that it should show and cannot, because a job failed; a line above the figure names them.

    Raises:
        SinkoriginError: the disk is full.
    """
    if lacks:
        figure.set_figheight(figure.get_figheight() + 0.25)
        text = f"Not shown, because a job failed: {listed(lacks, 6)}"
        figure.suptitle(text, x=0.01, ha="left", fontsize=SUBTITLE_SIZE, color="0.3")
    for path in map(Path, paths):
        format_ = path.suffix[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        with tables.written_whole(path) as partial, matplotlib.rc_context(_RC):
            figure.savefig(
                partial, format=format_, metadata=_UNDATED.get(format_), bbox_inches="tight" if lacks else None
            )


def shown(figure: Figure) -> Figure:
    """The figure, which a notebook shows: loading pyplot's backend in one registers how."""
    import_module("matplotlib.pyplot").switch_backend(matplotlib.get_backend())
    return figure


def models_of(table: pl.DataFrame, labels: dict[str, str]) -> list[str]:
    """The models of ``table`` in the order of ``labels``.

    Raises:
        ValueError: a model has no label; leaving it out silently would make the figure lie.
    """
    present = set(table["model"].unique())
    if missing := present - labels.keys():
        raise ValueError(f"no label for {', '.join(sorted(missing))}")
    return [model for model in labels if model in present]


def in_order(column: pl.Series) -> list[Any]:
    """The distinct values of ``column`` in the order of their first row."""
    return column.unique(maintain_order=True).to_list()


def as_words(name: str) -> str:
    """A name of the config as people read it: ``random_tokens`` as ``random tokens``."""
    return name.replace("_", " ")


def columns_of(table: pl.DataFrame, labels: dict[str, str]) -> list[tuple[str, str]]:
    """Each (model, prompts) of ``table``, models in the order of ``labels``."""
    return [
        (model, prompts)
        for model in models_of(table, labels)
        for prompts in in_order(table.filter(pl.col("model") == model)["prompts"])
    ]


def prompts_of(table: pl.DataFrame) -> str:
    """The prompt sets of ``table`` as people read them, in the order of their first row."""
    return ", ".join(map(as_words, in_order(table["prompts"].drop_nulls())))


def colours(names: Sequence[Any]) -> dict[Any, tuple[float, float, float]]:
    """One colour of the palette for each name, in order."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


@cache
def text_width(text: str, size: float) -> float:
    """Width in inches of one line of ``text`` at ``size`` points."""
    font = FontProperties(family="DejaVu Sans", size=size)
    return TextToPath().get_text_width_height_descent(text, font, ismath=False)[0] / 72


def wrapped(text: str, inches: float, size: float) -> str:
    """``text`` in as few lines of at most ``inches`` as it takes, and those about equally long.

    A word that is wider by itself is broken, after a hyphen, slash or underscore where it has one.
    """
    lines = _filled(text, inches, size)
    widest = max((text_width(word, size) for word in text.split()), default=0.0)
    narrower = inches
    while narrower - 0.05 >= widest and len(balanced := _filled(text, narrower - 0.05, size)) == len(lines):
        narrower -= 0.05
        lines = balanced
    return "\n".join(lines)


def _filled(text: str, inches: float, size: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if text_width(longer, size) <= inches:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for piece in re.findall(r"[^-/_]*[-/_]|[^-/_]+", word):
            if lines[-1] and text_width(lines[-1] + piece, size) > inches:
                lines.append("")
            for character in piece:
                if lines[-1] and text_width(lines[-1] + character, size) > inches:
                    lines.append("")
                lines[-1] += character
    return lines


def laid_out(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, but not below the smallest width, whose layout makes room for all text."""
    return Figure(
        figsize=(max(width, SMALLEST_WIDTH), height),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.02, hspace=0.02),
    )


def blocks_of(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for so many panels, with at most ``most`` columns, as even as possible: 8 as 4 + 4, 5 as 3 + 2."""
    rows = -(-max(count, 1) // most)
    return rows, -(-max(count, 1) // rows)


def panels(
    keys: Sequence[Any], rows: int = 1, *, share_x: bool = False, most: int = MOST_COLUMNS
) -> tuple[Figure, dict[Any, list[Axes]]]:
    """A figure with one column of ``rows`` panels for each key; more than four columns go on below.

    Args:
        keys: what the columns stand for, in order.
        rows: panels of one key, stacked.
        share_x: the panels of one key have the same x axis, labelled at the lowest.
        most: columns before they go on below.

    Returns:
        The figure, and key → its panels from top to bottom.
    """
    blocks, columns = blocks_of(len(keys), most)
    figure = laid_out(columns * PANEL_WIDTH + MARGIN, blocks * rows * (PANEL_HEIGHT + 0.45) + 0.6)
    grid = figure.add_gridspec(blocks * rows, columns)
    axes: dict[Any, list[Axes]] = {}
    for i, key in enumerate(keys):
        block, column = divmod(i, columns)
        axes[key] = []
        for row in range(rows):
            above = axes[key][0] if share_x and row else None
            axes[key].append(figure.add_subplot(grid[block * rows + row, column], sharex=above))
            if share_x and row < rows - 1:
                axes[key][row].tick_params(labelbottom=False)
    return figure, axes


def is_leftmost(ax: Axes) -> bool:
    """Whether ``ax`` begins its row, where the row's y label stands."""
    spec = ax.get_subplotspec()
    return spec is not None and spec.is_first_col()


def title(ax: Axes, main: str = "", below: str = "", *, beside: float = 0.0) -> None:
    """Write a left-aligned title over ``ax``: ``main`` and, smaller under it, ``below``, each line of it on as many as it takes.

    Args:
        beside: inches of the figure's width that a colour bar takes beside the panels.
    """
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None and spec is not None  # panels() made both
    share = len(spec.colspan) / spec.get_gridspec().ncols
    inches = (figure.get_figwidth() - beside) * 0.93 * share - MARGIN
    line_height = 1.25
    pad = 5.0
    if below:
        below = "\n".join(wrapped(part, inches, SUBTITLE_SIZE) for part in below.splitlines())
        ax.annotate(
            below,
            (0, 1),
            (0, pad),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="left",
            va="bottom",
            size=SUBTITLE_SIZE,
            color="0.3",
            linespacing=line_height,
            annotation_clip=False,
        )
        pad += SUBTITLE_SIZE * line_height * len(below.splitlines()) + 4
    if main:
        ax.set_title(wrapped(main, inches, TITLE_SIZE), loc="left", pad=pad, linespacing=line_height)


def line(
    ax: Axes, rows: pl.DataFrame, x: str, name: str, *, band: bool = True, band_alpha: float = BAND_ALPHA, **look
) -> None:
    """Draw the column ``name`` as a line and its interval as a band; a null is a gap in both, never a zero.

    Args:
        rows: with the columns ``x``, ``name`` and, for the band, ``{name}_low`` and ``{name}_high``.
    """
    places, values = rows[x].to_numpy(), _floats(rows[name])
    ax.plot(places, values, **look)
    if band:
        low, high = _floats(rows[f"{name}_low"]), _floats(rows[f"{name}_high"])
        known = np.isfinite([values, low, high]).all(axis=0).tolist()
        ax.fill_between(places, low, high, where=known, color=look["color"], alpha=band_alpha, linewidth=0)


def bar(ax: Axes, at: float, low: float | None, high: float | None, *, upright: bool = False, **look) -> None:
    """Draw an interval as a bar, in the row ``at`` or, upright, at that x; nothing where it is not known."""
    if low is not None and high is not None:
        (ax.vlines if upright else ax.hlines)(at, low, high, **{"linewidth": 2.0, "zorder": 3} | look)


def number(value: float, form: str) -> str:
    """A number in this format, such as ``+z.2f``, with a true minus sign."""
    return f"{value:{form}}".replace("-", "−")


def ends(low: float | None, high: float | None, form: str) -> str:
    """An interval in words, `` [0.31, 0.51]``; nothing where it is not known.

    Args:
        form: format of its ends, such as ``z.2f``.
    """
    return "" if low is None or high is None else f" [{number(low, form)}, {number(high, form)}]"


def _floats(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float64).to_numpy()  # null becomes NaN


def band_handle(label: str = "95 % bootstrap interval over sequences") -> Patch:
    """Legend entry of the bands."""
    return Patch(facecolor=REFERENCE, alpha=BAND_ALPHA, linewidth=0, label=label)


def line_handle(label: str, **look) -> Line2D:
    """Legend entry that is drawn as a line of this look."""
    return Line2D([], [], label=label, **look)


def prompt_handles(colour: dict[str, tuple[float, float, float]]) -> list[Line2D]:
    """Legend entries of the prompt sets, each of which has one colour."""
    return [line_handle(as_words(prompts), color=value, linewidth=3) for prompts, value in colour.items()]


def rest_handles() -> list[Line2D]:
    """Legend entries of the first token and the others."""
    return [line_handle(text, color=REFERENCE, **look) for text, look in FIRST_AND_REST.values()]


def beside(ax: Axes, text: str, point: tuple[float, float], points: float = 3, **look) -> None:
    """Write small text to the right of a point of ``ax``, at a distance in typographic points."""
    ax.annotate(text, point, (points, 0), textcoords="offset points", va="center", size=7.5, **look)


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put one legend for the whole figure under the panels, in as many columns as its width holds."""
    key = 3.4 * LEGEND_SIZE / 72  # the sample, its gap, and the gap to the next column
    room = figure.get_figwidth() - 0.3
    for handle in handles:
        handle.set_label(wrapped(str(handle.get_label()), room - key, LEGEND_SIZE))
    widths = [
        key + max(text_width(part, LEGEND_SIZE) for part in str(handle.get_label()).splitlines()) for handle in handles
    ]

    def total(columns: int) -> float:
        return sum(max(column) for column in np.array_split(widths, columns))  # as matplotlib deals them out

    most = next((n for n in range(min(len(widths), 6), 1, -1) if total(n) <= room), 1)
    rows = -(-len(widths) // most)
    columns = next(n for n in range(1, most + 1) if -(-len(widths) // n) == rows and (n == most or total(n) <= room))
    figure.legend(
        handles=list(handles), loc="outside lower center", ncols=columns, handletextpad=0.5, columnspacing=0.9
    )


def log_y(ax: Axes) -> None:
    """Make the y axis logarithmic, with labelled ticks even where the data span less than a decade."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    decades = np.log10(high / low)
    if decades < 2:
        subs = (1.0, 2.0, 3.0, 5.0, 7.0) if decades < 0.7 else (1.0, 2.0, 5.0) if decades < 1.2 else (1.0, 3.0)
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
        ax.yaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
    else:
        ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(low, high)


def same_y(axes: Sequence[Axes], *, margin: float = 0.0) -> None:
    """Give all panels the same y axis: what has no unit, or the same one, is compared between models.

    Args:
        axes: all linear or all logarithmic; may be empty.
        margin: of a logarithmic axis, the share of its length that is added at both ends.
    """
    limits = [ax.get_ylim() for ax in axes]
    if not limits:
        return
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    factor = (high / low) ** margin if margin else 1.0
    for ax in axes:
        ax.set_ylim(low / factor, high * factor)
        if ax.get_yscale() == "log":
            log_y(ax)


def whole_x(ax: Axes) -> None:
    """Put the ticks of the x axis at whole numbers only: layers and positions."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, steps=[1, 2, 4, 5, 8, 10]))


COLOUR_BAR = 1.2  # inches that a colour bar with its label takes


def heat_map(
    ax: Axes,
    cells: Mapping[tuple[int, int], tuple[float, str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    colours: Colormap,
    limits: tuple[float, float],
) -> QuadMesh:
    """Draw cells of colour with text in them, the first row at the top.

    Args:
        cells: (number of the row, of the column) → value and text; what is not in it is empty.
        rows, columns: labels of the ticks.
        limits: values of the two ends of the colour map.

    Returns:
        The cells, for a colour bar.
    """
    values = np.full((len(rows), len(columns)), np.nan)
    for place, (value, _) in cells.items():
        values[place] = value
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(values), cmap=colours, vmin=limits[0], vmax=limits[1], edgecolors="white", linewidth=1.2
    )
    for (row, column), (_, text) in sorted(cells.items()):
        dark = np.dot(mesh.to_rgba(values[row, column])[:3], (0.299, 0.587, 0.114)) < 0.55
        ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=8, color="white" if dark else "0.1")
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.set_ylim(len(rows), 0)
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return mesh


@styled
def without_data(reason: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = panels([reason])
    no_data(axes[reason][0], reason)
    return figure


def no_data(ax: Axes, reason: str) -> None:
    """Say in an empty panel why it is empty."""
    text = wrapped(reason, PANEL_WIDTH - 1.2, SUBTITLE_SIZE)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", size=SUBTITLE_SIZE, color="0.3")
    ax.set_xticks([])
    ax.set_yticks([])
