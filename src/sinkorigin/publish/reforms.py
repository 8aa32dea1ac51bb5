"""The checklist of REFORMS, filled in for a study.

Source of the items: Kapoor et al., "REFORMS: Consensus-based Recommendations for Machine-learning-based Science", Science Advances 10
(2024), doi:10.1126/sciadv.adk3452, Table 1. Their numbers are its; their names here are short ones of this project, so that the checklist is read
beside it. Each answer is made from the study's settings and tables, or says why the item does not apply.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.publish.described_study import DescribedStudy
from sinkorigin.publish.markdown import escaped, joined, quoted, table

_NO_TRAININGS = "Not applicable: the study trains no model."
_NO_TEXT = "Not applicable: the study reads no text."


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        code: its number in REFORMS.
        name: what it asks for, in short.
        answer: study → the answer, in Markdown.
    """

    code: str
    name: str
    answer: Callable[[DescribedStudy], str]


def _labels(study: DescribedStudy, role: str) -> str:
    return joined(escaped(model["label"]) for model in study.of_role(role))


def _population(study: DescribedStudy) -> str:
    parts = [f"claims about {_labels(study, 'pretrained')}"] if study.of_role("pretrained") else []
    parts += [f"claims about random weights: {_labels(study, 'random')}"] if study.of_role("random") else []
    parts += (
        [f"claims about {len(study.trainings)} trainings of {_runs(study)} runs at this size"]
        if study.trainings
        else []
    )
    prompts = joined(one["name"] for one in study.config["prompts"])
    return (
        f"Each verdict is about one model on one prompt set: {'; '.join(parts)}; prompt sets {prompts}. No verdict is about "
        "other models."
    )


def _runs(study: DescribedStudy) -> int:
    return len({row["run"] for row in study.trainings})


def _why_population(study: DescribedStudy) -> str:
    return (
        f'The claims are those of "{study.paper["title"]}" ({study.paper["url"]}), which are stated for causal decoders in general; the study '
        "tests them in the models that its config names, and beside each fetched model in the same architecture with random "
        "weights, "
        "which tells what training adds. Why these models and no others is for who wrote the config to say."
    )


def _why_learning(study: DescribedStudy) -> str:
    trained = f" The {len(study.trainings)} trainings are experiments on training itself." if study.trainings else ""
    return f"Trained language models are what is studied, not an instrument for something else.{trained}"


def _data(study: DescribedStudy) -> str:
    corpora = [
        quoted(corpus["source"]) + (f", sha256 {quoted(corpus['sha256'])}" if corpus.get("sha256") else "")
        for corpus in study.corpora
    ]
    text = f"Text: {'; '.join(corpora)}. " if corpora else ""
    models = [
        f"{escaped(facts['label'])}: {quoted(_source(facts))}"
        for facts in study.provenance.values()
        if facts["weights"] == "pretrained"
    ]
    fetched = f"Models: {'; '.join(models)}. " if models else ""
    return f"{text}{fetched}Everything that is fetched is pinned by version or commit, and compared with its hash."


def _text_sources(study: DescribedStudy) -> str:
    return joined(dict.fromkeys(quoted(corpus["source"]) for corpus in study.corpora))


def _source(facts) -> str:
    """Source of a fetched model: a list of packages that hold it in parts is one source."""
    source = facts["source"]
    return source if isinstance(source, str) else ", ".join(source)


def _code(study: DescribedStudy) -> str:
    return (
        f"{study.software}, of which {quoted('code/')} is a copy. {quoted('ro-crate-metadata.json')} has the version of the "
        "code of each job, a "
        "hash of everything that it ran. The workflow has no DOI of its own; the record that this folder is uploaded to gives one."
    )


def _infrastructure(study: DescribedStudy) -> str:
    run = study.run
    gpu = f"{run.gpu_memory / 1000:.1f} GB of a GPU" if run.gpu_memory else "no GPU"
    machines = f" on {joined(run.machines)}" if run.machines else "; the logs do not say on which machine"
    versions = joined(f"{name} {version}" for name, version in study.versions.items())
    when = f", from {run.start:%Y-%m-%d %H:%M} to {run.end:%Y-%m-%d %H:%M} UTC" if run.start and run.end else ""
    return (
        f"{run.jobs} jobs took {run.hours:.2g} hours one after the other{when}{machines}. The largest needed "
        f"{run.memory / 1000:.1f} GB of memory; "
        f"{gpu}. {versions}; all pins are in {quoted('code/requirements.lock')}."
    )


