"""Streaming a forward pass's sites into tables, in memory bounded by one batch."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.architecture import Architecture, Place, first_tensor, output_tensor
from sinkorigin.attention import Tap
from sinkorigin.errors import SinkoriginError

MAGNITUDES_SCHEMA = tables.schema(
    site=(pa.string(), "site, as in docs/sites.md"),
    layer=(pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding"),
    sequence=(pa.int32(), "number of the sequence in the prompt table"),
    position=(pa.int32(), "position in the sequence, from 0"),
    norm=(pa.float32(), "Euclidean norm of the vector"),
    mean_abs=(pa.float32(), "mean over dims of the absolute value"),
    max_abs=(pa.float32(), "largest absolute value over dims"),
    max_dim=(pa.int32(), "the dim that has it"),
    width=(pa.int32(), "number of dims"),
)

SCORES_SCHEMA = tables.schema(
    sequence=(pa.int32(), "number of the sequence in the prompt table"),
    layer=(pa.int32(), "layer, counted from 0"),
    head=(pa.int32(), "query head"),
    position=(pa.int32(), "key position k"),
    score=(pa.float32(), "mean of the attention weight A[q, k] over queries q >= k"),
    score_excluding_self=(pa.float32(), "the same over q > k; null at the last position"),
)


def activation_schema(width: int) -> pa.Schema:
    """Schema of one layer of one site: a row for every kept (sequence, position)."""
    return tables.schema(
        sequence=(pa.int32(), "number of the sequence in the prompt table"),
        position=(pa.int32(), "position in the sequence, from 0"),
        activation=(
            pa.list_(pa.field("element", pa.float32(), nullable=False), width),
            "the site's vector; heads are concatenated",
        ),
    )


@dataclass(frozen=True)
class Kept:
    """Which part of a site is kept raw.

    Attributes:
        sequences: the first so many sequences, or None for all of them.
        positions: these positions, or None for all of them.
    """

    sequences: int | None = None
    positions: tuple[int, ...] | None = None


def attention_scores(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sink score of every key position (PAPER.md A1; sail-sg's importance score).

    Args:
        weights: (N, H, T, T) causal attention weights A[q, k].

    Returns:
        score (N, H, T): sum over q >= k of A[q, k] / (T - k); and the same over q > k, / (T - k - 1), which is NaN at
        the last position.
    """
    length = weights.shape[-1]
    counts = torch.arange(length, 0, -1, device=weights.device)  # T - k
    weights = weights.float()
    columns = weights.sum(dim=-2)  # causal: rows above the diagonal are zero
    itself = weights.diagonal(dim1=-2, dim2=-1)
    after = counts - 1
    excluding_self = (columns - itself) / after.clamp_min(1)
    return columns / counts, excluding_self.masked_fill(after == 0, torch.nan)


class _SiteTap(Tap):
    """Hands on what the attention function sees: the tap sites and the scores."""

    def __init__(self, sites: set[str], on_site, on_weights):
        self._sites, self._on_site, self._on_weights = sites, on_site, on_weights

    def observe(self, layer, query, key, weights, aggregation):
        for site, heads in (("value_aggregation", aggregation), ("query", query), ("key", key), ("attention", weights)):
            if site in self._sites:
                self._on_site(layer, site, heads.transpose(1, 2).flatten(2))  # (N, T, H·d)
        self._on_weights(layer, weights)


@contextmanager
def watch_sites(architecture: Architecture, sites: Sequence[str], on_site, on_weights=lambda layer, weights: None):
    """Call ``on_site(layer, site, tensor)`` with every (N, T, width) tensor of ``sites`` as the model runs.

    ``residual`` is also reported for layer -1, the embedding. ``on_weights(layer, weights)`` gets the (N, H, T, T)
    attention weights. Edits by taps that were set earlier are seen.
    """
    handles = []

    def hook(layer: int, site: str, place: Place):
        if place.end == "input":

            def before(module, args, kwargs):
                on_site(layer, site, first_tensor(args, kwargs))

            return place.module.register_forward_pre_hook(before, with_kwargs=True)

        def after(module, args, output):
            on_site(layer, site, output_tensor(output))

        return place.module.register_forward_hook(after)

    try:
        for layer, places in enumerate(architecture.places):
            handles += [hook(layer, site, places[site]) for site in sites if site in places]
        if "residual" in sites:
            handles.append(hook(-1, "residual", Place(architecture.blocks[0], "input")))
        with architecture.tapped(_SiteTap(set(sites), on_site, on_weights)):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Background:
    """Runs writes in order on one thread beside the forward pass; at most ``depth`` wait, which bounds memory."""

    def __init__(self, depth: int):
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future] = []
        self._depth = depth

    def submit(self, task, *args) -> None:
        while len(self._waiting) >= self._depth:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(task, *args))

    def finish(self) -> None:
        while self._waiting:
            self._waiting.pop(0).result()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pool.shutdown(wait=True, cancel_futures=True)


