# What is dear is shared with other checkouts and users by Snakemake's cache between workflows, with `--cache`: docs/sharing.md.

import snakemake.workflow

from harness.shared_outputs import SharedOutputs
from harness.pins import check_installed

# Their `wildcards` parameter makes the key of Snakemake's cache whole.
SHARED = [
    "fetch_model",
    "fetch_corpus",
    "fetch_own_corpus",
    "tokenize_prompts",
    "draw_data_prompts",
    "extract_activations",
    "train_tokenizer",
    "take_tokenizer",
    "tokenize_corpus",
    "make_bigram_backcopy",
    "pretrain",
    "pretrain_with_checkpoints",
    "pretrain_learning_rate",
]


def share(names):
    """Let these rules take their outputs from the cache and put them there."""
    place = os.environ.get("SNAKEMAKE_OUTPUT_CACHE")
    if not place:
        sys.exit(
            "sinkorigin: --cache: SNAKEMAKE_OUTPUT_CACHE is not set; set it to the directory of the cache"
        )
    if not Path(place).expanduser().is_dir():
        sys.exit(
            f"sinkorigin: SNAKEMAKE_OUTPUT_CACHE: there is no directory {place}; make it, see docs/sharing.md"
        )
    unknown = sorted(set(names) - set(SHARED))
    if unknown:
        sys.exit(f"sinkorigin: --cache: {unknown[0]} is not shared; choose from {', '.join(SHARED)}")
    scripts = {Path(rule.script).name for rule in workflow.rules if rule.script}
    try:
        check_installed({name: pin for script in scripts for name, pin in CODE.packages(script).items()})
    except SinkoriginError as error:
        sys.exit(f"sinkorigin: --cache: {error}")
    for name in names:
        # Snakemake refuses rules with a benchmark, which a job that takes its outputs from the cache could not write
        workflow.get_rule(name)._benchmark = None
    workflow.workflow_settings.cache = (
        names  # jobs on other machines get the names, and would not get an empty list
    )
    snakemake.workflow.LocalOutputFileCache = SharedOutputs


if workflow.workflow_settings.cache is not None:
    share(list(workflow.workflow_settings.cache) or SHARED)
