"""The evidence matrix takes the right claim for each cell, and its summary over models is a random-effects mean."""

import numpy as np
import polars as pl
import pytest

from sinkorigin.claims.evidence import LINKS, evidence, random_effects
from sinkorigin.claims.page import render_html
from sinkorigin.claims.verdicts import (
    NO_CLAIMS,
    NOT_APPLICABLE,
    NOT_MEASURED,
    NOT_SEEN,
    SEEN,
    UNDECIDED,
    Judged,
    row_of,
)

MODELS = [Judged(name, f"{name}, dequantised", "pretrained") for name in "abc"]
CONTROL = Judged("r", "random weights", "random")
PROMPTS = {"random_tokens": "drawn", "random_tokens_bos": "bos"}


def claim(model, name, verdict, ends=(None, None, None), prompts="random_tokens", **found):
    value, low, high = ends
    return row_of(
        name, "statement", "quantity", model.label, prompts, None, "> 0", "table",
        value=value, low=low, high=high, verdict=verdict, **found,
    )  # fmt: skip


def cell(table, link, model, prompts="random_tokens"):
    [row] = [r for r in table.to_pylist() if (r["link"], r["model"], r["prompts"]) == (link, model.name, prompts)]
    return row


def test_a_cell_is_the_claim_at_the_position_nearest_to_the_papers():
    rows = [
        claim(MODELS[0], "mask makes a sink", verdict, (value, 0.0, 1.0), kind="mask", position=position)
        for position, value, verdict in ((5, 0.5, SEEN), (12, 0.2, UNDECIDED), (40, 0.9, SEEN))
    ]
    table, _ = evidence(rows, models=MODELS, prompts=PROMPTS)
    found = cell(table, "C9", MODELS[0])
    assert (found["position"], found["value"], found["verdict"]) == (12, 0.2, UNDECIDED)


def test_necessity_claims_of_one_name_are_told_apart_by_their_kind():
    rows = [
        claim(MODELS[0], "attention lost without it", SEEN, (0.9, 0.8, 1.0), kind="super_neuron_ablation", position=0),
        claim(MODELS[0], "attention lost without it", NOT_SEEN, (0.1, 0.0, 0.2), kind="variance_matching", position=0),
    ]
    table, _ = evidence(rows, models=MODELS, prompts=PROMPTS)
    assert cell(table, "C11a", MODELS[0])["value"] == 0.1
    assert cell(table, "C11b", MODELS[0])["value"] == 0.9


def test_random_weights_are_judged_by_the_claim_that_they_lack_the_link():
    rows = [
        claim(CONTROL, "no sink", SEEN, (1.1, 1.0, 1.2)),
        claim(CONTROL, "variance decay", SEEN, (-0.5, -0.6, -0.4)),
    ]
    table, summary = evidence(rows, models=[CONTROL], prompts=PROMPTS)
    assert (cell(table, "A1", CONTROL)["claim"], cell(table, "A1", CONTROL)["lacks"]) == ("no sink", True)
    assert cell(table, "C2", CONTROL)["lacks"] is False
    assert summary.num_rows == 0  # a control is no model to average over


def test_what_the_ledger_does_not_judge_is_not_applicable_with_a_reason():
    table, summary = evidence([claim(MODELS[0], "sink", SEEN, (9.0, 8.0, 10.0))], models=MODELS, prompts=PROMPTS)
    assert table.num_rows == len(LINKS)  # one model on one prompt set
    missing = cell(table, "C9", MODELS[0])
    assert missing["verdict"] == NOT_APPLICABLE
    assert missing["reason"]
    counts = {row["link"]: row for row in summary.to_pylist()}
    assert (counts["A1"]["seen"], counts["C9"]["not_applicable"]) == (1, 1)
    assert counts["A1"]["estimate"] is None  # one model has no heterogeneity


@pytest.mark.parametrize("name", [NO_CLAIMS, NOT_MEASURED])
def test_a_model_without_bos_or_whose_job_failed_gives_that_as_the_reason_of_its_cells(name):
    rows = [claim(MODELS[0], name, NOT_APPLICABLE, prompts="random_tokens_bos", reason="the model has no BOS token")]
    table, _ = evidence(rows, models=MODELS, prompts=PROMPTS)
    found = cell(table, "A1", MODELS[0], "random_tokens_bos")
    assert (found["verdict"], found["reason"]) == (NOT_APPLICABLE, "the model has no BOS token")