def _sources(study: DescribedStudy) -> str:
    if not study.corpora:
        return _NO_TEXT
    counts = joined(f"{count} {split}" for split, count in study.documents.items())
    counted = f" ({counts} in the corpus of the study)" if study.documents else ""
    return (
        f"Documents as they are in {_text_sources(study)}{counted}. There are no annotations. When and how the texts were "
        "collected is documented at the source, not here. Random tokens are drawn from the vocabulary with a seed."
    )


def _sampling(study: DescribedStudy) -> str:
    sets = [
        f"{one['name']}: {one['sequences']} sequences of {one['length']} tokens, seed {one['seed']}"
        for one in study.config["prompts"]
    ]
    text = " Windows of text are drawn from the held-out documents of the corpus." if study.documents else ""
    return f"{'; '.join(sets)}. Random tokens: uniformly from the ordinary tokens of the vocabulary.{text}"


def _why_data(study: DescribedStudy) -> str:
    return (
        "Random tokens take away meaning and grammar, so that what is left belongs to the structure; text is what models are "
        "trained for. "
        "Both are run where the config has both, under every first token that the model allows (drawn, BOS, fixed)."
    )


def _outcome(study: DescribedStudy) -> str:
    values = [row for row in study.ledger if row["verdict"] != NOT_APPLICABLE]
    return (
        f"No outcome is predicted. What is measured are {len({row['quantity'] for row in values})} quantities, each defined in "
        f"{quoted('claims.parquet')}; {len(values)} values with their 95 % intervals are there, and distributions over layers, "
        "heads and positions "
        f"in {quoted('statistics/')}."
    )


def _sample_size(study: DescribedStudy) -> str:
    prompts = "; ".join(f"{one['name']}: {one['sequences']}" for one in study.config["prompts"])
    trainings = ""
    if study.trainings:
        seeds = sorted(
            {
                len({row["seed"] for row in study.trainings if row["run"] == run})
                for run in {row["run"] for row in study.trainings}
            }
        )
        trainings = f" Trainings: {len(study.trainings)}, with {joined(map(str, seeds))} seeds a run."
    return f"Sequences: {prompts}.{trainings} No classes."


def _missing(study: DescribedStudy) -> str:
    lacking = sum(row["verdict"] == NOT_APPLICABLE for row in study.ledger)
    return (
        f"No job of the study failed: a study with failed jobs is not published. {lacking} of {len(study.ledger)} rows of the "
        "ledger are not "
        "applicable, each with its reason."
    )


def _representative(study: DescribedStudy) -> str:
    text = f"The text is a sample of {_text_sources(study)}, not of language at large. " if study.corpora else ""
    return (
        f"Random tokens are a sample of what they are drawn from. {text}Models are those that were named; the claims are "
        "restricted to them (1a)."
    )


def _exclusions(study: DescribedStudy) -> str:
    taken = "".join(map(_taken, study.corpora))
    return f"{taken}Random tokens leave out special, reserved and padding ids. No sequence is left out after it was measured."


def _taken(corpus: Mapping[str, Any]) -> str:
    """What was taken of a corpus, where that is not all."""
    parts = [f"files that match {quoted(', '.join(corpus['members']))}"] if corpus.get("members") else []
    parts += [f"the first {corpus['documents']} documents"] if corpus.get("documents") else []
    return f"Taken of {quoted(corpus['source'])}: only {joined(parts)}. " if parts else ""


def _corrupt(study: DescribedStudy) -> str:
    failed = sum(row["verdict"] == "failed" for row in study.checks)
    return (
        "Each file is compared with the hash that was recorded when it was written, and was again for this record. Weights that "
        "are not "
        f"finite end a job. Of {len(study.checks)} checks (controls and identities), {failed} failed; "
        f"{quoted('checks.parquet')} has them."
    )


def _transformations(study: DescribedStudy) -> str:
    quantised = [escaped(facts["label"]) for facts in study.provenance.values() if facts.get("quantisation")]
    weights = f" Dequantised weights: {joined(quantised)}." if quantised else ""
    text = "Text is tokenised with each model's own tokenizer and cut into windows. " if study.corpora else ""
    return f"{text}Models run in {study.config['dtype']}.{weights}"


