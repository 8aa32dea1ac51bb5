"""The anatomy of a model's sink, from prompts that are drawn for it: the model card that the workflow makes, in a notebook."""

import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from transformers import PreTrainedModel

from sinkorigin import tables
from sinkorigin.corpora.prompts import (
    bos_token_id,
    fixed_token_id,
    ids_without_tokenizer,
    ordinary_token_ids,
    random_tokens,
    with_first_token,
)
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.entries import applicable, edits_of
from sinkorigin.interventions.kind import SHOWN_POSITION, SHOWN_STRENGTH
from sinkorigin.interventions.resolution import SCHEMA as RESOLVED
from sinkorigin.interventions.resolution import Known, missing_sites, resolve, structure_of
from sinkorigin.interventions.sweep import Sweep, measure_baseline, run_sweeps
from sinkorigin.models.shapes import check_prompt_length, text_config
from sinkorigin.notebook.measure import (
    Measurement,
    architecture_of,
    cores_for,
    figure_named,
    left_as_it_was,
    measure_into,
    model_name,
    vocabulary_of,
)
from sinkorigin.notebook.settings import Settings
from sinkorigin.sites.architecture import Architecture
from sinkorigin.statistics import anatomy as statistic
from sinkorigin.statistics import interventions

# those that the card is read from, and the variance, which tells the conditions apart
_STATISTICS = ("sinks", "first_positions", "norms", "disparity", "super_neurons", "variance")
_NO_BOS = "the model has no BOS token"


