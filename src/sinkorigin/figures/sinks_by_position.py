"""Positions of sinks, and the tokens of those that are not at position 0 (A1, A2)."""

from collections.abc import Collection
from functools import cache
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from sinkorigin.figures import style

EPSILON = 0.3  # the paper's threshold; the nearest one of a study is shown
MOST_TOKENS = 6
LONGEST_TOKEN = 14  # characters
MARKERS = "os^D"
CANDIDATES: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.6", "linewidth": 0.8}
HATCHES = ["", "////", "\\\\\\\\", "xxxx"]  # dots would be 180 kB of circles
# how tokenizers write what one cannot see: byte-level BPE (Ġ, Ċ, ĉ) and SentencePiece (▁)
VISIBLE = str.maketrans({"Ġ": "␣", "▁": "␣", " ": "␣", "Ċ": "↵", "\n": "↵", "ĉ": "⇥", "\t": "⇥"})


@style.styled
def draw(
    *, sink_rate: pl.DataFrame, secondary_sinks: pl.DataFrame, labels: dict[str, str], trained: Collection[str] = ()
) -> Figure:
    """One column a model: sink rate by position above, the tokens of the other sinks below.

    Args:
        trained: models trained here, in rows of their own.
    """
    prompts = style.in_order(sink_rate["prompts"])
    looks = _looks(prompts)
    figure, axes = style.panels(style.models_of(sink_rate, labels), rows=2, apart=trained)
    for model, (above, below) in axes.items():
        rates = sink_rate.filter(pl.col("model") == model)
        epsilons = rates["epsilon"].unique().sort()
        epsilon = min(epsilons, key=lambda value: abs(value - EPSILON))
        for kind in prompts:
            rows = rates.filter((pl.col("prompts") == kind) & (pl.col("epsilon") == epsilon)).sort("position")
            # a marker on each of many positions would hide the dashes
            style.line(above, rows, "position", "rate", markevery=max(len(rows) // 8, 1), **looks[kind][0])
        style.title(above, labels[model], f"ε = {epsilon:g}")
        above.set_xlabel("position (token)")
        style.whole_x(above)
        _tokens(below, secondary_sinks.filter(pl.col("model") == model), looks)
        if style.is_leftmost(above):
            above.set_ylabel("sink rate (share\nwith score > ε)")
            if below.axison:
                below.set_ylabel("token of a\nsecondary sink")
    style.share_ticks([above for above, _ in axes.values()])
    style.legend(
        figure,
        [
            *(style.line_handle(f"sink rate, {style.as_words(kind)}", **line) for kind, (line, _) in looks.items()),
            *(Patch(label=f"secondary sinks, {style.as_words(kind)}", **bar) for kind, (_, bar) in looks.items()),
            Patch(label="all that hold the token (first half)", **CANDIDATES),
            style.band_handle(),
        ],
    )
    return figure


def _looks(prompts: list[str]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Prompt set → the looks of its line and of its bars."""
    return {
        kind: (
            {"color": colour, "marker": MARKERS[i % 4], "linestyle": style.DASHES[i % 4]},
            {"facecolor": colour, "edgecolor": "0.15", "hatch": HATCHES[i % 4], "linewidth": 0.6},
        )
        for i, (kind, colour) in enumerate(style.colours(prompts).items())
    }


def _tokens(ax: Axes, sinks: pl.DataFrame, looks: dict[str, tuple[dict, dict]]) -> None:
    """Draw bars of sinks in bars of candidates, the tokens with most sinks at the top."""
    shown = (
        sinks.filter(pl.col("sinks") > 0)
        .sort("sinks", "share", "prompts", "token", descending=[True, True, False, False])
        .head(MOST_TOKENS)
    )
    if shown.is_empty():
        style.no_data(ax, "no secondary sink found")
        return
    most = max(shown["candidates"])
    for i, (kind, found, candidates) in enumerate(shown.select("prompts", "sinks", "candidates").rows()):
        ax.barh(i, candidates, height=0.7, **CANDIDATES)
        ax.barh(i, found, height=0.7, **looks[kind][1])
        style.beside(ax, f"{found} of {candidates}", (candidates, i))
    ax.set_yticks(range(len(shown)), [as_seen(token) for token in shown["token"]], parse_math=False)
    ax.set_ylim(MOST_TOKENS - 0.4, -0.6)
    ax.set_xlim(0, 1.7 * most)  # room for the counts beside the longest bar
    ax.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    ax.set_xlabel("positions with the token")
    ax.grid(axis="y", visible=False)


def as_seen(token: str) -> str:
    """A token with spaces and newlines as signs and what the font lacks as its code point, cut if long.

    Args:
        token: as the tokenizer writes it.
    """
    text = "".join(
        sign if _in_font(sign) else f"U+{ord(sign):04X}"
        for sign in (token if len(token) <= LONGEST_TOKEN else token[: LONGEST_TOKEN - 1] + "…").translate(VISIBLE)
    )
    return text or "(empty)"


@cache
def _in_font(sign: str) -> bool:
    return sign.isprintable() and FT2Font(findfont("DejaVu Sans")).get_char_index(ord(sign)) > 0
