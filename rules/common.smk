# Validation of the config, and the helpers that give a rule its paths, parameters and resources.

import os
import re
import shlex
import sys
from math import ceil
from pathlib import Path
from time import time

ROOT = Path(workflow.basedir)
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
from harness.config.interventions import kind_modules, kinds_of, tables_needed
from harness.devices import resolve_device

CONFIG_FILES = ", ".join(map(str, workflow.overwrite_configfiles)) or "config.yaml"
with checks.ending_with_a_sentence():
    # here, because the config imports what the registries name
    from harness.config.variants import OPTION_KEYS, VARIANTS, variant_module, variant_modules
    from harness.resources import Estimates
    from harness.start import read_study

    STUDY_CONFIG = read_study(
        config, workflow.overwrite_configfiles, ROOT / "src/sinkorigin", first=workflow.is_main_process
    )

STUDY = f"results/{STUDY_CONFIG.study}"
MODELS = {model.name: model for model in STUDY_CONFIG.models}
TRAINED = STUDY_CONFIG.trained
PROMPTS = {prompts.name: prompts for prompts in STUDY_CONFIG.prompts}
INTERVENTIONS = {edit.name: edit for edit in STUDY_CONFIG.interventions}
DATA = {data.name: data for data in STUDY_CONFIG.pretraining.data}
RUNS = {run.name: run for run in STUDY_CONFIG.pretraining.runs}
KEEPING = [run.name for run in RUNS.values() if run.keep]  # their rule declares the kept checkpoints as well
LEARNING_RATES = STUDY_CONFIG.pretraining.learning_rates
SITES = [kept.site for kept in STUDY_CONFIG.activations.sites]
VARIANCE_SITES = STUDY_CONFIG.activations.variance_sites

# a model and the prompts that it reads: trained ones may be studied on fewer sets
STUDIED = [(model, prompts) for model in MODELS for prompts in PROMPTS] + [
    (model, prompts) for model in STUDY_CONFIG.studied for prompts in STUDY_CONFIG.pretraining.prompts
]
EDITED = {
    (model, prompts): [
        edit for edit in INTERVENTIONS.values() if model in edit.models and prompts in edit.prompts
    ]
    for model, prompts in STUDIED
}

DEVICE = resolve_device(STUDY_CONFIG.device)
ESTIMATES = Estimates(STUDY_CONFIG, DEVICE)


wildcard_constraints:
    model="[^/]+",
    prompts="[^/]+",
    data="[^/]+",
    run="[^/]+",
    learning_rate="[^/]+",
    seed=r"\d+",


CODE = Code(
    ROOT,
    lock=ROOT / "requirements.lock",
    memory=Path(".snakemake/parsed_code.json"),
)


def code(script, *modules):
    """Version of a script, of all library code that it and these modules import, and of the packages below: docs/incremental.md."""
    return CODE.version(script, *modules)


def model_code(script, *modules):
    """Version of a script that loads the model of the wildcards, whose attention variant it imports by name."""
    return lambda wildcards: code(script, *modules, *variant_modules(STUDY_CONFIG, wildcards.model))


def run_code(script):
    """Version of a script that builds or loads models of the run of the wildcards, whose variant it imports by name."""
    return lambda wildcards: code(script, variant_module(RUNS[wildcards.run].variant))


def all_wildcards(wildcards):
    """A job's wildcards, as a parameter: Snakemake's cache between workflows leaves them out of its key."""
    return dict(wildcards.items())


def one_of(names):
    """Pattern of a wildcard that is one of these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def model_manifest(name):
    """Manifest of a model's directory: fetched, random, or trained here."""
    if name in TRAINED:
        run, seed = TRAINED[name]
        return f"{STUDY}/pretraining/{run.name}/seed={seed}/model/manifest.json"
    return f"results/models/{name}/manifest.json"


def model_of(wildcards):
    """Manifest of the model that the wildcards name."""
    return model_manifest(wildcards.model)


def directory_of(manifest):
    """Input function: the directory of a manifest that another input function names.

    A manifest says whether its directory changed. The directory is an input too, an ancient one, for jobs that start
    without a shared file system: their inputs are brought to them. It stands before its manifest, because they are brought
    in this order and a directory that has a file already counts as brought.
    """
    return lambda wildcards: os.path.dirname(manifest(wildcards))


model_files = directory_of(model_of)


def fetched_as(name):
    """Everything that decides what lies in a model's directory."""
    return MODELS[name].model_dump(exclude={"shape", "label", "licence"})


def local_model(wildcards):
    """Files of a model on this machine, whose content is to count."""
    kind, _, place = MODELS[wildcards.model].source.partition(":")
    if kind != "path":
        return []
    from sinkorigin.models.fetching import local_model_files

    return [local(path) for path in local_model_files(place)]


