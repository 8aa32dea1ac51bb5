"""The statistics of a model on prompts that are in memory, by the extraction and the statistics of the workflow."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from sinkorigin import tables
from sinkorigin.activations import pipeline
from sinkorigin.corpora.prompts import bos_token_id, write_prompts
from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.models.shapes import check_prompt_length, text_config
from sinkorigin.notebook.settings import SITES, Settings, kept
from sinkorigin.notebook.token_ids import read_token_ids
from sinkorigin.sites.architecture import Architecture, read_architecture
from sinkorigin.statistics import (
    disparity,
    effective_rank,
    first_positions,
    keys,
    matrix_entropy,
    norms,
    row_sinks,
    secondary_sinks,
    sinks,
    super_neurons,
    super_weight,
    value_drain,
    variance,
    variance_through_output,
)
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.weights import weight_tables

# of a model on a prompt set: each is a module of ``sinkorigin.statistics``, whose ``TABLES`` it makes
STATISTICS = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        sinks, first_positions, secondary_sinks, norms, disparity, super_neurons, variance, variance_through_output, keys,
        effective_rank, value_drain, matrix_entropy, super_weight, row_sinks,
    )
}  # fmt: skip
_OF_SEQUENCES = ("variance", "variance_through_output")
_ONE_SEQUENCE = "a variance over sequences needs two sequences or more, and one was measured"


def measure(
    model: PreTrainedModel | Architecture,
    token_ids: Any,
    *,
    tokenizer: Any = None,
    statistics: Sequence[str] | None = None,
    sites: Mapping[str, Sequence[int] | None] = SITES,
    name: str | None = None,
    prompts: str = "prompts",
    documents: Sequence[str] | None = None,
    batch: int = 8,
    workers: int | None = None,
    **settings: Any,
) -> "Measurement":
    """Measure the attention sinks of a model, and what the paper derives them from, on some prompts.

    >>> measured = sinkorigin.measure(model, tokenizer(texts, return_tensors="pt", padding=True))
    >>> measured.sink_mass  # share of attention on position 0, by layer

    These are the tables that the workflow computes for a model on a prompt set, by the same code. The model is left as it was.

    Args:
        model: a causal language model, on any device and in any precision; or its :class:`Architecture`, so that it is not
            probed again.
        token_ids: sequences of token ids: lists, an (N, T) array or tensor, or what a tokenizer returns. Padding that the
            ``attention_mask`` hides is taken away, and longer sequences are cut to the shortest, with a warning.
        tokenizer: names the tokens of secondary sinks; without, they are called by their ids.
        statistics: those to compute, of ``STATISTICS``; by default all. The effective rank takes longest in wide models.
        sites: sites whose variance is measured → positions at which it is, None for all. It takes value_aggregation and
            output_projection_output to say what the output projection keeps of it.
        name, prompts: the first columns of every table; by default the model is called by its path or class.
        documents: name of the document that each sequence is a window of: intervals then resample documents, since windows of one text are
            not independent. By default the sequences count as independent.
        batch: sequences in one forward pass, which bounds memory.
        workers: batches that are run at the same time, each on one CPU thread; by default as many as PyTorch has threads, on a
            GPU one. The tables do not depend on it.
        **settings: of :class:`sinkorigin.notebook.settings.Settings`, such as ``replicates`` or ``onset_mass``.

    Returns:
        A :class:`Measurement`, with each table as an attribute.

    Raises:
        SinkoriginError: the class of the model is not supported, see :func:`sinkorigin.read_architecture`; an activation is not
            finite; the token ids cannot be read, see :func:`sinkorigin.notebook.token_ids.read_token_ids`; or there is no such
            setting.
    """
    chosen = Settings.of(settings)
    for one in statistics or ():
        if one not in STATISTICS:
            raise SinkoriginError(f"there is no statistic {one!r}; choose of {listed(STATISTICS, len(STATISTICS))}")
    name = name or model_name(model)
    ids = read_prompts(model, token_ids, name)
    if documents is not None and len(documents) != len(ids):
        raise SinkoriginError(
            f"documents names {len(documents)} documents, but there are {len(ids)} sequences; give one for each"
        )
    resampling = chosen.resampling if documents is None else Resampling.over(chosen.replicates, chosen.seed, documents)
    with left_as_it_was(model), tempfile.TemporaryDirectory(prefix="sinkorigin-") as folder:
        architecture = architecture_of(model, name, sites)
        found = measure_into(
            Path(folder),
            architecture,
            ids,
            chosen,
            statistics=statistics,
            sites=sites,
            name=name,
            prompts=prompts,
            first_token=_condition_of(architecture.model, ids, tokenizer),
            tokenizer=tokenizer,
            batch=batch,
            workers=workers,
            resampling=resampling,
        )
    return Measurement(found, name, ids.shape)


class Measurement:
    """Statistics of one model on one set of prompts; each table is an attribute, a polars frame.

    ``dir()`` lists the tables; ``schema(table)`` says what the columns mean.

    Attributes:
        tables: name → frame.
        model: name of the model.
        sequences, length: N and T of the prompts, as they were run.
    """

    def __init__(self, found: Mapping[str, pa.Table], model: str, shape: tuple[int, ...]):
        self.model = model
        self.sequences, self.length = shape
        self.tables = {name: pl.DataFrame(table) for name, table in found.items()}
        self._schemas = {name: table.schema for name, table in found.items()}

    def __getattr__(self, name: str) -> pl.DataFrame:
        found = self.__dict__.get("tables", {})  # empty while a copy is made
        if name not in found:
            statistic = next((one for one, module in STATISTICS.items() if name in module.TABLES), None)
            if statistic in _OF_SEQUENCES and self.__dict__.get("sequences") == 1:
                raise AttributeError(f"there is no table {name}: {_ONE_SEQUENCE}")
            if statistic is not None:
                raise AttributeError(f"there is no table {name}: the statistic {statistic} was not computed")
            raise AttributeError(f"there is no table {name!r}; the tables are {listed(found, len(found))}")
        return found[name]

    def __dir__(self):
        return sorted([*super().__dir__(), *self.tables])

    def __repr__(self) -> str:
        shape = f"{self.sequences} sequence{'s' if self.sequences > 1 else ''} of {self.length} tokens"
        return f"Measurement of {self.model} on {shape}: {', '.join(self.tables)}"

    def schema(self, table: str) -> dict[str, str]:
        """Column → what it means, of a table."""
        getattr(self, table)  # says which there are
        return {field.name: field.metadata[b"description"].decode() for field in self._schemas[table]}

    def plot(self) -> Any:
        """A matplotlib figure of the norm of the first token and the sink mass, layer by layer.

        Raises:
            SinkoriginError: the packages that draw figures are not installed.
        """
        style, draw = figure_named("norm_and_sink_by_layer")
        shown = (self.norm_ratio, self.norm_surge, self.sink_mass, self.sink_onset)
        names = ("norm_ratio", "norm_surge", "sink_mass", "sink_onset")
        return style.shown(draw(**dict(zip(names, shown, strict=True)), labels={self.model: self.model}))


def figure_named(name: str):
    """The module of the figures' style, and the function that draws one of the workflow's figures.

    Raises:
        SinkoriginError: the packages that draw figures are not installed.
    """
    from importlib import import_module

    try:
        return import_module("sinkorigin.figures.style"), import_module(f"sinkorigin.figures.{name}").draw
    except ModuleNotFoundError as error:
        raise SinkoriginError(
            f'figures need the package {error.name}, which is not installed; run pip install "sinkorigin[figures]"'
        ) from error


def model_name(model: PreTrainedModel | Architecture) -> str:
    """The last part of where a model was loaded from, or its class."""
    module = model.model if isinstance(model, Architecture) else model
    return Path(str(getattr(module.config, "_name_or_path", "") or type(module).__name__)).name


def vocabulary_of(model: PreTrainedModel) -> int:
    """Number of rows of the model's embedding."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return model.config.get_text_config(decoder=True).vocab_size if weight is None else weight.shape[0]


