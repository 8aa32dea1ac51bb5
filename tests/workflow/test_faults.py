"""Some trials of the campaign of benchmarks/faults.py: nothing is lost by kills and damage, and nothing is silently other."""

import random
from pathlib import Path

import fault_trials
from planned_jobs import job, scripts_of_jobs

NORMS = "results/tiny/statistics/tiny/random_tokens/norms.parquet"


def record_of(study, file) -> Path:
    """Snakemake's record of a file."""
    [found] = [
        path
        for path in (study.folder / ".snakemake/metadata").rglob("*")
        if path.is_file() and fault_trials.output_of_record(path.relative_to(study.folder).as_posix()) == file
    ]
    return found


def test_damage_is_rebuilt_refused_or_found_and_no_result_is_another_one(finished, study):
    rng, files = random.Random(0), fault_trials.files_by_level(study)
    damages = [
        damage
        for level, number in {"claims and figures": 4, "logs": 2}.items()
        for damage in fault_trials.draw_damages(study, rng, files[level], number)
    ]
    assert len(damages) == 6
    found = fault_trials.outcomes(study, damages, fault_trials.products(finished))
    bad = [one for one in found if one[1] in (fault_trials.LOST, fault_trials.OTHER)]
    assert bad == [] and {fault_trials.REFUSED, fault_trials.FOUND} & {outcome for _, outcome, _ in found}


def test_a_study_killed_at_random_is_finished_with_the_same_bytes(finished, fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    known = fault_trials.products(finished)
    assert fault_trials.killed(project, fault_trials.draw_kill(random.Random(1)), NORMS)
    assert fault_trials.orphans_end(project) and fault_trials.half_written(project, known) == []
    fault_trials.finish(project, NORMS)
    made = fault_trials.products(project)
    assert NORMS in made and {file: known.get(file) for file in made} == made


DAMAGED_RECORDS = [
    None,
    b"",
    b'{"rule": "compute_sinks", "par',
    b"\xff\xfe\x00",
    b'{"rule": 1, "input": 2, "params": 3}',
]


def test_an_edit_is_seen_by_jobs_whose_records_were_lost_and_nothing_runs_without_one(study):
    tables = [
        *study.results.glob("statistics/*/*/sinks.parquet"),
        *study.results.glob("statistics/*/*/row_sinks.parquet"),
    ]
    jobs = set()
    for table, content in zip(tables, DAMAGED_RECORDS, strict=False):
        record = record_of(study, table.relative_to(study.folder).as_posix())
        record.unlink() if content is None else record.write_bytes(content)
        jobs.add(job(f"compute_{table.stem}", model=table.parts[-3], prompts=table.parts[-2]))
    assert len(jobs) == len(DAMAGED_RECORDS) and study.planned_jobs() == set()
    config = study.folder / "tiny.yaml"
    config.write_text(config.read_text().replace("statistics:\n", "statistics:\n  epsilons: [0.1]\n"))
    assert jobs <= study.planned_jobs()


def test_the_log_of_every_job_says_what_it_was_given(finished):
    """Otherwise a lost record would make it run again."""
    from harness.job import fingerprint, ran_with

    jobs = scripts_of_jobs(finished.folder, finished.arguments)
    given = {
        name: ran_with(finished.folder / facts["log"][0], fingerprint(dict(facts["params"].items()), facts["input"]))
        for name, facts in jobs.items()
    }
    assert len(given) > 90 and [name for name, same in given.items() if not same] == []


def test_a_job_runs_again_where_neither_record_nor_log_says_what_it_was_given(study):
    record_of(study, NORMS).unlink()
    (study.results / "logs/compute_norms/tiny/random_tokens.log").unlink()
    assert job("compute_norms", model="tiny", prompts="random_tokens") in study.planned_jobs()