def _models(study: DescribedStudy) -> str:
    fetched = f"Studied as they are: {_labels(study, 'pretrained')}." if study.of_role("pretrained") else ""
    if not study.trainings:
        return f"{fetched} {_NO_TRAININGS}".strip()
    variants = joined(sorted({row["variant"] for row in study.trainings}))
    trained = f"Trained here: {_runs(study)} runs of the attention variants {variants}; {quoted('pretraining/')} has a card for each training."
    return f"{fetched} {trained}".strip()


def _why_models(study: DescribedStudy) -> str:
    if not study.trainings:
        return _NO_TRAININGS
    return (
        f"Each run is compared with the softmax run of its data and size; {quoted('config.yaml')} and the cards have every "
        "setting in which two runs "
        "differ, the learning rate among them."
    )


def _evaluation(study: DescribedStudy) -> str:
    if not study.trainings:
        return _NO_TRAININGS
    shares = joined(
        f"{100 * corpus['validation_share']:g} % of the documents of {quoted(corpus['source'])}"
        for corpus in study.corpora
    )
    return (
        f"Held out from training: {shares}; validation losses and text prompts come from these. Synthetic data have a "
        "stream of their own for validation. With one seed, runs of the same data, length and batch see the same batches in the "
        "same order."
    )


def _selection(study: DescribedStudy) -> str:
    if not study.trainings:
        return _NO_TRAININGS
    return "No model is selected: every seed of every run is measured after its last step, and all are reported."


def _hyperparameters(study: DescribedStudy) -> str:
    if not study.trainings:
        return _NO_TRAININGS
    sweep = study.config["pretraining"]["learning_rates"]
    rates = {run["name"]: run["learning_rate"] for run in study.config["pretraining"]["runs"]}
    told = "; ".join(f"{run} {rate:g}" for run, rate in rates.items())
    return (
        f"All settings are in {quoted('config.yaml')} and on the models' cards. Learning rates: {told}. The workflow's sweep "
        "for them "
        f"(snakemake learning_rates, rates {joined(f'{rate:g}' for rate in sweep['rates'])} unless a run has its own) uses seeds "
        f"{joined(map(str, sweep['seeds']))}, which are none of the compared ones. Whether the rates in this config come from "
        "it is told by "
        f"{quoted('statistics/learning_rates.parquet')} where that is in this folder."
    )


def _baselines(study: DescribedStudy) -> str:
    controls = (
        f"Random weights of the same architecture: {_labels(study, 'random')}. " if study.of_role("random") else ""
    )
    edits = (
        "Edits that are to make or take a sink stand beside control edits. " if study.config["interventions"] else ""
    )
    runs = "Each run has the softmax run of its data and size as baseline. " if study.trainings else ""
    return f"{controls}{edits}{runs}The score of uniform attention stands beside each sink score.".strip()


def _mixing(study: DescribedStudy) -> str:
    if not study.trainings:
        return _NO_TRAININGS
    return (
        "The split is by document and before everything else; tokenizers that are made here are trained on the training "
        "documents. The "
        "sweep for learning rates compares losses on the same held-out documents, with seeds that are none of the compared ones."
    )


def _dependencies(study: DescribedStudy) -> str:
    if not study.corpora:
        return "Random sequences are independent. " + _NO_TEXT
    return (
        "Windows of one document are dependent, so intervals on text resample documents, not windows, and need at least eight. "
        "Duplicate "
        "documents in the corpus are not searched for. Texts of the corpus may be in what fetched models were trained on; no "
        "claim is about "
        "predicting them."
    )


def _features(study: DescribedStudy) -> str:
    return "Not applicable: nothing is predicted from features."


def _metrics(study: DescribedStudy) -> str:
    return (
        "Each claim has one primary quantity and a threshold, declared in the workflow's code before any run; "
        f"{quoted('claims.parquet')} has them, and "
        f"{quoted('code/docs/claims.md')} why they were chosen and what would contradict the claim. {len(study.robustness)} "
        "settings of the claims are in "
        f"{quoted('robustness.parquet')}."
    )


def _uncertainty(study: DescribedStudy) -> str:
    statistics = study.config["statistics"]
    seeds = " Differences between trainings have Student intervals over seeds." if study.trainings else ""
    return (
        f"95 % intervals from {statistics['replicates']} bootstrap replicates over sequences (seed {statistics['seed']}), exact "
        "binomial intervals for "
        f"shares.{seeds} They hold for these prompts and these weights, not for other models."
    )


