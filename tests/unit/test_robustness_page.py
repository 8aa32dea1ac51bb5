"""The page on robustness: narrow tables, one for each model, whatever the study holds."""

import re
from itertools import product

from sinkorigin.claims.first_tokens import NAMES
from update_robustness import page

LEDGER = {"value": 0.5, "low": 0.4, "high": 0.6, "holds": 1, "opposite": 1, "settings": 4}


def ledger():
    models = [
        ("one", "pretrained"),
        ("two", "pretrained"),
        ("one, random weights", "random"),
        ("softmax, seed 0", "trained"),
    ]
    return [
        {"claim": claim, "words": f"words of {claim}", "model": label, "label": label, "role": role, "first_token": first, **LEDGER}
        | {"verdict": "not applicable" if claim == "C10" else "reproduced"}
        for (label, role), claim, first in product(models, ("C10", "C2"), NAMES)
    ]  # fmt: skip


def settings():
    """Each layer but one says the opposite of C2, on two prompt sets."""
    names = ("claim", "model", "first_token")
    return [
        dict(zip(names, ("C2", "one", "drawn"), strict=True)) | {"setting": setting, "read_on": prompts, "verdict": verdict}
        for prompts, end in (("random", ""), ("text_16", ", text_16"))
        for setting, verdict in [(f"layer {i}{end}", "reproduced" if i == 4 else "contradicted") for i in range(3, 9)]
    ]  # fmt: skip


def accounts():
    shared = {"account": "value drain", "source": "A 2024", "statement": "values are small", "predicate": "< 1"}
    return [row | shared | {"prompts": "text_16"} for row in ledger() if row["claim"] == "C2"]


def test_each_model_has_a_table_of_its_own_with_a_column_for_each_first_token():
    written = page(ledger(), settings(), accounts())
    assert max(line.count("|") for line in written.splitlines()) == 5
    head = "| claim | drawn tokens | BOS | one fixed token |"
    for label in ("one", "two", "softmax, seed 0"):
        section = re.search(rf"### {label}\n\n(.*?)\n\n", written, re.DOTALL)[1]
        assert (
            section.startswith(head)
            and "| C2: words of C2 | **reproduced**<br>0.5 [0.4, 0.6]<br>holds in 1 of 4" in section
        )
        assert "C10" not in section
    assert written.count("Not applicable under any first token: C10.") == 3
    assert "| text 16 |" not in written and "| one<br>text 16 | **reproduced**<br>0.5 [0.4, 0.6] |" in written


def test_settings_that_say_the_opposite_are_listed_once_for_all_prompt_sets_and_layers():
    written = page(ledger(), settings(), [])
    assert "| C2 | drawn tokens | reproduced | layers 3, 5 to 8 (random, text 16) |" in written
    assert written.count("the opposite in") == 1  # the other models' settings agree
