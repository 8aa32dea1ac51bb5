"""Extraction: one pass of a model over prompts, from which its raw vectors, summaries and attention scores are written.

A batch goes through these stages, in the thread of one worker: the forward pass; while it runs, every site is checked,
its kept part written, and its summaries updated; last its rows are written to the tables that hold all layers. Then, for a
group of batches, what the model's weights make of the first tokens; at the end, the sums over all batches.
"""

import threading
from collections.abc import Mapping
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
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.first_tokens import FirstTokens, append
from sinkorigin.activations.summaries import first_token_keys, first_token_neurons, magnitudes, scores
from sinkorigin.activations.summaries.architecture import write_architecture
from sinkorigin.activations.summaries.gate_cosines import GateCosines
from sinkorigin.activations.summaries.neuron_moments import NeuronMoments
from sinkorigin.activations.summaries.query_gram import QueryGram
from sinkorigin.activations.summaries.residual_gram import ResidualGram
from sinkorigin.activations.turns import Turns, wait_for_all
from sinkorigin.activations.writers import Kept, RawVectors
from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.architecture import Architecture

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

    Before that, :meth:`Architecture.check_against_eager` runs the first sequence twice, with and without the taps.

    Args:
        architecture: the model's sites, read for ``sites``. One that a layer lacks gets no file there;
            ``architecture.parquet`` says why.
        token_ids: (N, T) ids.
        model: the model's name, for messages.
        sites: site → the part of it that is kept raw; the summaries cover all of it.
        batch: sequences in one forward pass.
        activations: directory that gets ``{site}/layer={layer}/part-0.parquet`` with a manifest a site, and a table for
            each module of ``activations/summaries/`` but the scores.
        scores: path of the attention-score table.
        workers: batches that are run at the same time, each on one CPU thread; the tables do not depend on it.

    Raises:
        SinkoriginError: an activation, or an attention weight, is not finite; or what the taps see is not what the model
            computes with its eager attention.
    """
    folder = Path(activations)
    architecture.check_against_eager(torch.from_numpy(token_ids[:1]).to(architecture.device), model)
    with ExitStack() as stack:
        folders = {site: stack.enter_context(tables.atomic_directory(folder / site, workers)) for site in sites}
        with ExitStack() as files:  # closed before the directories take their names
            raw = RawVectors(sites, folders, files)
            extraction = _Extraction(architecture, token_ids, model, batch, raw, files, folder, Path(scores))
            # each worker computes alone, so that encoding for one batch costs no other the wait at a barrier, and the
            # results do not depend on the number of cores
            files.enter_context(threadpool_limits(1, user_api="blas"))
            pool = files.enter_context(ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)))
            watched = [*sites, *(site for site in SUMMARISED if site not in sites)]
            # first tokens are worked on in groups of batches: one position each, no more than a batch of whole sequences
            group = batch * workers * -(-token_ids.shape[1] // (batch * workers))
            for start in range(0, len(token_ids), group):
                with watch_sites(architecture, watched, extraction.see_site, extraction.see_attention):
                    firsts = range(start, min(start + group, len(token_ids)), batch)
                    wait_for_all(pool.submit(extraction.run_batch, first) for first in firsts)
                extraction.write_first_tokens(pool, start)
            extraction.write_sums(pool)
            write_architecture(folder / "architecture.parquet", architecture, watched)


@dataclass
class _Batch(threading.local):
    """Batch that a worker is at; the hooks run in the worker's thread.

    Attributes:
        number: counted from 0; first: number of its first sequence.
        magnitudes, scores: its rows of the tables that hold all layers.
    """

    number: int = 0
    first: int = 0
    magnitudes: list[pa.RecordBatch] = field(default_factory=list)
    scores: list[pa.RecordBatch] = field(default_factory=list)


class _Extraction:
    """Stages of one extraction, with the tables that it writes and what it has summed so far."""

    def __init__(
        self,
        architecture: Architecture,
        token_ids: np.ndarray,
        model: str,
        batch: int,
        raw: RawVectors,
        files: ExitStack,
        folder: Path,
        scores_path: Path,
    ):
        def rows_of(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
            return files.enter_context(tables.table_writer(path, schema))

        self._architecture, self._token_ids, self._model, self._batch = architecture, token_ids, model, batch
        self._folder, self._raw = folder, raw
        self._magnitudes = rows_of(folder / "magnitudes.parquet", magnitudes.SCHEMA)
        self._neurons = rows_of(folder / "first_token_neurons.parquet", first_token_neurons.SCHEMA)
        self._keys = rows_of(folder / "first_token_keys.parquet", first_token_keys.SCHEMA)
        self._scores = rows_of(scores_path, scores.SCHEMA)
        self._neuron_moments, self._gate_cosines = NeuronMoments(), GateCosines()
        self._residual_gram, self._query_gram = ResidualGram(), QueryGram()
        self._first_tokens = FirstTokens()
        self._turns, self._now = Turns(), _Batch()

    def run_batch(self, first: int) -> None:
        """Run the batch whose first sequence has the number ``first``; its rows of all layers are written last."""
        now = self._now
        now.number, now.first, now.magnitudes, now.scores = first // self._batch, first, [], []
        try:
            token_ids = torch.from_numpy(self._token_ids[first : first + self._batch])
            self._architecture.forward(token_ids.to(self._architecture.device))
            with self._turns.take("rows", now.number):
                self._magnitudes.write_table(pa.Table.from_batches(now.magnitudes))
                self._scores.write_table(pa.Table.from_batches(now.scores))
        except BaseException:
            self._turns.fail()
            raise

    def see_site(self, layer: int, site: str, values: Tensor) -> None:
        """Write what is kept of one site of one layer, and add it to its summaries."""
        # some FFNs flatten sequences and positions
        values = values.detach().reshape(-1, self._token_ids.shape[1], values.shape[-1])  # (n, T, width)
        kept = self._raw.part(site, self._now.first, values)
        if site in SUMMARISED:
            values = values.to("cpu", torch.float32)
            self._check_finite(values, site, layer)
        elif kept is not None:
            self._check_finite(kept, site, layer)
        with self._turns.take((site, layer), self._now.number):
            if kept is not None:
                self._raw.write(site, layer, self._now.first, kept)
            if site in SUMMARISED:
                self._summarise(site, layer, values)

    def _summarise(self, site: str, layer: int, values: Tensor) -> None:
        if site in ("residual", "attention_input"):
            rows = magnitudes.magnitude_rows(site, layer, self._now.first, values.numpy())
            self._now.magnitudes.append(pa.record_batch(rows, schema=magnitudes.SCHEMA))
        if site == "residual":
            self._residual_gram.add(layer, "rest", values[:, 1:].reshape(-1, values.shape[-1]))
            append(self._first_tokens.residual, layer, values[:, 0])
        elif site == "ffn_input":
            self._gate_cosines.add(layer, values)
        elif site == "ffn_activation":
            self._neuron_moments.add(layer, values)
            append(self._first_tokens.ffn_activation, layer, values[:, 0])

    def see_attention(self, layer: int, query: Tensor, key: Tensor, weights: Tensor) -> None:
        """Add (n, H, T, d_k) queries and keys and (n, H, T, T) weights of one layer to the scores and summaries."""
        for site, values in (("query", query), ("key", key), ("attention", weights)):
            self._check_finite(values, site, layer)
        query, key, weights = (part.detach().to("cpu", torch.float32) for part in (query, key[:, :, 0], weights))
        rows_sum_to_one = self._architecture.rows_sum_to_one[layer]
        self._now.scores.append(scores.score_rows(layer, self._now.first, weights, rows_sum_to_one))
        positive = first_token_keys.positive_share(query, key)
        with self._turns.take(("attention summaries", layer), self._now.number):
            self._query_gram.add(layer, query)
            append(self._first_tokens.key, layer, key)
            append(self._first_tokens.positive, layer, positive)

    def _check_finite(self, values: Tensor, site: str, layer: int) -> None:
        # a sum is as telling as all its terms, and one pass
        if not torch.isfinite(values.sum(dtype=torch.float32)):
            raise SinkoriginError(
                f"model {self._model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
            )

    def write_first_tokens(self, pool: ThreadPoolExecutor, start: int) -> None:
        """Write the rows of the first tokens of a group of batches, whose first sequence has the number ``start``."""
        tokens, self._first_tokens = self._first_tokens, FirstTokens()

        def write() -> None:
            for rows in first_token_neurons.neuron_rows(self._architecture, tokens, start):
                self._neurons.write_table(rows)
            for rows in first_token_keys.key_rows(self._architecture, tokens, start):
                self._keys.write_table(rows)

        def add() -> None:
            for layer, vectors in tokens.residual.items():
                self._residual_gram.add(layer, "first", vectors)

        wait_for_all([pool.submit(write), pool.submit(add)])

    def write_sums(self, pool: ThreadPoolExecutor) -> None:
        """Write the tables of sums over all batches."""
        wait_for_all(
            [
                pool.submit(self._residual_gram.write, self._folder / "residual_gram.parquet"),
                pool.submit(self._gate_cosines.write, self._folder / "gate_cosines.parquet", self._architecture),
                pool.submit(self._query_gram.write, self._folder / "query_gram.parquet"),
                pool.submit(self._neuron_moments.write, self._folder / "neuron_moments.parquet"),
            ]
        )
