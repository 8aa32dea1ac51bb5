# What a finished study has: the outputs of all its jobs, which `rule all` demands.
#
# Snakemake runs a job whose output is missing only if that output is demanded. With figures and claims alone, a job that failed after
# an edit, and whose outputs Snakemake removed then, would never run again: what was made from its old outputs is still there.

from harness.outputs import files_with_logs, output_files
from sinkorigin.tables import SEALED

RULES = internals.own_rules(workflow)
JOBS = study.jobs(
    name
    for name in RULES
    if name.startswith("compute_")
    and name not in ("compute_intervention_effects", "compute_mediation", "compute_anatomy")
)
DATA_FILES = output_files(RULES, study.data_jobs())
STUDY_FILES = output_files(RULES, JOBS) + page.demanded_figures(study)

# jobs by rule, of everything that the page shows; the version of the code of each is compared with that in its log
JOBS_OF_PAGE = JOBS | {
    name: [{}] for name in ("judge_claims", *(f"plot_{figure.name}" for figure in page.shown_figures(study)))
}

if workflow.is_main_process:  # before Snakemake looks for the files, which ends in a traceback there
    with checks.ending_with_a_sentence():
        checks.check_folders(map(PLACED, STUDY_FILES))


def written_files(rule="verify"):
    """Every file that `all` demands, and every file that is there of the sweep of learning rates, with the log of its job.

    For the rule `verify` or another one that reads them all.
    """
    jobs = {name: [{}] for name in RULES if name.startswith(("plot_", "judge_", "make_page"))} | JOBS
    swept = [file for file in rules.learning_rates.input if Path(file).is_file()]
    demanded = {*map(PLACED, STUDY_FILES), *rules.judge_claims.output, *rules.make_page.output, *swept}
    with checks.ending_with_a_sentence():
        return files_with_logs(workflow, RULES, jobs, demanded, rule)


def whole_study(sealed):
    """Files of `all`: tables and manifests, whose seals each job verifies; or figures and pages, which the script compares with logs."""
    return [file for file in rules.all.input if (Path(file).suffix in SEALED) == sealed]


def rules_told():
    """Rule → its script and description, and of rules without wildcards the files that they read."""
    return {
        name: {
            "script": Path(rule.script).name,
            "description": rule.docstring,
            "inputs": (
                [] if rule.wildcard_names else [str(file) for file in rule.input if isinstance(file, str)]
            ),
        }
        for name, rule in RULES.items()
        if rule.script is not None
    }


def provenances():
    """Provenance of every model, fetched or trained."""
    fetched = [f"{STUDY}/provenance/{model}.json" for model in study.models]
    trained = [f"{study.run_folder(run.name, seed)}/provenance.json" for run, seed in study.trained.values()]
    return list(map(PLACED, fetched + trained))
