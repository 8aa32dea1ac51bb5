"""The anatomy of a model's sink is what its tables say, on each prompt set, and in words."""

import polars as pl
import pytest

from sinkorigin import tables
from sinkorigin.figures import anatomy as figure
from sinkorigin.statistics.anatomy import READS, SCHEMA, compute, facts
from sinkorigin.statistics.conversions import SCHEMA as CONVERSIONS
from sinkorigin.statistics.grids import from_rows

LAYERS = 4
CONDITIONS = ["drawn", "bos", "fixed"]


def statistics(prompts: str, *, onset: int | None = 2, peak: float = 0.8, top: int = 0) -> dict[str, list[dict]]:
    """Rows of the columns that the anatomy reads."""
    masses = [0.05, 0.1, peak, 0.6]
    return {
        "sink_mass": [
            {"layer": k, "mass": mass, "mass_low": mass - 0.01, "mass_high": mass + 0.01, "uniform": 0.06} for k, mass in enumerate(masses)
        ],
        "sink_onset": [{"layer": onset, "layer_low": 2, "layer_high": 3, "threshold": 0.3}],
        "sinks": [
            {"position": k, "score_excluding_self": None if k == 7 else 0.5 if k == top else 0.01}
            for _ in range(LAYERS)
            for k in range(8)
        ],
        "norm_ratio": [{"layer": k, "ratio": [1.0, 1.2, 9.0, 40.0, 30.0][k + 1]} for k in range(-1, LAYERS)],
        "norm_changes": [
            {"kind": kind, "layer": layer, "change": change} for kind, layer, change in (("rise", 2, 4.0), ("fall", 3, 0.7), ("rise", 1, 8.0))
        ],
        "super_neurons": [
            {"layer": layer, "neuron": neuron, "rank": rank, "super_neuron": share > 0, "share": share, "not_applicable": None}
            for layer, neuron, rank, share in ((2, 9, 2, 0.2), (1, 5, 1, 0.9), (1, 6, 3, 0.0))
        ],
        "disparity": [
            {"site": "residual", "layer": k, "position": 0, "dominance_ratio": 10.0 * (k + 2), "dominant_dim": dim}
            for k, dim in zip(range(-1, LAYERS), (7, 7, 3, 4, 3), strict=True)
        ] + [{"site": "residual", "layer": 3, "position": 1, "dominance_ratio": 999.0, "dominant_dim": 8}],
    }  # fmt: skip


def edit(intervention: str, kind: str, target: int, **changes) -> dict:
    blank = dict.fromkeys(CONVERSIONS.names)
    return blank | {
        "model": "m", "prompts": "drawn", "intervention": intervention, "kind": kind, "layers": [0, 1], "positions": [target],
        "site": "value_aggregation", "strength": 1.0, "target": target, "sequences": 24, "converted": 18, "share": 0.75,
        "share_low": 0.53, "share_high": 0.9, "threshold": 0.1, "before": 0,
    } | changes  # fmt: skip


EDITS = [
    edit("mask", "mask", 40, site="attention", converted=1),
    edit("mask", "mask", 9, site="attention"),
    edit("mask", "mask", 10, site="attention", positions=[3, 10], converted=5),  # two positions at once
    edit("mask_late", "mask", 10, site="attention", layers=[2, 3], converted=2),
    edit("again", "variance_amplification", 10, strength=8.0, converted=3),  # like the next, at one strength
    *(edit("amplify", "variance_amplification", 10, strength=s, converted=int(s)) for s in (1.5, 4.0, 9.0, 32.0)),
    edit("after", "variance_amplification", 10, strength=8.0, site="attention_output", converted=4),
]  # fmt: skip


def write(folder, by_condition, edits=EDITS) -> dict[str, list[str]]:
    """Tables of the three prompt sets; None: not applicable."""
    inputs: dict[str, list[str]] = {name: [] for name in READS}
    for condition, found in by_condition.items():
        for name in READS:
            path = folder / condition / f"{name}.parquet"
            if found is None:
                tables.write_not_applicable(path, "the model has no BOS token")
            else:
                table = pl.DataFrame(found[name], infer_schema_length=None).to_arrow()
                tables.write_table(path, table, table.schema)
            inputs[name].append(str(path))
    path = folder / "conversions.parquet"
    tables.write_table(path, from_rows(CONVERSIONS, edits), CONVERSIONS)
    return inputs | {"conversions": [str(path)]}


@pytest.fixture
def anatomy(tmp_path):
    by_condition = {
        "drawn": statistics("drawn"),
        "bos": None,
        "fixed": statistics("fixed", onset=None, peak=0.2, top=1),
    }
    inputs = write(tmp_path, by_condition)
    found = compute(inputs, model="m", prompts=CONDITIONS, first_tokens=CONDITIONS)["anatomy"]
    assert found.schema.equals(SCHEMA)
    return pl.DataFrame(found)