def test_the_summary_is_of_the_pretrained_models_of_one_first_token():
    values = {"a": 8.0, "b": 4.0, "c": 2.0}
    rows = [claim(m, "sink", SEEN, (values[m.name], values[m.name] / 1.2, values[m.name] * 1.2)) for m in MODELS]
    rows.append(claim(MODELS[0], "sink", SEEN, (1.0, 0.9, 1.1), prompts="random_tokens_bos"))
    _, summary = evidence(rows, models=[*MODELS, CONTROL], prompts=PROMPTS)
    found = next(r for r in summary.to_pylist() if r["link"] == "A1" and r["first_token"] == "drawn")
    assert (found["models"], found["averaged"], found["scale"]) == (3, 3, "ratio")
    assert found["estimate"] == pytest.approx(4.0)  # the geometric mean: the three have one standard error
    assert found["low"] < 4 < found["high"]


def test_effects_without_sampling_error_are_counted_but_not_averaged():
    rows = [claim(m, "sink with surge", SEEN, (0.0, 0.0, 0.0)) for m in MODELS]
    _, summary = evidence(rows, models=MODELS, prompts=PROMPTS)
    found = next(r for r in summary.to_pylist() if r["link"] == "C4")
    assert (found["seen"], found["averaged"], found["estimate"]) == (3, 0, None)


def texts(models):
    """What the figure of the matrix says for a study of these models that has one claim."""
    from sinkorigin.figures.evidence import draw

    values = {"a": 8.0, "b": 4.0, "c": 2.0}
    rows = [claim(m, "sink", SEEN, (values[m.name], values[m.name] / 1.2, values[m.name] * 1.2)) for m in models]
    table, summary = evidence(
        [*rows, claim(CONTROL, "no sink", SEEN, (1.1, 1.0, 1.2))], models=[*models, CONTROL], prompts=PROMPTS
    )
    figure = draw(evidence=pl.DataFrame(table), evidence_summary=pl.DataFrame(summary))
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_the_figure_counts_models_and_averages_three_or_more():
    assert not [text for text in texts(MODELS[:1]) if " of " in text]
    assert "2 of 2" in texts(MODELS[:2])
    [mean] = [text for text in texts(MODELS) if text.startswith("3 of 3: 4 [")]
    assert mean.endswith(" %")


def test_the_page_has_a_cell_for_each_link_and_says_that_random_weights_lack_one():
    rows = [claim(MODELS[0], "sink", SEEN, (9.0, 8.0, 10.0)), claim(CONTROL, "no sink", SEEN, (1.1, 1.0, 1.2))]
    table, _ = evidence(rows, models=[MODELS[0], CONTROL], prompts=PROMPTS)
    empty = pl.DataFrame(schema=["claim", "model"]).to_arrow()
    page = render_html(empty, "study", matrix=table)
    assert page.count("scope='row'") == len(LINKS) and page.count("scope='col'") == 2
    assert "lacks it ✓" in page and "9 [8, 10]" in page


def test_random_effects_of_the_bcg_trials():
    """The thirteen trials of BCG vaccine (Colditz et al. 1994), whose DerSimonian-Laird values are in every textbook."""
    treated = np.array(
        [[4, 119], [6, 300], [3, 228], [62, 13536], [33, 5036], [180, 1361], [8, 2537], [505, 87886], [29, 7470],
         [17, 1699], [186, 50448], [5, 2493], [27, 16886]]
    )  # fmt: skip
    control = np.array(
        [[11, 128], [29, 274], [11, 209], [248, 12619], [47, 5761], [372, 1079], [10, 619], [499, 87892], [45, 7232],
         [65, 1600], [141, 27197], [3, 2338], [29, 17825]]
    )  # fmt: skip
    totals = treated.sum(axis=1), control.sum(axis=1)
    effects = np.log(treated[:, 0] / totals[0] / (control[:, 0] / totals[1]))
    errors = np.sqrt(1 / treated[:, 0] - 1 / totals[0] + 1 / control[:, 0] - 1 / totals[1])
    found = random_effects(effects, errors)
    assert found["estimate"] == pytest.approx(-0.7141, abs=1e-4)
    assert found["between"] ** 2 == pytest.approx(0.3088, abs=1e-4)
    assert found["q"] == pytest.approx(152.233, abs=1e-3)
    assert found["i_squared"] == pytest.approx(0.9212, abs=1e-4)


def test_equal_effects_have_no_heterogeneity():
    found = random_effects(np.array([0.5, 0.5, 0.5]), np.array([0.1, 0.2, 0.3]))
    assert (found["between"], found["i_squared"]) == (0.0, 0.0)
    assert found["estimate"] == pytest.approx(0.5)
    # never narrower than the common-effect interval, although these three agree by chance to the bit
    assert found["high"] - found["estimate"] > 1.96 * 0.08
