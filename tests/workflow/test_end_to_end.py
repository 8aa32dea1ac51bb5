"""The whole tiny study: every link of the chain runs, and what comes out is whole, documented and reproducible."""

import html
import json
import re

import polars as pl
import pyarrow.parquet as pq

from harness.table_catalogue import tables
from tiny_study import FIGURES, INTERVENTION_FIGURES, MECHANISM_FIGURES, digests


def test_every_figure_and_the_claims_are_there(finished):
    figures = {path.name for path in (finished.results / "figures").iterdir()}
    names = [
        *FIGURES,
        *INTERVENTION_FIGURES,
        *MECHANISM_FIGURES,
        "loss_curves",
        "training_dynamics",
        "pretraining_comparison",
    ]
    assert figures == {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    claims = pl.read_parquet(finished.results / "claims.parquet")
    assert len(claims) > 10
    assert set(claims["verdict"]) <= {"reproduced", "contradicted", "undecided", "not applicable"}
    assert len(claims) == len(claims.unique(["claim", "model", "prompts"])), "a claim has one primary test"
    for name in ("claims", "robustness", "checks"):
        for table in pl.read_parquet(finished.results / f"{name}.parquet")["tables"].explode().unique():
            assert (finished.results / table).is_file(), table


def test_the_page_tells_every_claim_and_figure_and_what_the_jobs_recorded(finished):
    page = (finished.results / "index.html").read_text(encoding="utf-8")
    claims = pl.read_parquet(finished.results / "claims.parquet")
    assert all(words in html.unescape(page) for words in claims["words"].unique())
    figures = list((finished.results / "figures").glob("*.svg"))
    assert all(f'id="figure-{path.stem}"' in page for path in figures) and page.count('src="data:image/svg') == len(
        figures
    )
    for chart in ("sink_map", "attention_map", "sink_under_edit", "dose_response"):
        assert f'data-spec="spec-{chart}"' in page
    assert "This is not the whole study" not in page and "Made from tables of another version" not in page
    assert "Made by the rule <code>compute_keys</code> in <code>rules/statistics.smk</code>" in page
    recorded = re.search(r'<dl id="run">(.*?)</dl>', page, re.DOTALL)[1]
    assert re.search(r"\d+ jobs, ", recorded) and "not recorded" not in recorded
    for link in set(re.findall(r'href="((?!#|data:)[^"]+)"', page)):
        assert (finished.results / link).is_file(), link
    assert len(page.encode()) < 10 * 2**20


def test_what_a_model_lacks_costs_its_own_rows(finished):
    """The tiny model has no super neuron: interventions on these are not applicable, all others are made, drawn and judged."""
    statistics = finished.results / "statistics/tiny/random_tokens"
    resolved = pl.read_parquet(statistics / "resolved_interventions.parquet")
    rows = {row["intervention"]: row for row in resolved.to_dicts()}
    assert {name for name, row in rows.items() if not row["applicable"]} == {"silent", "zeroed"}
    assert rows["silent"]["reason"] == "no super neuron raises the first token's norm" and rows["silent"]["how"] is None
    assert rows["zeroed"]["reason"] == "no super neuron raises the first token's norm in layer 1"
    assert (rows["mask_late"]["layers_rule"], rows["mask_late"]["layers"]) == ("late", [2])
    edited = pl.read_parquet(statistics / "interventions.parquet")
    assert set(edited["intervention"]) == rows.keys() - {"silent", "zeroed"} | {"baseline"}
    assert set(edited.filter(pl.col("intervention") == "mask_late")["layers_rule"]) == {"late"}
    claims = pl.read_parquet(finished.results / "claims.parquet").filter(model="tiny", prompts="random_tokens")
    [silent] = claims.filter(claim="C11b").to_dicts()
    assert silent["verdict"] == "not applicable" and silent["reason"]


def test_a_trained_checkpoint_goes_through_the_same_rules(finished):
    for model in ("tiny", "tiny-random", "softmax-seed0", "headwise_rmsnorm-seed0"):
        table = pl.read_parquet(finished.results / "statistics" / model / "natural_text" / "variance.parquet")
        assert table["variance"].is_not_null().any(), model
    provenance = json.loads((finished.results / "pretraining/softmax/seed=0/model/provenance.json").read_text())
    assert provenance["weights"] == "trained here"


def test_every_column_of_every_table_says_what_it_means(finished):
    for path in finished.results.rglob("*.parquet"):
        if path.name == "part-0.parquet":
            continue
        for field in pq.read_schema(path):
            assert field.metadata and field.metadata.get(b"description"), (path.name, field.name)


def test_every_table_has_its_place_and_the_columns_that_the_page_of_tables_shows(finished):
    """docs/tables.md is made of this catalogue, and so of results/README.md."""
    known = {
        re.sub(r"\\{\w+\\}", "[^/]+", re.escape(place)).replace("…", ".+"): schema for place, schema in tables().items()
    }
    files = [
        path for path in finished.results.rglob("*.parquet") if not path.is_relative_to(finished.results / "first_look")
    ]
    assert len(files) > 200
    for path in files:
        place = path.relative_to(finished.results).as_posix()
        [schema] = [schema for pattern, schema in known.items() if re.fullmatch(pattern, place)]
        found = pq.read_schema(path)
        assert found.names == schema.names, place
        if path.name != "part-0.parquet":  # of vectors, whose length is the model's
            assert found.equals(schema, check_metadata=False), place
            assert [field.metadata for field in found] == [field.metadata for field in schema], place


def test_nothing_half_written_is_left(finished):
    assert not [path for path in finished.folder.joinpath("results").rglob(".*") if "partial" in path.name]


def test_running_again_from_nothing_gives_the_same_bytes(finished, fresh, tmp_path):
    again = fresh.copy(tmp_path / "again")
    targets = [
        "results/tiny/statistics/tiny/random_tokens/interventions.parquet",
        *(f"results/tiny/statistics/{model}/natural_text/{table}.parquet"
          for model in ("tiny", "headwise_rmsnorm-seed0") for table in ("variance", "norms", "disparity", "sinks")),
    ]  # fmt: skip
    again.run(*targets)
    first, second = digests(finished.results), digests(again.results)
    compared = {name for name in second if not name.endswith("timing.parquet")}
    assert len(compared) > 30
    assert {name for name in compared if first[name] != second[name]} == set()


def test_the_report_has_every_figure_with_its_caption_and_category(study):
    study.run("--report", "report.html")
    page = (study.folder / "report.html").read_text()
    for words in ("variance by position", "sink by intervention", "loss curves", "what was found", "Figures"):
        assert words in page