def anatomy(
    model: PreTrainedModel | Architecture,
    tokenizer: Any = None,
    *,
    sequences: int = 24,
    length: int = 64,
    seed: int = 0,
    position: int | None = None,
    strength: float = SHOWN_STRENGTH,
    name: str | None = None,
    batch: int = 8,
    workers: int | None = None,
    **settings: Any,
) -> "Anatomy":
    """Where a model's sink begins, what carries it, whether it belongs to the position or to a token, and what makes a new one.

    >>> print(sinkorigin.anatomy(model, tokenizer))

    Random tokens are drawn and measured under the three conditions of the first token, and position ``position`` is edited
    where the first token is drawn, in the layers before the sink begins: it attends to itself only (mask), and its variance over
    sequences is amplified. The model is left as it was.

    Args:
        model: a causal language model; or its :class:`Architecture`.
        tokenizer: says which tokens are ordinary, and which one is BOS; without, the model's config does.
        sequences, length, seed: of the prompts.
        position: the edited one; by default the paper's 10, or the middle of shorter prompts.
        strength: λ of the amplification.
        name: of the model, in the card and in the tables; by default its path or class.
        batch, workers, settings: as in :func:`sinkorigin.measure`.

    Returns:
        An :class:`Anatomy`, which prints as a card.

    Raises:
        SinkoriginError: as in :func:`sinkorigin.measure`; or the prompts are too few or too short for the edits.
    """
    chosen = Settings.of(settings)
    name = name or model_name(model)
    position = min(SHOWN_POSITION, length // 2) if position is None else position
    if sequences < 2 or length < 4 or not 0 < position < length - 1:
        raise SinkoriginError(
            f"anatomy needs sequences of 2 or more, length of 4 or more, and a position of 1 to length − 2 to edit, not {sequences}, "
            f"{length} and {position}; change these"
        )
    module = model.model if isinstance(model, Architecture) else model
    prompts = _prompts(module, tokenizer, sequences, length, seed, name)
    found: dict[str, dict[str, pa.Table]] = {}
    with left_as_it_was(model), tempfile.TemporaryDirectory(prefix="sinkorigin-") as place:
        folder, architecture = Path(place), architecture_of(model, name)
        common: dict[str, Any] = {"name": name, "batch": batch, "workers": workers}
        for condition, ids in prompts.items():
            found[condition] = measure_into(
                folder / condition,
                architecture,
                ids,
                chosen,
                prompts=condition,
                first_token=condition,
                statistics=_STATISTICS,
                tokenizer=tokenizer,
                **common,
            )
        place_of = {condition: folder / "statistics" / condition for condition in statistic.CONDITIONS}
        for condition, written in place_of.items():
            _write(written, found.get(condition))
        found["drawn"] |= _edited(
            folder / "interventions",
            architecture,
            prompts["drawn"],
            chosen,
            entries=_entries(position, strength),
            parts=pl.DataFrame(found["drawn"]["architecture"]),
            sink_onset=place_of["drawn"] / "sink_onset.parquet",
            **common,
        )
        table = _table(place_of, found["drawn"], name)
    measured = {condition: Measurement(part, name, prompts[condition].shape) for condition, part in found.items()}
    return Anatomy(name, pl.DataFrame(table), measured)


@dataclass(frozen=True)
class SuperNeuron:
    """FFN neuron that fires for the first token alone, and the share of that token's FFN output that it carries."""

    layer: int
    neuron: int
    share: float


@dataclass(frozen=True)
class Conversion:
    """In how many sequences an edited position became a sink, with the exact binomial 95 % interval of their share."""

    layers: list[int]
    target: int
    strength: float
    sequences: int
    converted: int
    share: float
    share_low: float
    share_high: float


class Anatomy:
    """Model card of an attention sink; printed, it is a text of a few lines.

    Attributes:
        model: name of the model.
        table: the table ``anatomy`` of the workflow, one row for each condition of the first token.
        measurements: condition (drawn, bos, fixed) → :class:`Measurement`, the tables behind the card; that of drawn first tokens
            has those of the interventions too.
        onset: first layer with a sink, under drawn first tokens as all that follows; None where no layer has one.
        surges: layers at which the norm of the first token rises.
        super_neurons: those that carry most of the norm first.
        dominating_dims: of the first token's residual stream.
        sinks: condition → mean sink mass over layers; a model without BOS has no "bos".
        mask, amplification: what the two edits convert.
    """

    def __init__(self, model: str, table: pl.DataFrame, measurements: Mapping[str, Measurement]):
        self.model, self.table, self.measurements = model, table, dict(measurements)
        row = statistic.main_row(table)
        self.onset: int | None = row["onset"]
        self.surges: list[int] = row["surges"]
        neurons = zip(row["super_neuron_layers"], row["super_neurons"], row["super_neuron_shares"], strict=True)
        self.super_neurons = [SuperNeuron(*one) for one in neurons]
        self.dominating_dims: list[int] = row["dominating_dims"]
        self.sinks = dict(table.filter(pl.col("not_applicable").is_null()).select("first_token", "mean_mass").rows())
        self.mask, self.amplification = (_conversion(row, prefix) for prefix in statistic.EDITS)

    def __str__(self) -> str:
        lines = statistic.facts(self.table)
        width = max(map(len, lines))
        return "\n".join(
            [f"Anatomy of the sink of {self.model}", *(f"  {what:<{width}}  {is_}" for what, is_ in lines.items())]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = statistic.facts(self.table).items()
        rows = "".join(f"<tr><th>{html.escape(what)}</th><td>{html.escape(is_)}</td></tr>" for what, is_ in lines)
        return f"<table><caption>Anatomy of the sink of {html.escape(self.model)}</caption>{rows}</table>"

    def plot(self) -> Any:
        """The card as the workflow's figure, of matplotlib: facts, norms and sink mass by layer.

        Raises:
            SinkoriginError: the packages that draw figures are not installed.
        """
        style, draw = figure_named("anatomy")
        shown = {
            table: pl.concat(measured.tables[table] for measured in self.measurements.values())
            for table in ("norm_ratio", "sink_mass")
        }
        return style.shown(draw(anatomy=self.table, labels={self.model: self.model}, **shown))


def _conversion(row: Mapping[str, Any], prefix: str) -> Conversion:
    return Conversion(**{name: row[f"{prefix}_{name}"] for name in Conversion.__dataclass_fields__})


def _prompts(
    model: PreTrainedModel, tokenizer: Any, sequences: int, length: int, seed: int, name: str
) -> dict[str, np.ndarray]:
    """Condition of the first token → (N, T) ids; without those that begin with BOS, where the model has none.

    Raises:
        SinkoriginError: the vocabulary has fewer than two ordinary tokens, or the model has learned fewer positions.
    """
    vocabulary = vocabulary_of(model)
    config = text_config(model.config.to_dict())
    known = (
        ids_without_tokenizer(config, vocabulary) if tokenizer is None else ordinary_token_ids(tokenizer, vocabulary)
    )
    if len(known) < 2:
        raise SinkoriginError(
            f"model {name}: {len(known)} of its tokens are ordinary ones, and random prompts need 2; check the tokenizer"
        )
    check_prompt_length(config, length, model=name, prompts="of the anatomy")
    drawn = random_tokens(known, sequences, length, seed)
    firsts = {"drawn": None, "bos": bos_token_id(tokenizer, config, vocabulary), "fixed": fixed_token_id(known, seed)}
    return {
        condition: with_first_token(drawn, token, shift=False)
        for condition, token in firsts.items()
        if condition == "drawn" or token is not None
    }


def _entries(position: int, strength: float) -> list[dict[str, Any]]:
    """The edits, as entries of the config."""
    place = {"layers": "until_onset", "positions": [position]}
    return [
        {"name": "mask", "kind": "mask", "strengths": [1.0], **place},
        {"name": "variance_amplification", "kind": "variance_amplification", "strengths": [strength], **place},
    ]


def _edited(
    folder: Path,
    architecture: Architecture,
    token_ids: np.ndarray,
    settings: Settings,
    *,
    entries: Sequence[Mapping[str, Any]],
    parts: pl.DataFrame,
    sink_onset: Path,
    name: str,
    batch: int,
    workers: int | None,
) -> dict[str, pa.Table]:
    """Tables of the effects of edits; none where the model has no layers for them.

    Args:
        entries: as the config has them, at one strength each.
        parts: the table ``architecture`` of the model.
        sink_onset: path of the table by which their layers are found.
    """
    known = Known(structure_of(parts, {"sink_onset": sink_onset}), missing_sites(parts), {}, token_ids)
    resolved = resolve(entries, known, model=name, prompts="drawn")
    made = applicable(entries, resolved.to_pylist())
    edits = {key: edits_of(entry, entry["strengths"][0]) for key, entry in made.items()}
    if not edits:
        return {}
    scratch = folder / "unedited"
    scratch.mkdir(parents=True)
    tables.write_table(folder / "resolved.parquet", resolved, RESOLVED)
    with tables.atomic_directory(folder / "baseline") as baseline:
        targets = [k for some in edits.values() for edit in some for k in edit.positions]
        measure_baseline(architecture, token_ids, baseline, targets=targets, model=name, batch=batch)
    run_sweeps(
        architecture,
        token_ids,
        {folder / "edited" / key / "strength": Sweep(key, some) for key, some in edits.items()},
        sequences=len(token_ids),
        model=name,
        batch=batch,
        workers=min(len(edits), workers or cores_for(architecture, len(edits))),
        scratch=scratch,
        folder_of=tables.atomic_directory,
    )
    return interventions.compute(
        {
            "baseline": str(folder / "baseline" / tables.MANIFEST),
            "edited": str(folder / "edited" / tables.LIST),
            "resolved": str(folder / "resolved.parquet"),
        },
        model=name,
        prompts="drawn",
        length=token_ids.shape[1],
        resampling=settings.resampling,
        comparison_replicates=settings.comparison_replicates,
        only=None,
    )


def _write(folder: Path, found: Mapping[str, pa.Table] | None) -> None:
    """Write the tables that the anatomy is read from; None: the model has no such prompts."""
    for table in statistic.READS:
        if found is None:
            tables.write_not_applicable(folder / f"{table}.parquet", _NO_BOS)
        else:
            tables.write_table(folder / f"{table}.parquet", found[table], found[table].schema)


def _table(place_of: Mapping[str, Path], edited: Mapping[str, pa.Table], name: str) -> pa.Table:
    """The table ``anatomy``, by the workflow's statistic, which reads files.

    Args:
        place_of: condition of the first token → folder of its tables.
        edited: tables of the condition that is edited.
    """
    inputs = {table: [str(place / f"{table}.parquet") for place in place_of.values()] for table in statistic.READS}
    inputs["conversions"] = []
    if "conversions" in edited:
        path = place_of["drawn"] / "conversions.parquet"
        tables.write_table(path, edited["conversions"], edited["conversions"].schema)
        inputs["conversions"].append(str(path))
    conditions = list(place_of)
    return statistic.compute(inputs, model=name, prompts=conditions, first_tokens=conditions)["anatomy"]
