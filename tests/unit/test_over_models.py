"""Each claim over all models is counted by verdict and averaged by random effects."""

import numpy as np
import polars as pl
import pytest

from sinkorigin.claims.over_models import over_models, random_effects
from sinkorigin.claims.tests import CONTRADICTED, REPRODUCED


def row(model, verdict, ends=(None, None, None), *, claim="C1", scale="ratio", role="pretrained", first_token="drawn"):
    value, low, high = ends
    return {
        "claim": claim, "words": "in short", "model": model, "label": model, "role": role, "first_token": first_token,
        "scale": scale, "verdict": verdict, "value": value, "low": low, "high": high,
    }  # fmt: skip


MODELS = {"a": 8.0, "b": 4.0, "c": 2.0}


def rows(models):
    return [row(name, REPRODUCED, (MODELS[name], MODELS[name] / 1.2, MODELS[name] * 1.2)) for name in models]


def test_pretrained_models_under_one_first_token_are_averaged():
    others = [
        row("r", REPRODUCED, (1.1, 1.0, 1.2), role="random"),
        row("a", CONTRADICTED, (1.0, 0.9, 1.1), first_token="bos"),
    ]
    drawn, bos = over_models([*rows(MODELS), *others])
    assert (drawn["models"], drawn["reproduced"], drawn["averaged"]) == (3, 3, 3)
    assert drawn["estimate"] == pytest.approx(4.0)  # the geometric mean: the three have one standard error
    assert drawn["low"] < 4 < drawn["high"]
    assert (bos["models"], bos["contradicted"], bos["estimate"]) == (1, 1, None)  # one model has no heterogeneity


def test_effects_without_sampling_error_are_counted_but_not_averaged():
    [found] = over_models([row(name, REPRODUCED, (1.0, 1.0, 1.0), scale="difference") for name in MODELS])
    assert (found["reproduced"], found["averaged"], found["estimate"]) == (3, 0, None)


def texts(models):
    """What the figure of the matrix says for a study of these models that has one claim."""
    from sinkorigin.figures.evidence import draw

    made = [*rows(models), row("r", REPRODUCED, (1.1, 1.0, 1.2), role="random")]
    figure = draw(claims=pl.DataFrame(made), claims_over_models=pl.DataFrame(list(over_models(made))))
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_the_figure_counts_models_and_averages_three_or_more():
    assert not [text for text in texts("a") if " of " in text]
    assert "2 of 2" in texts("ab")
    [mean] = [text for text in texts("abc") if text.startswith("3 of 3: 4 [")]
    assert mean.endswith(" %")


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
