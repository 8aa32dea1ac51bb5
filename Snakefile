# sinkorigin: the structural origin of attention sinks, reproduced on any Hugging Face causal language model

from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")  # older ones cannot read the rules; rules/common.smk names the versions that were tried


ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=False))

# rules/common.smk lays the user's files and options over it; a job on a cluster is given the config with which its run began
if not config.get("snapshot"):

    configfile: ROOT / "config.yaml"


# built from the Dockerfile, and used with --sdm apptainer only: docs/engines.md
container: "sinkorigin.sif"


include: "rules/common.smk"
include: "rules/checks.smk"
include: "rules/models.smk"
include: "rules/prompts.smk"
include: "rules/activations.smk"
include: "rules/statistics.smk"
include: "rules/interventions.smk"
include: "rules/pretraining.smk"
include: "rules/first_look.smk"
include: "rules/claims.smk"
include: "rules/figures.smk"
include: "rules/page.smk"
include: "rules/plan.smk"
include: "rules/outputs.smk"
include: "rules/verify.smk"
include: "rules/publish.smk"
include: "rules/support.smk"
include: "rules/every_rule.smk"
include: "rules/progress.smk"
include: "rules/sharing.smk"


rule all:
    """Whole study: every table, figure and claim, and its page; what a plain `snakemake` makes."""
    default_target: True
    input:
        STUDY_FILES,
        rules.judge_claims.output,
        rules.make_page.output,


rule first_look:
    """Chain in one model within minutes: a text of ten lines and a figure; the whole study makes none of it again."""
    input:
        rules.tell_first_look.output,
        rules.plot_first_look.output,


rule learning_rates:
    """Sweep of learning rates: every run at every rate, their table and figure; no part of `all`."""
    input:
        DATA_FILES,
        rules.compare_learning_rates.input,
        rules.compare_learning_rates.output,
        rules.plot_learning_rates.output,


if study.ladder():

    # of a study with runs of several sizes, what compares the sizes
    rule ladder:
        """Comparison of runs of several sizes: their table, slopes and figure."""
        input:
            DATA_FILES,
            rules.compute_ladder.output,
            rules.plot_ladder.output,
