"""The anatomy of a model's sink, from prompts that are drawn for it: the model card that the workflow makes, in a notebook."""

import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from sinkorigin.interventions.kind import Edit
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification
from sinkorigin.interventions.layers import Structure, until_onset
from sinkorigin.interventions.sweep import Sweep, measure_baseline, run_sweeps
from sinkorigin.models.shapes import text_config
from sinkorigin.notebook.measure import (
    Measurement,
    architecture_of,
    cores_for,
    figure_named,
    left_as_it_was,
    measure_into,
    model_name,
    read_prompts,
)
from sinkorigin.notebook.settings import Settings
from sinkorigin.sites.architecture import Architecture
from sinkorigin.statistics import anatomy as statistic
from sinkorigin.statistics import interventions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_BOS = "the model has no BOS token"


def anatomy(
    model: PreTrainedModel | Architecture,
    tokenizer: Any = None,
    *,
    sequences: int = 24,
    length: int = 64,
    seed: int = 0,
    position: int | None = None,
    strength: float = statistic.STRENGTH,
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
    position = min(statistic.TARGET, length // 2) if position is None else position
    if sequences < 2 or length < 4 or not 0 < position < length - 1:
        raise SinkoriginError(
            f"anatomy needs sequences of 2 or more, length of 4 or more, and a position of 1 to length − 2 to edit, not {sequences}, "
            f"{length} and {position}; change these"
        )
    module = model.model if isinstance(model, Architecture) else model
    prompts = _prompts(module, tokenizer, sequences, length, seed, name)
    prompts = {condition: ids if ids is None else read_prompts(model, ids, name) for condition, ids in prompts.items()}
    found: dict[str, dict[str, pa.Table]] = {}
    with left_as_it_was(model), tempfile.TemporaryDirectory(prefix="sinkorigin-") as place:
        folder, architecture = Path(place), architecture_of(model, name)
        common: dict[str, Any] = {"name": name, "batch": batch, "workers": workers}
        for condition, ids in prompts.items():
            if ids is not None:
                found[condition] = measure_into(
                    folder / condition, architecture, ids, chosen, prompts=condition, tokenizer=tokenizer, **common
                )
        drawn, ids = found["drawn"], prompts["drawn"]
        layers = _early_layers(drawn)
        drawn |= _edited(
            folder / "interventions", architecture, ids, chosen,
            edits=[
                Mask(layers=layers, positions=[position]),
                VarianceAmplification(layers=layers, positions=[position], strength=strength),
            ],
            **common,
        )  # fmt: skip
        table = _table(folder / "statistics", found, name)
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
        measurements: condition (drawn, bos, fixed) → :class:`Measurement`, all tables behind the card; that of drawn first tokens
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

    def plot(self) -> "Figure":
        """The card as the workflow's figure: facts, norms and sink mass by layer.

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
) -> dict[str, np.ndarray | None]:
    """Condition of the first token → (N, T) ids; None where the model lacks the token.

    Raises:
        SinkoriginError: the vocabulary has fewer than two ordinary tokens.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    config = text_config(model.config.to_dict())
    known = (
        ids_without_tokenizer(config, vocabulary) if tokenizer is None else ordinary_token_ids(tokenizer, vocabulary)
    )
    if len(known) < 2:
        raise SinkoriginError(
            f"model {name}: {len(known)} of its tokens are ordinary ones, and random prompts need 2; check the tokenizer"
        )
    drawn = random_tokens(known, sequences, length, seed)
    bos = bos_token_id(tokenizer, config, vocabulary)
    return {
        "drawn": drawn,
        "bos": None if bos is None else with_first_token(drawn, bos, shift=False),
        "fixed": with_first_token(drawn, fixed_token_id(known, seed), shift=False),
    }


def _early_layers(found: Mapping[str, pa.Table]) -> list[int]:
    """Layers before the sink begins."""
    return until_onset(Structure(len(found["sink_mass"]), found["sink_onset"]["layer"][0].as_py())).layers


def _edited(
    folder: Path,
    architecture: Architecture,
    token_ids: np.ndarray,
    settings: Settings,
    *,
    edits: Sequence[Edit],
    name: str,
    batch: int,
    workers: int | None,
) -> dict[str, pa.Table]:
    """Tables of the effects of edits, one intervention each."""
    scratch = folder / "unedited"
    scratch.mkdir(parents=True)
    with tables.atomic_directory(folder / "baseline") as baseline:
        targets = [k for edit in edits for k in edit.positions]
        measure_baseline(architecture, token_ids, baseline, targets=targets, model=name, batch=batch)
    run_sweeps(
        architecture,
        token_ids,
        {folder / "edited" / edit.kind / "strength": Sweep(edit.kind, [edit]) for edit in edits},
        sequences=len(token_ids),
        model=name,
        batch=batch,
        workers=min(len(edits), workers or cores_for(architecture, len(edits))),
        scratch=scratch,
        folder_of=tables.atomic_directory,
    )
    return interventions.compute(
        {"baseline": str(folder / "baseline" / tables.MANIFEST), "edited": str(folder / "edited" / tables.LIST)},
        model=name,
        prompts="drawn",
        interventions=[edit.kind for edit in edits],
        length=token_ids.shape[1],
        comparison_replicates=settings.comparison_replicates,
        **settings.bootstrap,
    )


def _table(folder: Path, found: Mapping[str, Mapping[str, pa.Table]], name: str) -> pa.Table:
    """The table ``anatomy``, by the workflow's statistic, which reads files."""
    inputs: dict[str, list[str]] = {}

    def add(table: str, condition: str) -> None:
        path = folder / condition / f"{table}.parquet"
        if condition in found:
            tables.write_table(path, found[condition][table], found[condition][table].schema)
        else:
            tables.write_not_applicable(path, _NO_BOS)
        inputs.setdefault(table, []).append(str(path))

    for condition in statistic.CONDITIONS:
        for table in statistic.READS:
            add(table, condition)
    add("conversions", "drawn")
    conditions = list(statistic.CONDITIONS)
    return statistic.compute(inputs, model=name, prompts=conditions, first_tokens=conditions)["anatomy"]
