"""Extraction: one pass of a model over prompts, from which its raw vectors, summaries and attention scores are written.

A batch goes through these stages, in the thread of one worker: the forward pass; while it runs, every site is checked,
its kept part written, and its summaries updated; last its rows are written to the tables that hold all layers. Then, for a
group of batches, what the model's weights make of the first tokens; at the end, the sums over all batches.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.capture import check_finite, watch_sites
from sinkorigin.activations.first_tokens import FirstTokens, append
from sinkorigin.activations.freed_memory import give_back_freed_memory
from sinkorigin.activations.summaries import (
    down_projection_spikes,
    first_token_attention,
    first_token_keys,
    first_token_neurons,
    gate_cosines,
    magnitudes,
    neuron_moments,
    query_gram,
    residual_gram,
    token_gram,
    value_magnitudes,
)
from sinkorigin.activations.summaries import scores as score_table
from sinkorigin.activations.summaries.architecture import SCHEMA as ARCHITECTURE_SCHEMA
from sinkorigin.activations.summaries.architecture import write_architecture
from sinkorigin.activations.summaries.attention_sums import AttentionSums
from sinkorigin.activations.turns import Turns, wait_for_all
from sinkorigin.activations.writers import Kept, RawVectors
from sinkorigin.sites.architecture import Architecture

TABLES = {
    "magnitudes": magnitudes.SCHEMA,
    "neuron_moments": neuron_moments.SCHEMA,
    "gate_cosines": gate_cosines.SCHEMA,
    "residual_gram": residual_gram.SCHEMA,
    "query_gram": query_gram.SCHEMA,
    "first_token_neurons": first_token_neurons.SCHEMA,
    "down_projection_spikes": down_projection_spikes.SCHEMA,
    "first_token_keys": first_token_keys.SCHEMA,
    "first_token_attention": first_token_attention.SCHEMA,
    "value_magnitudes": value_magnitudes.SCHEMA,
    "token_gram": token_gram.SCHEMA,
    "architecture": ARCHITECTURE_SCHEMA,
    "scores": score_table.SCHEMA,
}

# tables that get the rows of a batch when it has run, and of first tokens when a group of batches has
_BY_BATCH = ("magnitudes", "scores", "first_token_attention", "value_magnitudes", "token_gram")
_BY_GROUP = ("first_token_neurons", "down_projection_spikes", "first_token_keys")

# sites of which every vector is summarised, whatever is kept raw
SUMMARISED = ("residual", "attention_input", "ffn_input", "ffn_activation")


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

    Before that, :meth:`Architecture.check_against_eager` runs the first sequence twice, with and without the taps. Of long prompts, whose
    attention is computed in blocks of queries, :meth:`Architecture.rows_checked` compares some queries of every layer while they run.

    Args:
        architecture: the model's sites, read for ``sites``. One that a layer lacks gets no file there;
            ``architecture.parquet`` says why.
        token_ids: (N, T) ids.
        model: the model's name, for messages.
        sites: site → the part of it that is kept raw; the summaries cover all of it.
        batch: sequences in one forward pass, at most; long ones run fewer at a time.
        activations: directory that gets ``{site}/layer={layer}/part-0.parquet`` with a manifest a site, and a table for
            each module of ``activations/summaries/`` but the scores.
        scores: path of the attention-score table.
        workers: batches that are run at the same time, each on one CPU thread; the tables do not depend on it.

    Raises:
        SinkoriginError: an activation, or an attention weight, is not finite; or what the taps see is not what the model
            computes with its eager attention.
    """
    folder, batch = Path(activations), architecture.fitting_batch(batch, token_ids.shape[1])
    blockwise = architecture.in_blocks(batch, token_ids.shape[1]) and "attention" not in sites
    with ExitStack() as stack:
        if blockwise:
            stack.enter_context(architecture.rows_checked(model))
        else:
            workers = architecture.fitting_workers(workers, token_ids.shape[1])
            architecture.check_against_eager(torch.from_numpy(token_ids[:1]).to(architecture.device), model)
        folders = {site: stack.enter_context(tables.atomic_directory(folder / site, workers)) for site in sites}
        files = stack.enter_context(ExitStack())  # closed before the directories take their names

        def table(name: str) -> pq.ParquetWriter:
            path = Path(scores) if name == "scores" else folder / f"{name}.parquet"
            return files.enter_context(tables.table_writer(path, TABLES[name]))

        extraction = _Extraction(
            architecture,
            token_ids,
            model,
            batch,
            blockwise,
            RawVectors(sites, folders, files),
            {name: table(name) for name in (*_BY_BATCH, *_BY_GROUP)},
            # as many sequences as a group of batches surely has, whatever the workers
            down_projection_spikes.DownProjectionSpikes(choosing=token_ids.shape[1]),
        )
        # each worker computes alone, so that encoding for one batch costs no other the wait at a barrier, and the
        # results do not depend on the number of cores
        files.enter_context(threadpool_limits(1, user_api="blas"))
        pool = files.enter_context(ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)))
        watched = [*sites, *(site for site in SUMMARISED if site not in sites)]
        # first tokens are worked on in groups of batches: one position each, no more than a batch of whole sequences
        group = batch * workers * -(-token_ids.shape[1] // (batch * workers))
        for start in range(0, len(token_ids), group):
            with watch_sites(
                architecture,
                watched,
                extraction.see_site,
                extraction.see_attention,
                extraction.see_values,
                extraction.see_weights,
            ):
                firsts = range(start, min(start + group, len(token_ids)), batch)
                wait_for_all(pool.submit(extraction.run_batch, first) for first in firsts)
            extraction.write_first_tokens(pool, start)
        extraction.write_sums(pool, folder)
        write_architecture(folder / "architecture.parquet", architecture, watched)
        files.close()


@dataclass
class _Batch(threading.local):
    """Batch that a worker is at; the hooks run in the worker's thread."""

    number: int = 0  # counted from 0
    first: int = 0  # number of its first sequence
    rows: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)  # of the tables that hold all layers
    attention: dict[int, AttentionSums] = field(default_factory=dict)  # of the layers that are not yet in these rows


