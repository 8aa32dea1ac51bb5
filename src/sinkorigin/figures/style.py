"""The one style of every figure: colours, fonts, sizes, panels, bands, legends, and how a figure is written.

Every figure is made for the width of a paper's column or of its page, and has no text below 7 points at that width. Colours
are seaborn's colour-blind-safe palette, and no meaning rests on colour alone: lines also differ in dashes, markers or width. The
font is the one that matplotlib carries, so that a figure has the same bytes on every machine.

The palette and the styles "ticks" and "paper" of seaborn stand here as they are there, because its import takes as long as drawing a
figure. Modules of figures that seaborn draws, or whose colour maps it has, import it.
"""

import io
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextToPath
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from sinkorigin import tables
from sinkorigin.errors import listed

PALETTE = [
    to_rgb(colour)
    for colour in (
        "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
    )
]  # fmt: skip
REFERENCE = (0.35, 0.35, 0.35)  # of what a measurement is compared with: uniform attention, the unedited model
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1))]
BAND_ALPHA = 0.22
LEVEL: dict[str, Any] = {"color": REFERENCE, "linestyle": ":", "linewidth": 1.1}  # of a bound, or of no effect
BEHIND: dict[str, Any] = {"facecolor": "white", "linewidth": 0, "pad": 0.6}  # of words that lines would cross
# the columns of a quantity of the first token and of the others: what the legend says, and the look of the line
FIRST_AND_REST: dict[str, tuple[str, dict[str, Any]]] = {
    "first": ("first token", {"marker": "o"}),
    "rest": ("other tokens, mean", {"linestyle": DASHES[1], "linewidth": 1.2}),
}
SUPER_NEURON: dict[str, Any] = {
    "color": PALETTE[3],
    "marker": "o",
    "markersize": 4.5,
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
    "linestyle": "",
}

COLUMN, PAGE = 3.25, 6.75  # inches: the widths of a paper's column and page, for which figures are made
PANEL_HEIGHT, TITLE_HEIGHT = 1.2, 0.45  # inches
MARGIN = 0.37  # inches of a panel's width that its tick labels take
MOST_COLUMNS = 4
TITLE_SIZE, TEXT_SIZE = 8.0, 7.0  # points; nothing is smaller than TEXT_SIZE
LINE_HEIGHT = 1.25 * TEXT_SIZE / 72  # inches
MOST_POINTS = 200  # that a cloud has as vectors; more are pixels inside the vector figure, or no browser opens it
MOST_MARKERS = 10  # on a line: more hide its dashes, and make a large file

# all that is not set below, so that no setting of the reader's changes a figure
SEABORN = {
    "axes.labelcolor": ".15", "xtick.color": ".15", "ytick.color": ".15", "text.color": ".15", "lines.solid_capstyle": "round",
    "patch.edgecolor": "w", "patch.force_edgecolor": True, "patch.linewidth": 0.8, "axes.facecolor": "white", "grid.linestyle": "-",
    "xtick.direction": "out", "ytick.direction": "out", "xtick.bottom": True, "xtick.top": False, "ytick.left": True,
    "ytick.right": False, "axes.spines.left": True, "axes.spines.bottom": True,
}  # fmt: skip