def architecture_of(
    model: PreTrainedModel | Architecture, name: str, sites: Mapping[str, Sequence[int] | None] = SITES
) -> Architecture:
    """The model's sites, those whose variance is measured among them."""
    return model if isinstance(model, Architecture) else read_architecture(model, name, list(sites))


def read_prompts(model: PreTrainedModel | Architecture, token_ids: Any, name: str) -> np.ndarray:
    """(N, T) ids that the model can run; see :func:`read_token_ids`.

    Raises:
        SinkoriginError: they cannot be read, or are longer than the positions that the model has learned.
    """
    module = model.model if isinstance(model, Architecture) else model
    config = text_config(module.config.to_dict())
    padding = config.get("pad_token_id")
    ids = read_token_ids(
        token_ids,
        vocabulary=vocabulary_of(module),
        padding_id=padding if isinstance(padding, int) else None,
    )
    check_prompt_length(config, ids.shape[1], model=name, prompts="token_ids")
    return ids


def _condition_of(model: PreTrainedModel, token_ids: np.ndarray, tokenizer: Any) -> str:
    """Condition of the first token of (N, T) ids: drawn, bos or fixed."""
    first = np.unique(token_ids[:, 0])
    if len(first) > 1:
        return "drawn"
    if first[0] == bos_token_id(tokenizer, text_config(model.config.to_dict()), vocabulary_of(model)):
        return "bos"
    return "fixed" if len(token_ids) > 1 else "drawn"


