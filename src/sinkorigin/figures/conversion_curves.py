"""Share of the sequences whose target becomes a sink, by strength, under a treatment and under each of its controls (I2, I3)."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import has, layers_text, look, nothing_to_show, place_text, strength_axis
from sinkorigin.interventions.kind import SHOWN_POSITION, kind_named
from sinkorigin.statistics.uniform import SINK_FACTOR

PANEL_HEIGHT = 1.35  # inches
TREATMENT: dict[str, Any] = {"linewidth": 1.7, "markersize": 2.8}
LEAST_P = 0.001  # a smaller one is not written out
CONTROL: dict[str, Any] = {"linewidth": 1.1, "markersize": 3.2, "linestyle": style.DASHES[1]}

_LINE = ("model", "prompts", "treatment", "layers")


@style.styled
def draw(
    *, conversions: pl.DataFrame, curve_contrasts: pl.DataFrame, labels: dict[str, str], kinds: Sequence[str]
) -> Figure:
    """A line a model, prompts, treatment and layers; a panel a control, in the order of ``kinds``."""
    models = style.models_of(curve_contrasts, labels)
    if not models:
        return nothing_to_show("no treatment has two strengths in common with a control; the claims say why")
    curves = conversions.filter(pl.col("factor") == SINK_FACTOR)
    lines = [line for model in models for line in _lines(curve_contrasts.filter(pl.col("model") == model), kinds)]
    most = max(map(len, lines))
    strengths = sorted({strength for line in lines for contrast in line for strength in contrast["strengths"]})
    figure = style.laid_out(len(lines) * (PANEL_HEIGHT + 1.25))
    blocks = figure.subfigures(len(lines), 1, squeeze=False)[:, 0]
    for line, block in zip(lines, blocks, strict=True):
        first = line[0]
        where = f"{style.as_words(first['prompts'])}, {place_text(first['positions'], first['target'])}"
        size = style.TITLE_SIZE + 1
        text = f"{labels[first['model']]}\n{where}, {layers_text(first['layers'])}"
        text = "\n".join(style.wrapped(part, 0.85 * figure.get_figwidth(), size) for part in text.splitlines())
        block.suptitle(text, x=0.01, ha="left", size=size, weight="bold")
        grid = block.add_gridspec(1, most)
        for i, contrast in enumerate(line):
            ax = block.add_subplot(grid[0, i])
            _panel(ax, curves, contrast)
            strength_axis(ax, strengths)
            ax.set_ylim(-0.03, 1.03)
            ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
            style.title(ax, f"against {kind_named(contrast['control_kind']).label}", _numbers(contrast))
            if i:
                ax.tick_params(labelleft=False)
            else:
                ax.set_ylabel("share of sequences whose\ntarget becomes a sink")
    shown = {contrast[f"{role}kind"]: look_ for line in lines for contrast in line for role, look_ in _ROLES}
    order = [kind for kind in kinds if kind in shown]
    style.legend(
        figure,
        [
            *(style.line_handle(kind_named(kind).label, **look(kind_named(kind)) | shown[kind]) for kind in order),
            style.band_handle("exact binomial 95 % interval"),
        ],
    )
    return figure


_ROLES = (("treatment_", TREATMENT), ("control_", CONTROL))


def _lines(contrasts: pl.DataFrame, kinds: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Contrasts of a model by line, each at the target nearest to the paper's, with the controls in order."""
    found: dict[tuple, list[dict[str, Any]]] = {}
    for row in contrasts.to_dicts():
        found.setdefault((row["prompts"], row["treatment"], tuple(row["layers"])), []).append(row)
    lines = []
    for rows in found.values():
        near = min(rows, key=lambda row: (abs(row["target"] - SHOWN_POSITION), len(row["positions"])))
        here = [row for row in rows if (row["target"], row["positions"]) == (near["target"], near["positions"])]
        lines.append(sorted(here, key=lambda row: [*kinds].index(row["control_kind"])))
    return lines


def _panel(ax: Axes, curves: pl.DataFrame, contrast: dict[str, Any]) -> None:
    """The curves of a treatment, above, and of a control."""
    place = {name: contrast[name] for name in ("model", "prompts", "target")}
    here = curves.filter(has("layers", contrast["layers"]), has("positions", contrast["positions"]), **place)
    for above, (role, weight) in enumerate(reversed(_ROLES)):
        kind = kind_named(contrast[f"{role}kind"])
        name = contrast[role.removesuffix("_")]
        curve = here.filter(pl.col("intervention") == name).select("strength", "share", "share_low", "share_high")
        if kind.identity_at is not None and kind.identity_at not in curve["strength"].to_list():
            # where it changes nothing, nothing is converted: that is no estimate
            curve = pl.concat(
                [curve, pl.DataFrame([(kind.identity_at, 0.0, 0.0, 0.0)], schema=curve.schema, orient="row")]
            )
        style.line(ax, curve.sort("strength"), "strength", "share", zorder=3 + above, **look(kind) | weight)


def _numbers(contrast: dict[str, Any]) -> str:
    """Area between the curves, and how many sequences either converts at any strength."""
    area = f"area {style.number(contrast['converted_area'], '+z.2f')}"
    area += style.ends(contrast["converted_area_low"], contrast["converted_area_high"], "z.2f")
    ever = f"any λ: {contrast['ever']} against {contrast['control_ever']} of {contrast['sequences']}"
    p = contrast["ever_p"]
    return f"{area}\n{ever}" + ("" if p is None else f", p = {p:.2g}" if p >= LEAST_P else f", p < {LEAST_P:g}")
