"""Streaming a forward pass's sites into tables, in memory bounded by one batch."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations import summaries
from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.architecture import Architecture, Place, first_tensor, output_tensor
from sinkorigin.sites.attention import Tap

SCORES_SCHEMA = tables.schema(
    sequence=(pa.int32(), "number of the sequence in the prompt table"),
    layer=(pa.int32(), "layer, counted from 0"),
    head=(pa.int32(), "query head"),
    position=(pa.int32(), "key position k"),
    score=(pa.float32(), "mean of the attention weight A[q, k] over queries q >= k"),
    score_excluding_self=(pa.float32(), "the same over q > k; null at the last position"),
    score_normalised=(
        pa.float32(),
        "score of A[q, k] / the sum of query q's weights; null where weights sum to one, so that it is the score itself",
    ),
    score_excluding_self_normalised=(pa.float32(), "the same over q > k; null there and at the last position"),
)


@lru_cache
def activation_schema(width: int) -> pa.Schema:
    """Schema of one layer of one site: a row for every kept (sequence, position)."""
    schema = tables.schema(
        sequence=(pa.int32(), "number of the sequence in the prompt table"),
        position=(pa.int32(), "position in the sequence, from 0"),
        activation=(
            pa.list_(pa.field("element", pa.float32(), nullable=False), width),
            "the site's vector; heads are concatenated",
        ),
    )
    return schema.set(
        2, schema.field(2).with_nullable(False)
    )  # levels of what is never null cost a sixth of the writing


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
    """Sink score of every key position (docs/paper.md, A1; sail-sg's importance score).

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
    """Hands on what the attention function sees: the tap sites and the attention itself."""

    def __init__(self, sites: set[str], on_site, on_attention):
        self._sites, self._on_site, self._on_attention = sites, on_site, on_attention

    def observe(self, layer, query, key, weights, aggregation):
        for site, heads in (("value_aggregation", aggregation), ("query", query), ("key", key), ("attention", weights)):
            if site in self._sites:
                self._on_site(layer, site, heads.transpose(1, 2).flatten(2))  # (N, T, H·d)
        self._on_attention(layer, query, key, weights)


@contextmanager
def watch_sites(
    architecture: Architecture, sites: Sequence[str], on_site, on_attention=lambda layer, query, key, weights: None
):
    """Call ``on_site(layer, site, tensor)`` with every (N, T, width) tensor of ``sites`` as the model runs.

    ``residual`` is also reported for layer -1, the embedding. ``on_attention(layer, query, key, weights)`` gets the
    (N, H, T, d_k) queries and keys after rotary embedding and the (N, H, T, T) attention weights. Edits by taps that
    were set earlier are seen. A site that a layer lacks is not reported.
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
        with architecture.tapped(_SiteTap(set(sites), on_site, on_attention)):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Turns:
    """Lets the batches of several workers do each thing in the order of the batches.

    So every file gets its rows, and every sum its terms, in one order, however the workers run.
    """

    def __init__(self):
        self._done: dict[object, int] = {}
        self._failed = False
        self._changed = threading.Condition()

    @contextmanager
    def take(self, thing: object, number: int) -> Iterator[None]:
        """Wait until batches 0 … number − 1 have done ``thing``, then do it."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._done.get(thing, 0) == number)
            if self._failed:
                raise _Stopped
        yield
        with self._changed:
            self._done[thing] = number + 1
            self._changed.notify_all()

    def fail(self) -> None:
        """Wake all who wait for a turn that will not come."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()


class _Stopped(Exception):
    """Another batch failed."""


@dataclass
class _Batch(threading.local):
    """What a worker is at: the hooks run in its thread."""

    number: int = 0
    first: int = 0  # number of its first sequence
    rows: dict[str, list] = field(default_factory=dict)  # of the tables that hold all layers


def normalised_rows(weights: Tensor) -> Tensor:
    """Attention weights (N, H, T, T) with each row divided by its sum; a row of zeros stays one."""
    sums = weights.sum(dim=-1, keepdim=True)
    return weights / sums.masked_fill(sums == 0, 1)


def _score_rows(layer: int, first: int, weights: Tensor, sum_to_one: bool) -> dict:
    score, excluding_self = (part.numpy() for part in attention_scores(weights))
    sequences, heads, length = score.shape
    rows = sequences * heads * length

    def column(values: np.ndarray) -> pa.Array:
        return pa.array(values.reshape(-1), mask=np.isnan(values.reshape(-1)))

    if sum_to_one:
        normalised = dict.fromkeys(
            ("score_normalised", "score_excluding_self_normalised"), pa.nulls(rows, pa.float32())
        )
    else:
        of_rows = (column(part.numpy()) for part in attention_scores(normalised_rows(weights)))
        normalised = dict(zip(("score_normalised", "score_excluding_self_normalised"), of_rows, strict=True))
    return {
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), heads * length),
        "layer": np.full(rows, layer, dtype=np.int32),
        "head": np.tile(np.repeat(np.arange(heads, dtype=np.int32), length), sequences),
        "position": np.tile(np.arange(length, dtype=np.int32), sequences * heads),
        "score": score.reshape(-1),
        "score_excluding_self": column(excluding_self),
        **normalised,
    }


def _position_rows(kept: Kept, length: int) -> np.ndarray:
    return np.arange(length) if kept.positions is None else np.array(kept.positions)


def _check_finite(values: Tensor, model: str, site: str, layer: int) -> None:
    """Raise a SinkoriginError where not all of a layer's ``values`` at ``site`` are finite; ``model`` is what it is called."""
    # a sum is as telling as all its terms, and one pass
    if not torch.isfinite(values.sum(dtype=torch.float32)):
        raise SinkoriginError(
            f"model {model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
        )


def extract(
    architecture: Architecture,
    token_ids: np.ndarray,
    *,
    model: str,
    sites: Mapping[str, Kept],
    batch: int,
    activations: str | Path,
    scores: str | Path,
    workers: int = 1,
) -> None:
    """Run ``token_ids`` through the model and write its activations, their summaries, and the attention scores.

    Before that, :meth:`Architecture.check_own` runs the first sequence twice, with and without the taps.

    Args:
        architecture: the model's sites. One that a layer lacks gets no file there; ``architecture.parquet`` says why.
        token_ids: (N, T) ids.
        model: the model's name, for messages.
        sites: site → the part of it that is kept raw; the summaries cover all of it.
        batch: sequences in one forward pass.
        activations: directory that gets ``{site}/layer={layer}/part-0.parquet`` with a manifest a site, the tables of
            ``summaries.TABLES``, and ``architecture.parquet``.
        scores: path of the attention-score table.
        workers: batches that are run at the same time, each on one CPU thread; the tables do not depend on it.

    Raises:
        SinkoriginError: an activation, or an attention weight, is not finite; or what the taps see is not what the model
            computes by itself.
    """
    activations = Path(activations)
    device = next(architecture.model.parameters()).device
    architecture.check_own(torch.from_numpy(token_ids[:1]).to(device), model)
    length = token_ids.shape[1]
    positions = {site: _position_rows(kept, length) for site, kept in sites.items()}
    writers: dict[tuple[str, int], pq.ParquetWriter] = {}
    moments, gates, residuals, queries = (
        summaries.NeuronMoments(),
        summaries.GateCosines(),
        summaries.ResidualGram(),
        summaries.QueryGram(),
    )

    turns, now = _Turns(), _Batch()
    with ExitStack() as stack:
        folders = {site: stack.enter_context(tables.atomic_directory(activations / site, workers)) for site in sites}
        files = stack.enter_context(ExitStack())  # closed before the directories take their names
        common = {
            name: files.enter_context(tables.table_writer(activations / f"{name}.parquet", summaries.TABLES[name]))
            for name in ("magnitudes", "first_token_neurons", "first_token_keys")
        } | {"scores": files.enter_context(tables.table_writer(scores, SCORES_SCHEMA))}
        first_tokens = summaries.FirstTokens(architecture, common["first_token_neurons"], common["first_token_keys"])
        # each worker computes alone, so that encoding for one batch costs no other the wait at a barrier, and the
        # results do not depend on the number of cores
        files.enter_context(threadpool_limits(1, user_api="blas"))
        pool = files.enter_context(ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)))

        def write_raw(site: str, layer: int, values: Tensor) -> None:
            """Values at the kept positions of the kept sequences."""
            width = values.shape[-1]
            if (site, layer) not in writers:
                path = folders[site] / f"layer={layer}" / "part-0.parquet"
                writers[site, layer] = files.enter_context(tables.table_writer(path, activation_schema(width)))
            schema = activation_schema(width)
            numbers = np.arange(now.first, now.first + len(values), dtype=np.int32)
            flat = np.ascontiguousarray(values.numpy()).reshape(-1)
            writers[site, layer].write_batch(
                pa.record_batch(
                    [
                        np.repeat(numbers, len(positions[site])),
                        np.tile(positions[site].astype(np.int32), len(numbers)),
                        pa.FixedSizeListArray.from_arrays(flat, type=schema.field("activation").type),
                    ],
                    schema=schema,
                )
            )

        def summarize(site: str, layer: int, values: Tensor) -> None:
            if site in summaries.MAGNITUDE_SITES:
                rows = summaries.magnitude_rows(site, layer, now.first, values.numpy())
                now.rows["magnitudes"].append(pa.record_batch(rows, schema=summaries.TABLES["magnitudes"]))
            if site == "residual":
                residuals.add(layer, "rest", values[:, 1:].reshape(-1, values.shape[-1]))
            elif site == "ffn_activation":
                moments.add(layer, values)
            elif site == "ffn_input":
                gates.add(layer, values)
            if site in ("residual", "ffn_activation"):
                first_tokens.add(site, layer, values[:, 0].clone())

        def on_site(layer: int, site: str, values: Tensor) -> None:
            values = values.detach().reshape(-1, length, values.shape[-1])
            kept = sites.get(site, Kept(sequences=0))
            count = len(values) if kept.sequences is None else min(len(values), max(0, kept.sequences - now.first))
            raw = values[:count] if kept.positions is None else values[:count, positions[site]]
            whole = site in summaries.WHOLE_SITES
            if whole:
                values = values.to("cpu", torch.float32)
            if count:
                raw = raw.to("cpu", torch.float32)
            for looked_at in [values] if whole else [raw] if count else []:
                _check_finite(looked_at, model, site, layer)
            with turns.take((site, layer), now.number):
                if count:
                    write_raw(site, layer, raw)
                if whole:
                    summarize(site, layer, values)

        def on_attention(layer: int, query: Tensor, key: Tensor, weights: Tensor) -> None:
            for site, values in (("query", query), ("key", key), ("attention", weights)):
                _check_finite(values, model, site, layer)
            query, key, weights = (part.detach().to("cpu", torch.float32) for part in (query, key[:, :, 0], weights))
            rows = _score_rows(layer, now.first, weights, architecture.rows_sum_to_one[layer])
            now.rows["scores"].append(pa.record_batch(rows, schema=SCORES_SCHEMA))
            positive = summaries.positive_share(query, key)
            with turns.take(("summary of attention", layer), now.number):
                queries.add(layer, query)
                first_tokens.add("key", layer, key.clone())
                first_tokens.add("positive", layer, positive)

        def run(first: int) -> None:
            """One batch; the last thing is its rows in the tables of all layers."""
            now.number, now.first, now.rows = first // batch, first, {"magnitudes": [], "scores": []}
            try:
                architecture.forward(torch.from_numpy(token_ids[first : first + batch]).to(device))
                with turns.take("rows", now.number):
                    for name, rows in now.rows.items():
                        common[name].write_table(pa.Table.from_batches(rows))
            except BaseException:
                turns.fail()
                raise

        def add_first_residuals(parts: Mapping[tuple[str, int], Tensor]) -> None:
            for (site, layer), vectors in parts.items():
                if site == "residual":
                    residuals.add(layer, "first", vectors)

        watched = [*sites, *(site for site in summaries.WHOLE_SITES if site not in sites)]
        # first tokens are worked on in groups of batches: one position each, no more than a batch of whole sequences
        group = batch * workers * -(-length // (batch * workers))
        for start in range(0, len(token_ids), group):
            with watch_sites(architecture, watched, on_site, on_attention):
                _all(pool.submit(run, first) for first in range(start, min(start + group, len(token_ids)), batch))
            parts = first_tokens.take()
            _all([pool.submit(first_tokens.write, parts), pool.submit(add_first_residuals, parts)])
        _all(
            [
                pool.submit(residuals.write, activations / "residual_gram.parquet"),
                pool.submit(gates.write, activations / "gate_cosines.parquet", architecture),
                pool.submit(queries.write, activations / "query_gram.parquet"),
                pool.submit(moments.write, activations / "neuron_moments.parquet"),
            ]
        )
        tables.write_table(
            activations / "architecture.parquet",
            summaries.part_rows(architecture, watched),
            summaries.ARCHITECTURE_SCHEMA,
        )
        files.close()


def _all(started: Iterable[Future]) -> None:
    """Wait for all; raise what one of them raised itself, not that it was stopped."""
    errors = [error for future in list(started) if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, _Stopped):
            raise error