_RC: Any = {
    **SEABORN,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "axes.labelsize": TEXT_SIZE,
    "axes.titlesize": TITLE_SIZE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "0.3",
    "grid.color": "0.92",
    "grid.linewidth": 0.5,
    "xtick.labelsize": TEXT_SIZE,
    "ytick.labelsize": TEXT_SIZE,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "axes.labelpad": 2.0,
    "font.size": TEXT_SIZE,
    "legend.fontsize": TEXT_SIZE,
    "legend.title_fontsize": TEXT_SIZE,
    "legend.frameon": False,
    "legend.handlelength": 2.0,
    "lines.linewidth": 1.2,
    "lines.markersize": 2.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 300,
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


def save(figure: Figure, paths: Iterable[str | Path], *, sample: str = "", lacks: Sequence[str] = ()) -> None:
    """Write ``figure`` to each of ``paths``, in the format of its suffix (svg, png, pdf).

    A figure has the same bytes each time (no date, no random ids), and a file takes its name only when it is complete.

    Args:
        sample: how many sequences were measured, which stands under the panels.
        lacks: models or runs that it should show and cannot, because a job failed; a line above the figure names them.

    Raises:
        SinkoriginError: the disk is full.
    """
    with matplotlib.rc_context(_RC):
        if sample:
            note(figure, sample)
        if lacks:
            text = f"Not shown, because a job failed: {listed(lacks, 6)}"
            text = wrapped(text, figure.get_figwidth() - 0.2, TEXT_SIZE)
            figure.set_figheight(figure.get_figheight() + (1 + text.count("\n")) * LINE_HEIGHT + 0.1)
            figure.suptitle(text, x=0.01, ha="left", fontsize=TEXT_SIZE, color="0.3")
        for path in map(Path, paths):
            format_ = path.suffix[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            with tables.written_whole(path) as partial:
                if format_ == "svg":
                    drawn = io.StringIO()
                    figure.savefig(drawn, format=format_, metadata=_UNDATED[format_])
                    Path(partial).write_text(_slim(drawn.getvalue()), encoding="utf-8")
                else:
                    figure.savefig(partial, format=format_, metadata=_UNDATED.get(format_))


def _slim(svg: str) -> str:
    """An SVG without what no reader sees: indentation, digits beyond a hundredth of a point, and what is said over and over.

    Letters are what a figure has most of: each is a reference to an outline, whose name is shortened.
    """
    svg = re.sub(r"^ +", "", svg, flags=re.MULTILINE)
    svg = re.sub(r'(<use xlink:href="#[\w-]+") transform="translate\(([\d.]+) 0\)"', r'\1 x="\2"', svg)
    svg = svg.replace("DejaVuSans-Bold-", "B").replace("DejaVuSans-", "D")
    svg = re.sub(r'<g id="[a-z]+\d?[a-z]*_\d+">', "<g>", svg)
    # the words of a figure stand in comments, and the outlines of letters are scaled by 1/64
    svg = re.sub(r"<!--.*?-->|scale\([^)]*\)|(\d+\.\d\d)\d+", lambda found: found[1] or found[0], svg, flags=re.DOTALL)
    # M a b L c d L e f is the same as M a b c d e f
    svg = re.sub(r' d="[^"CQ]*"', lambda path: path[0].replace(" \nL ", " "), svg)
    return re.sub(r"<g([^>]*)>\n((?:<use [^>]*/>\n){2,})", _with_one_style, svg)


def _with_one_style(group: re.Match) -> str:
    """The markers of a line, with the style that all of them have in the group that holds them."""
    attributes, markers = group.groups()
    styles = set(re.findall(r' style="[^"]*"', markers))
    if len(styles) != 1 or "style" in attributes or markers.count(" style=") != markers.count("<use"):
        return group[0]
    [style] = styles
    return f"<g{attributes}{style}>\n{markers.replace(style, '')}"


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


def laid_out(height: float, width: float = PAGE) -> Figure:
    """An empty figure of this height in inches, as wide as a page or a column, whose layout makes room for all text."""
    return Figure(
        figsize=(width, height),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04, wspace=0.01, hspace=0.01),
    )


def blocks_of(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for so many panels, with at most ``most`` columns, as even as possible: 8 as 4 + 4, 5 as 3 + 2."""
    rows = -(-max(count, 1) // most)
    return rows, -(-max(count, 1) // rows)


def panels(
    keys: Sequence[Any],
    rows: int = 1,
    *,
    share_x: bool = False,
    most: int = MOST_COLUMNS,
    apart: Collection[Any] = (),
    height: float = PANEL_HEIGHT,
) -> tuple[Figure, dict[Any, list[Axes]]]:
    """A figure with one column of ``rows`` panels for each key; more than four columns go on below.

    Args:
        keys: what the columns stand for, in order.
        rows: panels of one key, stacked.
        share_x: the panels of one key have the same x axis, labelled at the lowest.
        most: columns before they go on below.
        apart: keys that stand in rows of their own below the others: models trained here, which are many and small.
        height: of one panel, in inches.

    Returns:
        The figure, and key → its panels from top to bottom.
    """
    lines: list[tuple[Sequence[Any], int]] = []  # keys side by side, and the columns that they have room for
    for group in ([key for key in keys if key not in apart], [key for key in keys if key in apart]):
        blocks, columns = blocks_of(len(group), most) if group else (0, 1)
        lines += [(group[i * columns : (i + 1) * columns], columns) for i in range(blocks)]
    figure = laid_out(len(lines) * (rows * height + TITLE_HEIGHT))
    grid = figure.add_gridspec(max(len(lines), 1), 1)
    axes: dict[Any, list[Axes]] = {}
    for i, (side_by_side, columns) in enumerate(lines):
        inner = grid[i, 0].subgridspec(rows, columns)
        for j, key in enumerate(side_by_side):
            axes[key] = []
            for row in range(rows):
                above = axes[key][0] if share_x and row else None
                axes[key].append(figure.add_subplot(inner[row, j], sharex=above))
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
        beside: inches of the figure's width that a colour bar, or labels, take beside the panels.
    """
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None and spec is not None  # panels() made both
    share = len(spec.colspan) / spec.get_gridspec().ncols
    inches = (figure.get_figwidth() - beside - 0.35) * share - MARGIN
    line_height = 1.2
    pad = 3.0
    if below:
        below = "\n".join(wrapped(part, inches, TEXT_SIZE) for part in below.splitlines())
        ax.annotate(
            below,
            (0, 1),
            (0, pad),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="left",
            va="bottom",
            size=TEXT_SIZE,
            color="0.3",
            linespacing=line_height,
            annotation_clip=False,
        )
        pad += TEXT_SIZE * line_height * len(below.splitlines()) + 4
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
    if look.get("marker"):
        look = {"markevery": -(-len(places) // MOST_MARKERS) or 1} | look
    ax.plot(places, values, **look)
    if band:
        low, high = _floats(rows[f"{name}_low"]), _floats(rows[f"{name}_high"])
        known = np.isfinite([values, low, high]).all(axis=0)
        if (high[known] > low[known]).any():
            ax.fill_between(places, low, high, where=known.tolist(), color=look["color"], alpha=band_alpha, linewidth=0)


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
    ax.annotate(text, point, (points, 0), textcoords="offset points", va="center", size=TEXT_SIZE, **look)


def legend(figure: Figure, handles: Sequence[Artist], notes: Iterable[str] = ()) -> None:
    """Put one legend for the whole figure under the panels, in as many columns as its width holds, and notes above it."""
    key = 3.4 * TEXT_SIZE / 72  # the sample, its gap, and the gap to the next column
    room = figure.get_figwidth() - 0.25
    for handle in handles:
        handle.set_label(wrapped(str(handle.get_label()), room - key, TEXT_SIZE))
    widths = [
        key + max(text_width(part, TEXT_SIZE) for part in str(handle.get_label()).splitlines()) for handle in handles
    ]

    def total(columns: int) -> float:
        return sum(max(column) for column in np.array_split(widths, columns))  # as matplotlib deals them out

    most = next((n for n in range(min(len(widths), 6), 1, -1) if total(n) <= room), 1)
    rows = -(-len(widths) // most)
    columns = next(n for n in range(1, most + 1) if -(-len(widths) // n) == rows and (n == most or total(n) <= room))
    lines = max(
        sum(1 + str(handles[i].get_label()).count("\n") for i in column)
        for column in np.array_split(np.arange(len(handles)), columns)
    )
    figure.set_figheight(figure.get_figheight() + 1.15 * lines * LINE_HEIGHT + 0.1)
    _legend(figure, handles, columns)
    for text in notes:
        note(figure, text)


def _legend(figure: Figure, handles: Sequence[Artist], columns: int = 1) -> Legend:
    return figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        handletextpad=0.5,
        columnspacing=0.9,
        labelspacing=0.35,
        borderpad=0.2,
        alignment="left",
    )


def note(figure: Figure, text: str) -> None:
    """Write a sentence under the panels, above the legend and below other notes, and make room for it."""
    found = figure.legends[0] if figure.legends else _legend(figure, [])
    above = found.get_title().get_text()
    text = wrapped(text, figure.get_figwidth() - 0.25, TEXT_SIZE)
    figure.set_figheight(figure.get_figheight() + (1 + text.count("\n")) * LINE_HEIGHT)
    found.set_title(f"{above}\n{text}" if above else text)
    found.get_title().set(size=TEXT_SIZE, color="0.2", linespacing=1.2)


def left_out(what: str, models: Mapping[str, str]) -> list[str]:
    """The note that names models without a panel; none where there are none.

    Args:
        what: what they lack, such as ``no super neuron``.
        models: label → what else is known of each, or the reason; may be empty.
    """
    named = "; ".join(f"{label} ({reason})" if reason else label for label, reason in models.items())
    return [f"Without a panel, {what}: {named}."] if models else []


def log_axis(axis: Axis) -> None:
    """Make an axis logarithmic, with labelled ticks even where the data span less than a decade."""
    ax = axis.axes
    name = "x" if axis is ax.xaxis else "y"
    getattr(ax, f"set_{name}scale")("log")
    low, high = getattr(ax, f"get_{name}lim")()
    decades = np.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 1.2 else (1.0, 3.0) if decades < 2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs) if decades < 2 else LogLocator(numticks=5))
    axis.set_major_formatter(lambda value, _: plain(value))
    axis.set_minor_locator(NullLocator())
    getattr(ax, f"set_{name}lim")(low, high)


def plain(value: float) -> str:
    """A number on a logarithmic axis, without the raised digits of a power of ten, which would be too small: 0.01, 20k, 1e−6."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    if value >= 1e-3:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e−{-int(exponent)}"


def log_y(ax: Axes) -> None:
    """Make the y axis logarithmic."""
    log_axis(ax.yaxis)


def same_y(axes: Sequence[Axes], *, margin: float = 0.0) -> None:
    """Give all panels the same y axis, labelled at the left: what has no unit, or the same one, is compared between models.

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
        if not is_leftmost(ax):
            ax.tick_params(labelleft=False)


def with_and_without(axes: Mapping[Any, Any], apart: Collection[Any]) -> list[list[Any]]:
    """The panels of the keys that are not ``apart``, and of those that are: two groups, each with its own scale."""
    groups = [[panel for key, panel in axes.items() if (key in apart) is aside] for aside in (False, True)]
    return [group for group in groups if group]


def share_ticks(axes: Sequence[Axes]) -> None:
    """Let panels whose y axis is a share, from 0 to 1, have the same ticks, labelled at the left."""
    for ax in axes:
        ax.set_ylim(-0.02, 1.02)
        ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    same_y(axes)


def whole_x(ax: Axes) -> None:
    """Put the ticks of the x axis at whole numbers only: layers and positions."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 4, 5, 8, 10]))


COLOUR_BAR = 0.9  # inches that a colour bar with its label takes


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
        ax.text(
            column + 0.5, row + 0.5, text, ha="center", va="center", size=TEXT_SIZE, color="white" if dark else "0.1"
        )
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
    figure = laid_out(0.7)
    text = wrapped(reason, PAGE - 0.6, TEXT_SIZE)
    figure.text(0.5, 0.5, text, ha="center", va="center", size=TEXT_SIZE, color="0.3")
    return figure


def no_data(ax: Axes, reason: str) -> None:
    """Say why a model has no panel, in its place: words, no empty axes."""
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None and spec is not None
    text = wrapped(reason, 0.6 * figure.get_figwidth() / spec.get_gridspec().ncols, TEXT_SIZE)
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", size=TEXT_SIZE, color="0.3")
