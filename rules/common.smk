# Validation of the config, and the helpers that give a rule its paths, parameters and resources.

import shlex
import sys
from pathlib import Path
from time import time

SOURCES = [ROOT / "src", ROOT / "workflow_scripts"]
sys.path[:0] = map(str, SOURCES)


def braced(path):
    """A path as Snakemake's formatting of shell commands wants it."""
    return str(path).replace("{", "{{").replace("}", "}}")


# Jobs import this checkout's library too, whatever is installed: Snakemake puts a script's folder last on the search path. What a
# shell or a notebook set for its own figures is not for jobs. Before each script, not in this process' environment, because
# --sdm conda takes PYTHONPATH out of that, and a container may begin without it.
shell.prefix(
    "PYTHONPATH="
    + ":".join(shlex.quote(braced(folder)) for folder in SOURCES)
    + "${{PYTHONPATH:+:$PYTHONPATH}} MPLBACKEND=agg"
)

from harness.installation import wrong_library, wrong_version

if sentence := wrong_version("snakemake") or wrong_library(ROOT / "workflow_scripts"):
    sys.exit(f"sinkorigin: {sentence}")

from harness import checks
from harness import snakemake_internals as internals
from harness.code_version import Code
from harness.registries import check_registries

with checks.ending_with_a_sentence():
    if workflow.is_main_process:
        check_registries(ROOT / "src/sinkorigin")
    # here, because the config imports what the registries name
    from harness.config.merging import Layer, merge
    from harness.config.reading import read_study
    from harness.missing import Missing
    from harness.study import Study, all_wildcards, directory_of, one_of, with_directories

    MISSING = Missing.read()
    MERGED = merge(
        internals.own_config(workflow, config, ROOT),
        internals.config_overlays(workflow, config, ROOT),
        Path.cwd(),
    )
    STUDY_CONFIG = read_study(
        MERGED,
        first=workflow.is_main_process and not MISSING.files,
        fetched_elsewhere=internals.stores_elsewhere(workflow),
    )

CONFIG_FILES = MERGED.files  # for messages

DEVICE = checks.resolve_device(STUDY_CONFIG.device)
PLACED = internals.placed(workflow)  # path in these files → where it lies
# trainings sum their losses in float64, which the GPU of a Mac does not have
TRAINING_DEVICE = "cpu" if DEVICE == "mps" else DEVICE
study = Study(STUDY_CONFIG, DEVICE, PLACED("results"), MISSING)
STUDY = study.folder  # where all results of the study lie
BOOTSTRAP = STUDY_CONFIG.statistics.model_dump(include={"replicates", "seed"})


wildcard_constraints:
    model="[^/]+",
    prompts="[^/]+",
    data="[^/]+",
    run="[^/]+",
    learning_rate="[^/]+",
    seed=r"\d+",


CODE = Code(ROOT, lock=ROOT / "requirements.lock", memory=Path(".snakemake/parsed_code.json"))


def code(script, *modules):
    """Version of a script, of all library code that it and these modules import, and of the packages below: docs/incremental.md."""
    return CODE.version(script, *modules)


def code_by(script, *modules_of):
    """Parameter function: version of a script that imports by name the modules that these functions of the wildcards give."""
    return lambda wildcards: code(script, *(name for modules in modules_of for name in modules(wildcards)))


def statistic(name):
    """Which statistic a job computes, and the version of its code, as parameters."""
    return {"statistic": name, "code": code("compute.py", f"sinkorigin.statistics.{name}")}


def kind_versions(wildcards):
    """Kind of intervention → version of all code that makes its tables."""
    shared = study.variant_modules(wildcards)
    kinds = study.kind_modules(wildcards)
    return {kind.rpartition(".")[2]: code("intervene.py", kind, *shared) for kind in kinds}
