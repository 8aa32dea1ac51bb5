# Validation of the config, and the helpers that give a rule its paths, parameters and resources.

import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir) / "workflow_scripts"
sys.path.insert(0, str(SCRIPTS))

from sinkorigin.code_version import code_version
from sinkorigin.config import read_config
from sinkorigin.errors import SinkoriginError

CONFIG_FILES = ", ".join(map(str, workflow.overwrite_configfiles)) or "config.yaml"
try:
    STUDY_CONFIG = read_config(config, CONFIG_FILES, base=Path.cwd())
except SinkoriginError as error:
    raise WorkflowError(str(error)) from None

STUDY = f"results/{STUDY_CONFIG.study}"
MODELS = {model.name: model for model in STUDY_CONFIG.models}
TRAINED = STUDY_CONFIG.trained
PROMPTS = {prompts.name: prompts for prompts in STUDY_CONFIG.prompts}
INTERVENTIONS = {edit.name: edit for edit in STUDY_CONFIG.interventions}
RUNS = {run.name: run for run in STUDY_CONFIG.pretraining.runs}
SITES = [kept.site for kept in STUDY_CONFIG.activations.sites]

# a model and the prompts that it reads: trained ones may be studied on fewer sets
STUDIED = [(model, prompts) for model in MODELS for prompts in PROMPTS] + [
    (model, prompts) for model in TRAINED for prompts in STUDY_CONFIG.pretraining.prompts
]
EDITED = {
    (model, prompts): [
        edit for edit in INTERVENTIONS.values() if model in edit.models and prompts in edit.prompts
    ]
    for model, prompts in STUDIED
}

DEVICE = STUDY_CONFIG.device
if DEVICE == "auto":
    DEVICE = "cuda" if Path("/dev/nvidia0").exists() else "cpu"
GPUS = int(DEVICE == "cuda")


wildcard_constraints:
    model="[^/]+",
    prompts="[^/]+",
    intervention="[^/]+",
    run="[^/]+",
    seed=r"\d+",
    strength=r"[0-9.e+-]+",


def code(script):
    """Version of a script and of all library code that it imports, see docs/incremental.md."""
    return code_version(SCRIPTS / script)


def model_manifest(name):
    """Manifest of a model's directory: fetched, random, or trained here."""
    if name in TRAINED:
        run, seed = TRAINED[name]
        return f"{STUDY}/pretraining/{run.name}/seed={seed}/model/manifest.json"
    return f"results/models/{name}/manifest.json"


def model_of(wildcards):
    """Manifest of the model that the wildcards name."""
    return model_manifest(wildcards.model)


def trusts_remote_code(wildcards):
    """Whether the config lets code that comes with this model run."""
    return wildcards.model in MODELS and MODELS[wildcards.model].trust_remote_code


def strength_text(strength):
    """A strength as it stands in paths: 4, 0.5."""
    return f"{strength:g}"


def per_model(name, studied=None):
    """A statistic's table for every (model, prompts) of the study."""
    return [f"{STUDY}/statistics/{model}/{prompts}/{name}.parquet" for model, prompts in studied or STUDIED]


def first_prompts(name):
    """A statistic's table for every model, on the first prompt set that it reads."""
    first = {}
    for model, prompts in STUDIED:
        first.setdefault(model, prompts)
    return per_model(name, list(first.items()))


def provenance_of(models):
    """Manifests beside which the models' provenance lies."""
    return [model_manifest(model) for model in dict.fromkeys(models)]


def model_memory(wildcards, input, attempt):
    """Megabytes for a job that runs a model: three times its weights, a batch and the libraries; more on a retry."""
    manifest = Path(str(input.model))
    weights = 600
    if manifest.is_file():
        files = json.loads(manifest.read_text())
        weights = sum(facts["bytes"] for name, facts in files.items() if name.endswith(".safetensors")) / 1e6
    return int(attempt * (2500 + 3 * weights))


def figure_files(name=None):
    """The files of one figure, or of all figures of this study."""
    names = ["variance_by_position", "norm_and_sink_by_layer", "dominance_ratio_by_layer"]
    names += ["sink_by_intervention"] if any(EDITED.values()) else []
    names += ["loss_curves"] if RUNS else []
    return [
        f"{STUDY}/figures/{figure}.{suffix}"
        for figure in ([name] if name else names)
        for suffix in STUDY_CONFIG.figures.formats
    ]
