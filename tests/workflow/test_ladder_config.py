"""The ladder of sizes is planned: tuning, trainings, table and figure, and nothing of a study of models."""

import re
import subprocess
import sys

from tiny_study import checkout


def test_the_ladder_and_its_tuning_are_planned_and_nothing_else(tmp_path):
    project = checkout(tmp_path / "project")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--configfile", "config.ladder.yaml", "--cores", "2"),
            *("--dry-run", "--quiet", "rules", "--", "learning_rates", "ladder"),
        ],
        cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stdout + done.stderr
    counts = dict(re.findall(r"(\w[\w ]*?) {2,}(\d+)", done.stdout + done.stderr))
    assert (
        counts["pretrain"] == "36" and counts["pretrain learning rate"] == "63"
    )  # 9 runs of 4 seeds; 8, 8 and 5 settings
    assert counts["measure training"] == "9" and counts["compute ladder"] == counts["plot ladder"] == "1"
    assert not {"extract activations", "fetch model", "judge claims", "plot loss curves"} & set(counts)
