"""The worked examples of docs/extending.md, followed on a finished study, make what they promise."""

import polars as pl

from edits import config
from extensions import extended

TARGETS = (
    "results/tiny/figures/norm_variation_by_layer.svg",
    "results/tiny/figures/intervention_contrasts.svg",  # with the new kind
    "results/tiny/statistics/tiny/random_tokens/curve_contrasts.parquet",
    "results/tiny/activations/tiny/random_tokens/residual_mid/manifest.json",
    "results/tiny/statistics/pretraining_by_seed.parquet",
)
SECTIONS = ("A statistic", "A figure", "A kind of intervention", "A site", "An attention variant")


def add_entries(study: dict) -> None:
    """What uses the kind, the site and the variant, in a part of the study."""
    study["models"] = [study["models"][0] | {"control": False}]
    edits, runs = study["interventions"], study["pretraining"]["runs"]
    edits.append({**edits[2], "name": "mirrored", "kind": "mirrored_deviations"})
    study["activations"]["sites"].append({"site": "residual_mid", "sequences": 2, "positions": [0, 5]})
    study["pretraining"]["runs"] = [runs[0], {**runs[1], "name": "relu", "variant": "relu"}]


def test_a_statistic_a_figure_a_kind_a_site_and_a_variant_run_after_the_steps_of_the_page(study):
    extended(*SECTIONS)(study)
    config(add_entries)(study)
    strength = study.results / "interventions/tiny/random_tokens/edited/mask/strength=1/scores.parquet"
    before = strength.stat().st_mtime_ns
    study.run(*TARGETS)
    variation = pl.read_parquet(study.results / "statistics/tiny/random_tokens/norm_variation.parquet")
    assert variation["layer"].to_list() == [-1, 0, 1, 2] and (variation["variation"] > 0).all()
    assert (study.results / "figures/norm_variation_by_layer.svg").stat().st_size > 5000
    edited = pl.read_parquet(study.results / "statistics/tiny/random_tokens/interventions.parquet")
    assert "mirrored_deviations" in edited["kind"].to_list()
    contrasts = pl.read_parquet(study.results / "statistics/tiny/random_tokens/intervention_contrasts.parquet")
    assert "mirrored_deviations" in contrasts["control_kind"].to_list()
    curves = pl.read_parquet(study.results / "statistics/tiny/random_tokens/curve_contrasts.parquet")
    assert "mirrored_deviations" in curves["control_kind"].to_list()
    assert strength.stat().st_mtime_ns == before, "an edit was made again that does not use the new kind"
    assert (
        len(pl.read_parquet(study.results / "activations/tiny/random_tokens/residual_mid/layer=0/part-0.parquet")) == 4
    )
    losses = pl.read_parquet(study.results / "statistics/pretraining_by_seed.parquet")
    assert "relu" in losses["variant"].to_list()