def test_a_row_has_the_structure_that_the_tables_say(anatomy):
    drawn, bos, fixed = anatomy.to_dicts()
    assert (drawn["layers"], drawn["onset"], drawn["mass"], drawn["mass_layer"]) == (4, 2, 0.8, 2)
    assert drawn["mean_mass"] == pytest.approx(0.3875)
    assert (drawn["top_position"], fixed["top_position"]) == (0, 1)
    assert (drawn["norm_ratio"], drawn["norm_ratio_layer"]) == (40.0, 2)
    assert (drawn["surges"], drawn["surge_factors"]) == ([1, 2], [8.0, 4.0])
    assert (drawn["super_neuron_layers"], drawn["super_neurons"], drawn["super_neuron_shares"]) == (
        [1, 2],
        [5, 9],
        [0.9, 0.2],
    )
    # from the first surge on, position 0 alone
    assert (drawn["dominating_dims"], drawn["dominating_dim_layers"], drawn["dominance_ratio"]) == (
        [3, 4],
        [2, 1],
        50.0,
    )
    assert bos["not_applicable"] == "the model has no BOS token" and bos["mass"] is None
    assert fixed["onset"] is None and fixed["mask_sequences"] is None


def test_a_row_shows_the_edit_that_stands_for_all_of_its_kind(anatomy):
    drawn = anatomy.row(0, named=True)
    assert (drawn["mask_layers"], drawn["mask_target"], drawn["mask_converted"]) == ([0, 1], 9, 18)
    assert (drawn["amplification_strength"], drawn["amplification_converted"]) == (9.0, 9)


def test_the_card_has_a_line_for_each_fact(anatomy):
    assert facts(anatomy) == {
        "sink": "begins at layer 2 (2 to 3) of 4; mass up to 0.80, in layer 2 (uniform attention: 0.06)",
        "norm of the first token": "surges at layers 1, 2; up to 40 times the others', in layer 2",
        "super neurons": "1.5 (90%), 2.9 (20%)",
        "dominating dims": "3 (in 2 layers), 4 (in 1 layer); dominance ratio up to 50",
        "sink by first token": "mean mass drawn 0.39; BOS: the model has no BOS token; one fixed token 0.24, most at position 1",
        "attending to itself only": "position 9 becomes a sink in 18 of 24 sequences (75%, 53% to 90%)",
        "amplified variance": "position 10 by λ = 9 becomes a sink in 9 of 24 sequences (75%, 53% to 90%)",
    }


def test_a_model_with_nothing_has_a_card_too(tmp_path):
    bare = statistics("drawn", onset=None, peak=0.07)
    bare["norm_changes"] = [{"kind": "fall", "layer": 1, "change": 0.4}]
    without = dict.fromkeys(READS["super_neurons"]) | {"layer": 0, "not_applicable": "a mixture of experts"}
    bare["super_neurons"] = [without, without]
    inputs = write(tmp_path, {"drawn": bare})
    inputs["conversions"] = []
    found = facts(pl.DataFrame(compute(inputs, model="m", prompts=["drawn"], first_tokens=["drawn"])["anatomy"]))
    assert found["sink"].startswith("none begins (no layer above 0.3); mass up to 0.60, in layer 3")
    assert found["super neurons"] == "a mixture of experts" and found["norm of the first token"].startswith(
        "no surge; up to 40"
    )
    assert "amplified variance" not in found


def test_the_figure_shows_the_card_the_norms_and_every_prompt_set(anatomy):
    labels = {"m": "a model"}
    norms = [
        {"model": "m", "prompts": prompts, "site": "residual", "layer": layer, **{f"{name}{end}": value for end in ("", "_low", "_high")
         for name, value in (("first", 3.0), ("rest", 2.0))}}
        for prompts in ("drawn", "fixed") for layer in range(-1, LAYERS)
    ]  # fmt: skip
    masses = [row | {"model": "m", "prompts": p} for p in ("drawn", "fixed") for row in statistics(p)["sink_mass"]]
    drawn = figure.draw(anatomy=anatomy, norm_ratio=pl.DataFrame(norms), sink_mass=pl.DataFrame(masses), labels=labels)
    card, above, below = drawn.axes
    words = " ".join(text.get_text() for text in card.texts).replace("\n", " ")
    assert "super neurons: 1.5 (90%), 2.9 (20%)" in words
    assert card.get_title(loc="left") == "a model"
    assert len(above.lines) == 2 + 2  # first and rest, two surges
    marked = [
        line.get_marker() for line in below.lines if line.get_marker() in figure.MARKERS and len(line.get_xdata())
    ]
    assert marked == list(figure.MARKERS[:2]), "a line for each prompt set"
