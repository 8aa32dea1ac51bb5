"""The card of a model that a study trained, in the form of the Hugging Face hub."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sinkorigin.claims.row_texts import number
from sinkorigin.publish.described_study import DescribedStudy
from sinkorigin.publish.markdown import escaped, quoted, table

# quantities of pretraining_by_seed.parquet that a card tells, in this order; the others are in the table
_TOLD = (
    "validation_loss", "train_loss", "sink_mass", "sink_rate", "variance_ratio", "dimension_disparity", "effective_rank",
)  # fmt: skip


def model_card(study: DescribedStudy, model: str, files: Iterable[Mapping[str, Any]], weights: str) -> ModelCard:
    """The card of one model.

    Args:
        model: name of a model that the study trained.
        files: name, bytes and sha256 of each of its files.
        weights: a sentence that says whether the weights lie beside the card.
    """
    provenance = study.provenance[model]
    training, computed, seed = provenance["training"], provenance["computed"], provenance["seed"]
    run = training["name"]
    settings = _run(study, run)
    [facts] = [row for row in study.trainings if (row["run"], row["seed"]) == (run, seed)]
    measured = [row for row in study.measured if (row["run"], row["seed"]) == (run, seed)]
    data = _data(study, settings["data"])
    baseline = next((row["baseline"] for row in measured if row["baseline"] not in (None, run)), None)
    metadata = ModelCardData(
        license=study.licence.lower(),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["attention-sink", "interpretability", f"attention:{training['variant']}", "research"],
        model_name=provenance["label"],
        eval_results=_results(measured, data["name"]),
    )
    rest = "" if baseline is None else f" It is compared with the run {quoted(baseline)}."
    text = f"""# {escaped(provenance["label"])}

A decoder of {facts["parameters"]:,} parameters, trained from scratch on {facts["tokens"]:,} tokens by the study {quoted(study.name)} to
ask how an attention variant changes attention sinks. It is one of {len(study.trainings)} trainings of that study.{rest}

**What it is for.** Measuring attention in the study's own terms, and making its tables again. **What it is not for.** Anything else: it
is far too small and was trained on far too little text to write, answer, classify or advise, and nothing was done about what its data
say.

## Architecture and training

A Llama-shaped decoder with the attention variant {quoted(training["variant"])} (docs/variants.md of the workflow defines it).

{table(("setting", "value"), _settings(training, computed))}

## Data

{_data_text(study, data)}

## What was measured

{table(("quantity", "prompts", "first token", "value", "unit"), _measured(measured))}

Values of this seed. Means over seeds, differences to the baseline with their intervals, and all other quantities are in
{quoted("statistics/pretraining_comparison.parquet")}; the verdicts that they give are in {quoted("claims.parquet")}.

## Files

{weights}

{table(("file", "bytes", "sha256"), [(quoted(file["name"]), f"{file['bytes']:,}", quoted(file["sha256"])) for file in files])}

## Load it

{_loading(training["variant"])}

## Made by

{study.software}, licence {study.citation["license"]}; {", ".join(f"{name} {version}" for name, version in study.versions.items())}.
"""
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}", ignore_metadata_errors=False)


def _run(study: DescribedStudy, run: str) -> Mapping[str, Any]:
    [settings] = [one for one in study.config["pretraining"]["runs"] if one["name"] == run]
    return settings


def _data(study: DescribedStudy, name: str) -> Mapping[str, Any]:
    [data] = [one for one in study.config["pretraining"]["data"] if one["name"] == name]
    return data


def _data_text(study: DescribedStudy, data: Mapping[str, Any]) -> str:
    """What a model was trained on."""
    corpus = data.get("corpus") or study.config["corpus"]
    source = quoted(corpus["source"]) + (f" (sha256 {quoted(corpus['sha256'])})" if corpus.get("sha256") else "")
    if data["kind"] == "text":
        tokenizer = data.get("tokenizer")
        tokens = (
            f"the tokenizer {quoted(tokenizer)}"
            if tokenizer
            else f"a byte-pair vocabulary of {data['vocabulary']:,} trained on them"
        )
        share = f"{100 * corpus['validation_share']:g} %"
        return f"The training documents of the corpus {source}, in {tokens}; {share} of the documents are held out."
    return (
        f"A synthetic stream ({quoted(data['kind'])}) of {data['tokens']:,} tokens over a vocabulary of {data['vocabulary']}, "
        "made from the "
        f"statistics of the corpus {source} with seed {data['seed']}: after one of {data['triggers']} triggers comes a copy of "
        "the token "
        "before it."
    )


def _settings(training: Mapping[str, Any], computed: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = {
        name: value for name, value in training.items() if name not in ("name", "keep", "options", "initialisation")
    }
    nested = {
        **training["options"],
        **{f"initialisation: {name}": value for name, value in training["initialisation"].items()},
    }
    done = {f"computed: {name}": value for name, value in computed.items()}
    return [(name.replace("_", " "), str(value)) for name, value in {**told, **nested, **done}.items()]


def _told(measured: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    rows = [row for row in measured if row["quantity"] in _TOLD and row["value"] is not None]
    return sorted(rows, key=lambda row: _TOLD.index(row["quantity"]))


def _name(row: Mapping[str, Any]) -> str:
    return row["quantity"].replace("_", " ") + (f", ε = {row['epsilon']:g}" if row["epsilon"] is not None else "")


def _measured(measured: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (_name(row), row["prompts"] or "–", row["first_token"] or "–", number(row["value"]), row["unit"])
        for row in _told(measured)
    ]


def _results(measured: Sequence[Mapping[str, Any]], data: str) -> list[EvalResult]:
    """What the hub shows beside a model: the same numbers as the card's table."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="generated" if row["prompts"] else "held-out",
            dataset_name=row["prompts"] or f"{data}, validation split",
            metric_type=row["quantity"],
            metric_name=_name(row),
            metric_value=row["value"],
        )
        for row in _told(measured)
    ]


def _loading(variant: str) -> str:
    if variant == "softmax":
        return "Plain softmax attention, so that any version of transformers that knows Llama loads it with `AutoModelForCausalLM`."
    return (
        f"transformers alone does not know the model type {quoted(f'{variant}_llama')} and refuses it; with the library of the "
        "workflow, "
        f"`sinkorigin.load_model(folder)` loads it, and after `sinkorigin.variants.{variant}.VARIANT.register()` so does "
        "`AutoModelForCausalLM`."
    )