def local_corpus(corpus):
    """Files of a corpus on this machine, whose content is to count."""
    if not corpus.source.startswith("path:"):
        return []
    from sinkorigin.corpora.fetching import local_corpus_files

    return [local(path) for path in local_corpus_files(corpus.source, corpus.members)]


def local_tokenizer(wildcards):
    """Files of a tokenizer on this machine, whose content is to count."""
    kind, _, place = DATA[wildcards.data].tokenizer.partition(":")
    if kind != "path":
        return []
    from sinkorigin.pretraining.taken_tokenizer import local_tokenizer_files

    return [local(path) for path in local_tokenizer_files(place)]


def site_outputs():
    """The activations' directories and their manifests; Snakemake's cache wants a name for each."""
    folder = f"{STUDY}/activations/{{model}}/{{prompts}}"
    return {f"{site}_files": directory(f"{folder}/{site}") for site in SITES} | {
        site: f"{folder}/{site}/manifest.json" for site in SITES
    }


def trusts_remote_code(wildcards):
    """Whether the config lets code that comes with this model run."""
    return wildcards.model in MODELS and MODELS[wildcards.model].trust_remote_code


def per_model(name, studied=None):
    """A statistic's table for every (model, prompts) of the study."""
    return [f"{STUDY}/statistics/{model}/{prompts}/{name}.parquet" for model, prompts in studied or STUDIED]


def provenance_of(models):
    """Files that say where the models come from and how this study labels them."""
    paths = {name: f"{STUDY}/provenance/{name}.json" for name in MODELS} | {
        name: f"{STUDY}/pretraining/{run.name}/seed={seed}/provenance.json"
        for name, (run, seed) in TRAINED.items()
    }
    return [paths[model] for model in dict.fromkeys(models)]


def asked(rule, quantity):
    """What a rule asks for, as a function of the job; see sinkorigin/resources.py."""
    return lambda wildcards: getattr(ESTIMATES.of(rule, dict(wildcards.items())), quantity)


def growing(rule, quantity):
    """The same, more on every retry."""
    own = asked(rule, quantity)
    return lambda wildcards, attempt: attempt * ceil(own(wildcards))


def memory(rule):
    """Megabytes of a job."""
    return growing(rule, "memory")


def minutes(rule):
    """Minutes after which a job may be stopped."""
    return growing(rule, "runtime")


def disk(rule):
    """Megabytes that a job leaves."""
    return growing(rule, "disk")


def gpus(rule):
    """Number of GPUs of a job."""
    return asked(rule, "gpus") if DEVICE == "cuda" else 0


def gpu_memory(rule):
    """Megabytes of each of its GPUs."""
    return growing(rule, "gpu_memory") if DEVICE == "cuda" else 0


def base_model(wildcards):
    """The model whose architecture a random-weight control takes."""
    source = MODELS[wildcards.model].source
    if not source.startswith("random:"):
        return {}
    manifest = model_manifest(source.partition(":")[2])
    return {"base_files": ancient(os.path.dirname(manifest)), "base": manifest}


def corpus_for_text(wildcards):
    """The corpus, for prompts of natural text only."""
    return (
        {"corpus": rules.fetch_corpus.output[0]} if PROMPTS[wildcards.prompts].kind == "natural_text" else {}
    )


def edited_positions(wildcards):
    """Every target position of the interventions on this model and prompt set."""
    return sorted({k for edit in EDITED[wildcards.model, wildcards.prompts] for k in edit.targets})


def edited_sequences(wildcards):
    """Number of sequences that the interventions on this model and prompt set run."""
    edits = EDITED[wildcards.model, wildcards.prompts]
    return max(edit.sequences or PROMPTS[wildcards.prompts].sequences - edit.calibration for edit in edits)


def edits_of(wildcards):
    """What the edits of this model on this prompt set are."""
    apart = {"models", "prompts", "sequences"}
    return [edit.model_dump(exclude=apart) for edit in EDITED[wildcards.model, wildcards.prompts]]


def facts_for_edits(wildcards):
    """Tables that tell necessity edits what to take away."""
    folder = f"{STUDY}/statistics/{wildcards.model}/{wildcards.prompts}"
    return {
        table: f"{folder}/{table}.parquet"
        for table in tables_needed(EDITED[wildcards.model, wildcards.prompts])
    }


def kind_versions(wildcards):
    """Kind of intervention → version of all code that makes its tables."""
    edits = EDITED[wildcards.model, wildcards.prompts]
    variants = variant_modules(STUDY_CONFIG, wildcards.model)
    return {
        kind: code("intervene.py", module, *variants) for kind, module in zip(kinds_of(edits), kind_modules(edits))
    }


def reads_losses(wildcards):
    """Whether the loss means something: it does on text."""
    return PROMPTS[wildcards.prompts].kind == "natural_text"