def _magnitudes(site: str, layer: int, first: int, values: Tensor) -> dict:
    """Rows of the magnitudes table for one (N, T, width) tensor."""
    sequences, length, width = values.shape
    absolute = values.abs()
    max_abs, max_dim = absolute.max(dim=-1)
    rows = sequences * length
    return {
        "site": pa.array([site]).take(pa.array(np.zeros(rows, dtype=np.int32))),
        "layer": np.full(rows, layer, dtype=np.int32),
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), length),
        "position": np.tile(np.arange(length, dtype=np.int32), sequences),
        "norm": torch.linalg.vector_norm(values, dim=-1).reshape(-1).numpy(),
        "mean_abs": absolute.mean(dim=-1).reshape(-1).numpy(),
        "max_abs": max_abs.reshape(-1).numpy(),
        "max_dim": max_dim.reshape(-1).to(torch.int32).numpy(),
        "width": np.full(rows, width, dtype=np.int32),
    }


def _score_rows(layer: int, first: int, weights: Tensor) -> dict:
    score, excluding_self = (part.numpy() for part in attention_scores(weights))
    sequences, heads, length = score.shape
    rows = sequences * heads * length
    after = excluding_self.reshape(-1)
    return {
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), heads * length),
        "layer": np.full(rows, layer, dtype=np.int32),
        "head": np.tile(np.repeat(np.arange(heads, dtype=np.int32), length), sequences),
        "position": np.tile(np.arange(length, dtype=np.int32), sequences * heads),
        "score": score.reshape(-1),
        "score_excluding_self": pa.array(after, mask=np.isnan(after)),
    }


def extract(
    architecture: Architecture,
    token_ids: np.ndarray,
    *,
    model: str,
    sites: Mapping[str, Kept],
    batch: int,
    activations: str | Path,
    scores: str | Path,
) -> None:
    """Run ``token_ids`` through the model and write its activations, their magnitudes, and the attention scores.

    Args:
        architecture: the model's sites.
        token_ids: (N, T) ids.
        model: the model's name, for messages.
        sites: site → the part of it that is kept raw; magnitudes are written for all of it.
        batch: sequences in one forward pass.
        activations: directory that gets ``{site}/layer={layer}/part-0.parquet`` with a manifest a site, and
            ``magnitudes.parquet``.
        scores: path of the attention-score table.

    Raises:
        SinkoriginError: a site is not there in this model, or an activation is not finite.
    """
    architecture.require(sites, model)
    activations = Path(activations)
    length = token_ids.shape[1]
    positions = {
        site: np.arange(length) if kept.positions is None else np.array(kept.positions) for site, kept in sites.items()
    }
    first = 0  # number of the batch's first sequence
    writers: dict[tuple[str, int], pq.ParquetWriter] = {}

    with ExitStack() as stack:
        folders = {site: stack.enter_context(tables.atomic_directory(activations / site)) for site in sites}
        files = stack.enter_context(ExitStack())  # closed before the directories take their names
        magnitudes = files.enter_context(tables.table_writer(activations / "magnitudes.parquet", MAGNITUDES_SCHEMA))
        score_writer = files.enter_context(tables.table_writer(scores, SCORES_SCHEMA))
        background = files.enter_context(_Background(depth=2 * len(sites)))

        def write_raw(site: str, layer: int, numbers: np.ndarray, values: np.ndarray) -> None:
            width = values.shape[-1]
            if (site, layer) not in writers:
                path = folders[site] / f"layer={layer}" / "part-0.parquet"
                writers[site, layer] = files.enter_context(tables.table_writer(path, activation_schema(width)))
            schema = activation_schema(width)
            writers[site, layer].write_batch(
                pa.record_batch(
                    [
                        np.repeat(numbers, len(positions[site])),
                        np.tile(positions[site].astype(np.int32), len(numbers)),
                        pa.FixedSizeListArray.from_arrays(values.reshape(-1), type=schema.field("activation").type),
                    ],
                    schema=schema,
                )
            )

        def write_site(site: str, layer: int, first: int, values: Tensor) -> None:
            rows = _magnitudes(site, layer, first, values)
            if not np.isfinite(rows["norm"]).all():
                raise SinkoriginError(
                    f"model {model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
                )
            magnitudes.write_batch(pa.record_batch(rows, schema=MAGNITUDES_SCHEMA))
            kept = sites[site].sequences
            count = len(values) if kept is None else min(len(values), max(0, kept - first))
            if count:
                numbers = np.arange(first, first + count, dtype=np.int32)
                write_raw(site, layer, numbers, np.ascontiguousarray(values[:count, positions[site]].numpy()))

        def on_site(layer: int, site: str, values: Tensor) -> None:
            values = values.detach().reshape(-1, length, values.shape[-1])
            # a copy: the model may go on to change its tensor while the writer is behind
            values = values.to("cpu", torch.float32, copy=True)
            background.submit(write_site, site, layer, first, values)

        def write_scores(layer: int, first: int, weights: Tensor) -> None:
            score_writer.write_batch(pa.record_batch(_score_rows(layer, first, weights), schema=SCORES_SCHEMA))

        def on_weights(layer: int, weights: Tensor) -> None:
            background.submit(write_scores, layer, first, weights.detach().to("cpu", torch.float32))

        device = next(architecture.model.parameters()).device
        with watch_sites(architecture, list(sites), on_site, on_weights):
            for first in range(0, len(token_ids), batch):
                architecture.forward(torch.from_numpy(token_ids[first : first + batch]).to(device))
        background.finish()
        files.close()