def _tests(study: DescribedStudy) -> str:
    adjusted = [row for row in study.ledger if row["p_adjusted"] is not None]
    counts = joined(
        f"{sum(row['verdict'] == verdict for row in study.ledger)} {verdict}"
        for verdict in (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_APPLICABLE)
    )
    return (
        "A verdict needs the whole interval on one side of the threshold, and Holm's correction over the primary tests of a "
        "model under one "
        f"first token ({len(adjusted)} p-values): {counts}."
    )


def _external(study: DescribedStudy) -> str:
    tried = [row for row in study.robustness if row["verdict"] != NOT_APPLICABLE]
    holding = sum(row["verdict"] == REPRODUCED for row in tried)
    several = len(study.of_role("pretrained"))
    models = f"{several} pretrained model{'' if several == 1 else 's'}"
    return (
        f"{models}; {len(tried)} further settings (positions, layers, strengths, thresholds, prompts), of which {holding} "
        f"({100 * holding / max(len(tried), 1):.0f} %) hold alone. {quoted('claims_over_models.parquet')} has what the models "
        "say together."
    )


def _limits(study: DescribedStudy) -> str:
    parts = ["other models, other languages and longer contexts than the prompts"]
    if study.trainings:
        largest = max(row["parameters"] for row in study.trainings)
        parts.append(f"trainings beyond {largest:,} parameters")
    if any(facts.get("quantisation") for facts in study.provenance.values()):
        parts.append("the weights as they were before quantisation")
    return f"Not expected to hold, because not tested: {joined(parts)}."


def _readme(study: DescribedStudy) -> str:
    return f"{quoted('README.md')} of this folder, and {quoted('code/README.md')}."


def _script(study: DescribedStudy) -> str:
    return f"{quoted('code/Snakefile')}: `snakemake --cores all --snakefile code/Snakefile --configfile config.yaml`."


MODULES: dict[str, tuple[Item, ...]] = {
    "Study goals": (
        Item("1a", "population of the claims", _population),
        Item("1b", "why this population", _why_population),
        Item("1c", "why machine learning", _why_learning),
    ),
    "Computational reproducibility": (
        Item("2a", "data, identified", _data),
        Item("2b", "code, identified", _code),
        Item("2c", "machines and software", _infrastructure),
        Item("2d", "instructions", _readme),
        Item("2e", "script that makes all results", _script),
    ),
    "Data quality": (
        Item("3a", "sources of the data", _sources),
        Item("3b", "what is sampled from what", _sampling),
        Item("3c", "why these data", _why_data),
        Item("3d", "outcome, with descriptive statistics", _outcome),
        Item("3e", "sample size", _sample_size),
        Item("3f", "missing data", _missing),
        Item("3g", "how representative the data are", _representative),
    ),
    "Data preprocessing": (
        Item("4a", "what is left out", _exclusions),
        Item("4b", "impossible or damaged data", _corrupt),
        Item("4c", "transformations", _transformations),
    ),
    "Modeling": (
        Item("5a", "models", _models),
        Item("5b", "why these models", _why_models),
        Item("5c", "how models are evaluated", _evaluation),
        Item("5d", "how models are selected", _selection),
        Item("5e", "hyperparameters", _hyperparameters),
        Item("5f", "baselines", _baselines),
    ),
    "Data leakage": (
        Item("6a", "training and test data kept apart", _mixing),
        Item("6b", "dependent or duplicate samples", _dependencies),
        Item("6c", "legitimacy of features", _features),
    ),
    "Metrics and uncertainty": (
        Item("7a", "metrics, and why", _metrics),
        Item("7b", "uncertainty", _uncertainty),
        Item("7c", "statistical tests", _tests),
    ),
    "Generalizability and limitations": (
        Item("8a", "evidence of external validity", _external),
        Item("8b", "where the findings are not expected to hold", _limits),
    ),
}


def checklist(study: DescribedStudy) -> str:
    """The checklist, in Markdown."""
    return "\n".join(_lines(study))


def _lines(study: DescribedStudy) -> Iterator[str]:
    yield f"""# REFORMS checklist: {escaped(study.title)}

The items of REFORMS (Kapoor et al., Science Advances 10, eadk3452, 2024, https://doi.org/10.1126/sciadv.adk3452), by their
numbers; read their full wording there. The answers are made from the settings and tables of the study. What only its authors can know is said to be theirs to add.
"""
    for number_, (module, items) in enumerate(MODULES.items(), start=1):
        yield f"## {number_}. {module}\n"
        yield (
            table(("item", "asks for", "answer"), [(item.code, item.name, item.answer(study)) for item in items]) + "\n"
        )