@dataclass
class _Extraction:
    """Stages of one extraction: what it reads, the tables that all batches write to, and the sums over batches."""

    architecture: Architecture
    token_ids: np.ndarray  # (N, T)
    model: str
    batch: int
    blockwise: bool  # whether attention is computed in blocks of queries, as that of long prompts is
    raw: RawVectors
    writers: Mapping[str, pq.ParquetWriter]  # of the tables that are written batch by batch, or group by group
    spikes: down_projection_spikes.DownProjectionSpikes
    moments: neuron_moments.NeuronMoments = field(default_factory=neuron_moments.NeuronMoments)
    cosines: gate_cosines.GateCosines = field(default_factory=gate_cosines.GateCosines)
    residuals: residual_gram.ResidualGram = field(default_factory=residual_gram.ResidualGram)
    queries: query_gram.QueryGram = field(default_factory=query_gram.QueryGram)
    first_tokens: FirstTokens = field(default_factory=FirstTokens)  # of the group of batches that is run
    turns: Turns = field(default_factory=Turns)
    now: _Batch = field(default_factory=_Batch)

    def run_batch(self, first: int) -> None:
        """Run the batch whose first sequence has the number ``first``; its rows of all layers are written last."""
        now = self.now
        now.number, now.first, now.rows, now.attention = first // self.batch, first, {}, {}
        try:
            token_ids = torch.from_numpy(self.token_ids[first : first + self.batch])
            self.architecture.forward(token_ids.to(self.architecture.device))
            with self.turns.take("rows", now.number):
                for name, rows in now.rows.items():
                    self.writers[name].write_table(pa.Table.from_batches(rows))
        except BaseException:
            self.turns.fail()
            raise

    def _add_rows(self, name: str, columns: dict) -> None:
        """Keep rows of a table until the batch has run."""
        self.now.rows.setdefault(name, []).append(pa.record_batch(columns, schema=TABLES[name]))

    def see_site(self, layer: int, site: str, values: Tensor) -> None:
        """Write what is kept of one site of one layer, and add it to its summaries."""
        # some FFNs flatten sequences and positions
        values = values.detach().reshape(-1, self.token_ids.shape[1], values.shape[-1])  # (n, T, width)
        kept = self.raw.part(site, self.now.first, values)
        if site in SUMMARISED:
            values = values.to("cpu", torch.float32)
            check_finite(values, self.model, site, layer)
        elif kept is not None:
            check_finite(kept, self.model, site, layer)
        if site == "residual" and self.now.first < token_gram.SEQUENCES:
            self._add_rows("token_gram", token_gram.gram_rows(layer, self.now.first, values.numpy()))
        with self.turns.take((site, layer), self.now.number):
            if kept is not None:
                self.raw.write(site, layer, self.now.first, kept)
            if site in SUMMARISED:
                self._summarise(site, layer, values)
        if self.blockwise and site == "residual":  # the layer has run
            give_back_freed_memory()

    def _summarise(self, site: str, layer: int, values: Tensor) -> None:
        if site in ("residual", "attention_input"):
            self._add_rows("magnitudes", magnitudes.magnitude_rows(site, layer, self.now.first, values.numpy()))
        if site == "residual":
            self.residuals.add(layer, "rest", values[:, 1:].reshape(-1, values.shape[-1]))
            append(self.first_tokens.residual, layer, values[:, 0])
        elif site == "ffn_input":
            self.cosines.add(layer, values)
        elif site == "ffn_activation":
            self.moments.add(layer, values)
            append(self.first_tokens.ffn_activation, layer, values[:, 0])

    def see_weights(self, layer: int, weights: Tensor, head: int, query: int, key: int) -> None:
        """Add attention weights of one layer, all or a block, to their sums (see ``Tap.observe_weights``)."""
        if layer not in self.now.attention:
            sums = AttentionSums(self.token_ids.shape[1], self.architecture.rows_sum_to_one[layer])
            self.now.attention[layer] = sums
        self.now.attention[layer].add(weights, head, query, key)

    def see_attention(self, layer: int, query: Tensor, key: Tensor, weights: Tensor | None) -> None:
        """Add (n, H, T, d_k) queries and keys and the sums of the weights of one layer to the scores and summaries."""
        sums = self.now.attention.pop(layer)
        for site, values in (("query", query), ("key", key), ("attention", sums.columns)):
            check_finite(values, self.model, site, layer)
        query, key = (part.detach().to("cpu", torch.float32) for part in (query, key[:, :, 0]))
        self._add_rows("scores", score_table.score_rows(layer, self.now.first, sums))
        self._add_rows("first_token_attention", first_token_attention.first_token_rows(layer, self.now.first, sums))
        positive = first_token_keys.positive_share(query, key)
        with self.turns.take(("attention summaries", layer), self.now.number):
            self.queries.add(layer, query)
            append(self.first_tokens.key, layer, key)
            append(self.first_tokens.positive, layer, positive)

    def see_values(self, layer: int, values: Tensor) -> None:
        """Add (n, H_kv, T, d_v) values of one layer to their norms."""
        norms = value_magnitudes.value_norms(values.detach().to("cpu", torch.float32).numpy())
        check_finite(torch.from_numpy(norms), self.model, "value", layer)
        self._add_rows("value_magnitudes", value_magnitudes.value_rows(layer, self.now.first, norms))

    def write_first_tokens(self, pool: ThreadPoolExecutor, start: int) -> None:
        """Write the rows of the first tokens of a group of batches, whose first sequence has the number ``start``."""
        tokens, self.first_tokens = self.first_tokens, FirstTokens()

        def write() -> None:
            for made in first_token_neurons.first_outputs(self.architecture, tokens):
                rows = first_token_neurons.neuron_rows(self.architecture, start, made)
                _write(self.writers["first_token_neurons"], [rows])
                _write(self.writers["down_projection_spikes"], [self.spikes.rows(start, made)])
            _write(self.writers["first_token_keys"], first_token_keys.key_rows(self.architecture, tokens, start))

        def add() -> None:
            for layer, vectors in tokens.residual.items():
                self.residuals.add(layer, "first", vectors)

        wait_for_all([pool.submit(write), pool.submit(add)])

    def write_sums(self, pool: ThreadPoolExecutor, folder: Path) -> None:
        """Write the tables of sums over all batches."""

        def write(name: str, schema: pa.Schema, rows: Iterator[dict]) -> None:
            with tables.table_writer(folder / f"{name}.parquet", schema) as writer:
                _write(writer, rows)

        sums = (
            ("residual_gram", residual_gram.SCHEMA, self.residuals.rows()),
            ("gate_cosines", gate_cosines.SCHEMA, self.cosines.rows(self.architecture)),
            ("query_gram", query_gram.SCHEMA, self.queries.rows()),
            ("neuron_moments", neuron_moments.SCHEMA, self.moments.rows()),
        )
        wait_for_all(pool.submit(write, *table) for table in sums)


def _write(writer: pq.ParquetWriter, rows: Iterable[dict]) -> None:
    """Write parts of a table, each a mapping of column name to values."""
    for columns in rows:
        writer.write_table(pa.table(columns, schema=writer.schema))
