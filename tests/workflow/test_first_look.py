"""The first look is a part of the study: neither makes again what the other has made."""

import re


def log_of(project, rule):
    return (project.results / "logs" / rule / "tiny/random_tokens.log").read_text()


def test_a_first_look_at_a_finished_study_makes_no_edit_and_tells_the_chain(study):
    before = study.planned_jobs()
    done = study.run("first_look")
    assert "made nothing of mask/strength=1, variance_amplification/strength=4" in log_of(study, "edit_for_first_look")
    lines = (study.results / "first_look.txt").read_text().splitlines()
    assert [re.split(r"[:,] ", line)[0] for line in lines] == [
        "tiny", "variance", "norm", "super neurons", "disparity", "key", "sink", "mask", "norm control", "variance amplification",
    ]  # fmt: skip
    assert lines[-1] in done.stdout and "figures/first_look.svg" in done.stdout
    assert "The page of the study" not in done.stdout  # which this run had no part in
    assert (study.results / "figures/first_look.svg").is_file()
    assert study.planned_jobs() == before == set()


def test_the_study_takes_over_what_the_first_look_made(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    project.run("first_look")
    project.run("results/tiny/interventions/tiny/random_tokens/edited/interventions.json")
    made = log_of(project, "intervene").splitlines()[-2]
    assert made.startswith("made ") and "variance_amplification/strength=2" in made.partition(" of ")[0]
    for taken in ("mask/strength=1", "variance_amplification/strength=4", "norm_control/strength=4"):
        assert taken not in made.partition(" of ")[0] and taken in made
