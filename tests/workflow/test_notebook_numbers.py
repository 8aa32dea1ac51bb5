"""The notebook's numbers are those of a study's tables."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import sinkorigin
from sinkorigin.corpora.prompts import read_token_ids
from sinkorigin.interventions import resolution
from sinkorigin.models.tokenizer import load_tokenizer
from sinkorigin.statistics import interventions, mediation
from sinkorigin.tables import read_table
from tiny_study import TINY

OF_EDITS = {*interventions.TABLES, *mediation.TABLES, *resolution.TABLES}
SITES = {site["site"]: site.get("positions") for site in TINY["activations"]["sites"] if site["site"] != "residual"}


@pytest.mark.parametrize("prompts", [entry["name"] for entry in TINY["prompts"]])
def test_measure_gives_the_tables_of_the_workflow(finished, prompts):
    folder = finished.results.parent / "models" / "tiny"
    model = sinkorigin.load_model(folder)
    drawn = finished.results / "prompts" / "tiny" / f"{prompts}.parquet"
    of_text = prompts == "natural_text"
    found = sinkorigin.measure(
        model,
        read_token_ids(drawn),
        documents=read_table(drawn, ["document"]).column("document").to_pylist() if of_text else None,
        tokenizer=load_tokenizer(folder, "tiny", False),
        sites=SITES,
        name="tiny",
        prompts=prompts,
        batch=4,
        **TINY["statistics"],
    )
    made = {path.stem: path for path in (finished.results / "statistics" / "tiny" / prompts).glob("*.parquet")}
    made |= {path.stem: path for path in (finished.results / "weights" / "tiny").glob("*.parquet")}
    compared = made.keys() - OF_EDITS
    assert compared <= found.tables.keys() and len(compared) >= 20
    for name in compared:
        expected = pl.DataFrame(read_table(made[name]))
        if name.startswith("variance"):  # the study keeps two sequences of the residual stream, a notebook all
            expected = expected.filter(pl.col("site") != "residual") if "site" in expected.columns else expected
        assert_frame_equal(found.tables[name], expected, rel_tol=1e-6, abs_tol=1e-6)


def test_the_anatomy_of_each_model_is_a_table_of_the_study(finished):
    for model in ("tiny", "tiny-random"):
        table = pl.DataFrame(read_table(finished.results / "statistics" / model / "anatomy.parquet"))
        assert table["prompts"].to_list() == ["random_tokens", "natural_text"]
        masses = [
            pl.DataFrame(read_table(finished.results / "statistics" / model / prompts / "sink_mass.parquet"))[
                "mass"
            ].mean()
            for prompts in table["prompts"]
        ]
        assert table["mean_mass"].to_list() == pytest.approx(masses)
        assert (table["mask_target"][0] is None) == (model != "tiny")  # edits of the other model are not asked for