def data_named(kind, tokenizer=None):
    """Pattern of the names of all data of a kind, or of those whose tokenizer is trained or taken."""
    found = [data for data in DATA.values() if data.kind == kind]
    if tokenizer is not None:
        found = [data for data in found if (data.tokenizer is None) == (tokenizer == "trained")]
    return one_of(data.name for data in found)


def own_corpus(data):
    """The corpus that these data have beside the study's, or None."""
    return getattr(data, "corpus", None)


def documents_of(wildcards):
    """Documents that the data are made from: of their own corpus, or of the study's."""
    return (
        f"{STUDY}/pretraining/data/{wildcards.data}/documents.parquet"
        if own_corpus(DATA[wildcards.data])
        else rules.fetch_corpus.output[0]
    )


def tokenizer_of(wildcards):
    """Manifest of the tokenizer of the data that the wildcards name."""
    return f"{STUDY}/pretraining/data/{wildcards.data}/tokenizer/manifest.json"


def tokenizer_of_run(wildcards):
    """Manifest of the tokenizer of the data that a run trains on."""
    return f"{STUDY}/pretraining/data/{RUNS[wildcards.run].data}/tokenizer/manifest.json"


def tokens_of_run(wildcards):
    """Manifest of the token files that a run trains on."""
    return f"{STUDY}/pretraining/data/{RUNS[wildcards.run].data}/tokens/manifest.json"


def tokens_of(wildcards):
    """Manifest of the token files of the data that the wildcards name."""
    return f"{STUDY}/pretraining/data/{wildcards.data}/tokens/manifest.json"


def data_prompts(run, prompts):
    """A prompt set of the models that one run trained: all seeds and variants on the same data have the same."""
    start = "first_token" if run.first_token else "no_first_token"
    return f"{STUDY}/pretraining/data/{run.data}/prompts/{start}/{prompts}.parquet"


def prompts_of(wildcards):
    """The prompts that the wildcards name, in the model's tokens."""
    model, prompts = wildcards.model, wildcards.prompts
    return (
        data_prompts(TRAINED[model][0], prompts)
        if model in TRAINED
        else f"{STUDY}/prompts/{model}/{prompts}.parquet"
    )


def prompts_of_run(wildcards):
    """All prompt sets of the models that a run trained."""
    return [data_prompts(RUNS[wildcards.run], prompts) for prompts in STUDY_CONFIG.pretraining.prompts]


def task_parameters(wildcards):
    """What the synthetic task is made from."""
    data = DATA[wildcards.data]
    return data.model_dump(exclude={"name", "kind"}) | {"validation_tokens": data.validation_tokens}


def training_parameters(wildcards):
    """What one training uses: its run without the other seeds, and without options of another variant."""
    run = RUNS[wildcards.run]
    return run.model_dump(exclude={"seeds", "data", *OPTION_KEYS.values()}) | {"options": run.options}


def swept_parameters(wildcards):
    """What one training of the learning-rate sweep uses; its models are not kept."""
    [rate] = [rate for rate in LEARNING_RATES.rates if f"{rate:g}" == wildcards.learning_rate]
    return training_parameters(wildcards) | {"learning_rate": rate, "keep": []}


def swept():
    """Run, learning rate and seed of every training of the sweep."""
    return [
        (run, rate, seed) for run in RUNS for rate in LEARNING_RATES.rates for seed in LEARNING_RATES.seeds
    ]


def measured_run(run):
    """What the statistics over its training need to know of a run."""
    return run.model_dump(include={"name", "variant", "seeds", "steps", "batch", "length", "keep"})


def trainings_of_run(wildcards):
    """Final models, and kept checkpoints if there are some, of all seeds of a run."""
    run = RUNS[wildcards.run]
    folders = [f"{STUDY}/pretraining/{run.name}/seed={seed}" for seed in run.seeds]
    found = {}
    for part in ["model", "checkpoints"] if run.keep else ["model"]:
        found[f"{part}_files"] = [ancient(f"{folder}/{part}") for folder in folders]
        found[part] = [f"{folder}/{part}/manifest.json" for folder in folders]
    return found


def training_tables():
    """Manifests of the statistics over training of every run."""
    return [f"{STUDY}/statistics/training/{run}/manifest.json" for run in RUNS]


def compared_trainings():
    """Run, variant, seed and baseline of every training."""
    baselines = STUDY_CONFIG.pretraining.baselines
    return [
        {"run": run.name, "variant": run.variant, "seed": seed, "baseline": baselines[run.name]}
        for run, seed in TRAINED.values()
    ]


def judged_models():
    """Name and role of every model, and what a trained one is."""
    fetched = [
        {"name": m.name, "role": "random" if m.kind == "random" else "pretrained"} for m in MODELS.values()
    ]
    return fetched + [
        {
            "name": name,
            "role": "trained",
            "run": run.name,
            "variant": run.variant,
            "seed": seed,
            "reading": VARIANTS[run.variant].reading(run.options),
        }
        for name, (run, seed) in STUDY_CONFIG.studied.items()
    ]
