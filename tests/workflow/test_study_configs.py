"""The studies of further configs are planned as they say."""

import re
import subprocess
import sys

from tiny_study import checkout


def planned(folder, config, *targets):
    """Rule → number of its jobs, as text, that a study of one of the configs would run."""
    project = checkout(folder / "project")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--configfile", config, "--cores", "2"),
            *("--dry-run", "--quiet", "rules", "--", *targets),
        ],
        cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stdout + done.stderr
    return dict(re.findall(r"(\w[\w ]*?) {2,}(\d+)", done.stdout + done.stderr))


def test_the_ladder_and_its_tuning_are_planned_and_nothing_else(tmp_path):
    counts = planned(tmp_path, "config.ladder.yaml", "learning_rates", "ladder")
    # 9 runs of 4 seeds; 8, 8 and 5 settings
    assert counts["pretrain"] == "36" and counts["pretrain learning rate"] == "63"
    assert counts["measure training"] == "9" and counts["compute ladder"] == counts["plot ladder"] == "1"
    assert not {"extract activations", "fetch model", "judge claims", "plot loss curves"} & set(counts)


def test_the_study_of_long_prompts_measures_ten_prompt_sets_and_edits_and_trains_nothing(tmp_path):
    counts = planned(tmp_path, "config.long.yaml")
    assert {counts[rule] for rule in ("tokenize prompts", "extract activations", "compute sinks")} == {"10"}
    assert counts["make page"] == counts["fetch model"] == "1"
    assert not {"intervene", "follow edits", "pretrain"} & set(counts)