@contextmanager
def left_as_it_was(model: PreTrainedModel | Architecture) -> Iterator[None]:
    """Run the model in evaluation mode inside the block; afterwards its modules and PyTorch's threads are as before."""
    module = model.model if isinstance(model, Architecture) else model
    training = {part: part.training for part in module.modules()}
    threads = torch.get_num_threads()
    module.eval()
    try:
        yield
    finally:
        for part, was in training.items():
            part.training = was
        torch.set_num_threads(threads)  # workers set one


def cores_for(architecture: Architecture, batches: int) -> int:
    """Batches that are run at the same time where the caller does not say."""
    if architecture.device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), os.cpu_count() or 1, batches))


def measure_into(
    folder: Path,
    architecture: Architecture,
    token_ids: np.ndarray,
    settings: Settings,
    *,
    statistics: Sequence[str] | None = None,
    sites: Mapping[str, Sequence[int] | None] = SITES,
    name: str,
    prompts: str,
    first_token: str,
    tokenizer: Any,
    batch: int,
    workers: int | None,
    resampling: Resampling | None = None,
) -> dict[str, pa.Table]:
    """Run (N, T) ids and compute every statistic of a model on a prompt set, by way of files in ``folder``.

    Returns:
        Name → table, as the workflow calls them.
    """
    extraction = {table: str(folder / f"{table}.parquet") for table in pipeline.TABLES}
    pipeline.extract(
        architecture,
        token_ids,
        model=name,
        sites={site: kept(positions, token_ids.shape[1]) for site, positions in sites.items()},
        batch=batch,
        activations=folder,
        scores=extraction["scores"],
        workers=workers or cores_for(architecture, -(-len(token_ids) // batch)),
    )
    weights = weight_tables(architecture, model=name)
    for table, content in weights.items():
        extraction[table] = str(folder / f"{table}.parquet")
        tables.write_table(extraction[table], content, content.schema)
    extraction["prompts"] = str(folder / "prompts.parquet")
    write_prompts(extraction["prompts"], token_ids, tokenizer)
    found = {"architecture": tables.read_table(extraction["architecture"]), **weights}
    extraction |= {site: str(folder / site / tables.MANIFEST) for site in sites}
    inputs: dict[str, Any] = {**extraction, "sites": [extraction[site] for site in sites]}
    options = _options(settings, resampling or settings.resampling, list(sites), token_ids.shape[1], first_token)
    lacking = (
        set() if {"value_aggregation", "output_projection_output"} <= sites.keys() else {"variance_through_output"}
    )
    lacking |= set(_OF_SEQUENCES) if len(token_ids) < 2 else set()
    with np.errstate(divide="ignore", invalid="ignore"):  # what few sequences leave undefined is null in the tables
        for statistic, module in STATISTICS.items():
            if statistic not in lacking and (statistics is None or statistic in statistics):
                found |= module.compute(inputs, model=name, prompts=prompts, **options[statistic])
    return found


def _options(
    settings: Settings, resampling: Resampling, sites: list[str], length: int, first_token: str
) -> dict[str, dict[str, Any]]:
    """Statistic → its settings, as its rule in rules/statistics.smk gives them."""
    bootstrap: dict[str, Any] = {"resampling": resampling}
    return {
        "sinks": {
            **bootstrap, "length": length, "epsilons": settings.epsilons, "onset_mass": settings.onset_mass, "change_mass": settings.change_mass,
        },
        "first_positions": {**bootstrap, "length": length, "first_token": first_token},
        "secondary_sinks": bootstrap,
        "norms": {**bootstrap, "surge_ratio": settings.surge_ratio, "change_factor": settings.change_factor},
        "disparity": bootstrap,
        "super_neurons": {
            **bootstrap, "share": settings.super_neuron_share, "ratio": settings.super_neuron_ratio,
        },
        "variance": {**bootstrap, "sites": sites},
        "variance_through_output": bootstrap,
        "keys": bootstrap,
        "effective_rank": {},
        "value_drain": {**bootstrap, "onset_mass": settings.onset_mass},
        "matrix_entropy": bootstrap,
        "super_weight": bootstrap,
        "row_sinks": {**bootstrap, "epsilons": settings.epsilons},
    }  # fmt: skip
