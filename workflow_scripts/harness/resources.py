"""Estimates of what every job of a study needs: memory, GPU memory, time and disk.

They follow from the shapes of the models and the sizes of the data, before anything is fetched or run. Rules request them,
``snakemake plan`` adds them up, and ``snakemake check_resources`` compares them with measured peaks. The constants were fitted
to the peaks of jobs on a CPU and lie above them; docs/resources.md says how, and what was not measured.
"""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from harness.config.interventions import Intervention
from harness.config.models import Model
from harness.config.pretraining import TextData
from harness.config.study import Config
from sinkorigin.activations.columns import POSITIONS
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.local import read_local_config
from sinkorigin.models.shapes import Shape
from sinkorigin.pretraining.cost import cost
from sinkorigin.sites.batches import ATTENTION_BYTES, fitting_batch, in_blocks

MB = 2**20

# what is assumed of files that are not there yet
# Llama-2-7B's, of a model without a shape in the config
ASSUMED_SHAPE = Shape(layers=32, width=4096, heads=32, kv_heads=32, ffn_width=11008, vocabulary=32_000, head_width=128)
ASSUMED_VOCABULARY = 32_000  # of a tokenizer that is taken
ASSUMED_CORPUS = 100.0  # MB, of a corpus

# MB of a process before it holds data, by what it imports
_TABLES = 144.0  # NumPy, Arrow and Polars
_DRAWING = 187.0  # and Matplotlib
_SEABORN = 95.0  # more, with what it imports
_TOKENIZERS = 136.0  # and transformers without PyTorch
_TORCH = 450.0  # PyTorch and transformers
_CUDA = 2500.0  # more of the host's memory, where PyTorch runs on a GPU
_CONTEXT = 700.0  # of the GPU's, which CUDA takes for itself

# seconds until a process has imported that
_SECONDS = {_TABLES: 2.0, _TOKENIZERS: 4.0, _DRAWING: 5.0, _TORCH: 12.0}

_MARGIN = 1.15  # what is requested over what was fitted, because runs differ
_RUNTIME = 4.0  # a job may take so many times the expected time before it is stopped, and
_RUNTIME_MORE = 10.0  # so many minutes more

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_TEXT_OVER_ZSTD = 2.5
_COMPRESSED = 0.85  # of float32 numbers in Parquet
_RAW = 1.01  # of raw activations, which are not compressed
_AT_ONCE = 4.0  # MB of a table's layers that statistics read at once, or one layer
_EIGEN_GFLOPS = 5.0  # of eigenvalues on one core
_USABLE = 0.85  # of a GPU's memory
_WEIGHTS_FILE = 5000.0  # MB of one file of weights at most, as transformers saves them
_PATCHED_PASSES = 15  # of following one edit; exchanges and removals together have about as many
_PERMUTATIONS = 10_000  # of layers, in tests over heads
_EXTRACTING = 110.0  # MB of an extraction, beside what grows with the model and its prompts


@dataclass(frozen=True)
class Needs:
    """What one job needs.

    Attributes:
        memory: peak resident memory, MB.
        seconds: expected time on the machine that the config's ``machine`` describes.
        disk: MB that it leaves.
        gpu_memory: MB of each GPU.
        gpus: number of them.
    """

    memory: float
    seconds: float
    disk: float = 0.0
    gpu_memory: float = 0.0
    gpus: int = 0

    @property
    def runtime(self) -> int:
        """Minutes after which the job may be stopped."""
        return math.ceil(_RUNTIME_MORE + _RUNTIME * self.seconds / 60)


class Estimates:
    """Estimates for all rules of one study: the method ``_{rule}`` for the rules that have one, else a usual one.

    Args:
        config: the study.
        device: "cpu", "cuda" or "mps", where models run.
        results: folder of results; shapes and sizes are read there where they exist already.
    """

    def __init__(self, config: Config, device: str, results: Path = Path("results")):
        self.config, self.device, self.results = config, device, results
        self._study = results / config.study
        self._models = {model.name: model for model in config.models}
        self._prompts = {prompts.name: prompts for prompts in config.prompts}
        self._trained = config.trained
        self._runs = {run.name: run for run in config.pretraining.runs}
        self._data = {data.name: data for data in config.pretraining.data}
        self.shape = cache(self._shape)
        self._estimate = cache(self._estimated)

    def of(self, rule: str, wildcards: Mapping[str, str]) -> Needs:
        """What one job of a rule needs."""
        return self._estimate(rule, tuple(sorted(wildcards.items())))

    def _estimated(self, rule: str, wildcards: tuple[tuple[str, str], ...]) -> Needs:
        needs = self._estimator(rule, {name for name, _ in wildcards})(**dict(wildcards))
        return replace(needs, memory=needs.memory * _MARGIN, gpu_memory=needs.gpu_memory * _MARGIN)

    def _estimator(self, rule: str, wildcards: set[str]) -> Callable[..., Needs]:
        """The method of a rule's name, else that of any figure, any statistic of one model, or any table of a whole study."""
        if method := getattr(self, f"_{rule}", None):
            return method
        if rule.startswith("plot_"):
            return self._plot
        return partial(self._statistic, rule) if wildcards == {"model", "prompts"} else self._table

    def assumptions(self) -> list[str]:
        """A sentence for each assumption that the estimates rest on."""
        sentences = [
            f"model {name}: no shape is known before it is fetched, that of Llama-2-7B is assumed; give it one in the config"
            for name in self._models
            if self.shape(name) is ASSUMED_SHAPE
        ]
        sentences += [
            f"{key}: its size is not known before it is fetched, {ASSUMED_CORPUS:.0f} MB are assumed; give it megabytes"
            for key, corpus in self.config.corpora.items()
            if corpus.megabytes is None and not self._documents(key).is_file()
        ]
        return sentences + [
            f"data {data.name}: the vocabulary of its tokenizer is not known before it is there, {ASSUMED_VOCABULARY:,} "
            "tokens are assumed"
            for data in self._data.values()
            if isinstance(data, TextData) and data.tokenizer and self._known_vocabulary(data.name) is None
        ]

    # shapes and sizes

    def _shape(self, model: str) -> Shape:
        """Shape of a model: from its config.json, else from the study's config, else assumed."""
        if model in self._trained:
            run = self._trained[model][0]
            return Shape.of_size(run.model_dump(), self.vocabulary(run.data))
        settings = self._models[model]
        with suppress(
            ValueError, KeyError, TypeError, AttributeError
        ):  # none, or of a kind that only transformers knows
            return Shape.of_config(self._config_of(settings))
        if settings.kind == "random":
            return self.shape(settings.place)
        shape = settings.shape
        return ASSUMED_SHAPE if shape is None else Shape.of_size(shape.model_dump(), shape.vocabulary)

    def _config_of(self, model: Model) -> Any:
        """The config.json of a model that was fetched, else what one on this machine says of itself; None without."""
        with suppress(OSError, ValueError, RecursionError):
            return json.loads((self.results / "models" / model.name / "config.json").read_text())
        with suppress(SinkoriginError):
            return read_local_config(model.place, f"model {model.name}") if model.kind == "path" else None
        return None

    def vocabulary(self, data: str) -> int:
        """Number of tokens in the vocabulary of what runs train on."""
        settings = self._data[data]
        if isinstance(settings, TextData) and settings.tokenizer:
            return self._known_vocabulary(data) or ASSUMED_VOCABULARY
        return settings.vocabulary

    def _known_vocabulary(self, data: str) -> int | None:
        try:
            return json.loads((self._study / f"pretraining/data/{data}/tokens/meta.json").read_text())["vocabulary"]
        except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: its readers refuse it
            return None

    def _documents(self, key: str) -> Path:
        """Table of the documents of a corpus, from its key in the config: ``corpus`` or ``pretraining.data.{data}.corpus``."""
        parts = key.split(".")
        return self._study / ("corpus" if len(parts) == 1 else f"pretraining/data/{parts[2]}") / "documents.parquet"

    def _text(self, data: str | None = None) -> float:
        """MB of text in a corpus: that of the data if they have one, else the study's."""
        corpora = self.config.corpora
        key = f"pretraining.data.{data}.corpus" if f"pretraining.data.{data}.corpus" in corpora else "corpus"
        path = self._documents(key)
        if path.is_file():
            return _TEXT_OVER_ZSTD * path.stat().st_size / MB
        return corpora[key].megabytes or ASSUMED_CORPUS

    def _runs_model(
        self, shape: Shape, *, live: float, host: float, seconds: float, disk: float = 0.0, head: bool = False
    ) -> Needs:
        """What a job needs that runs a model.

        Args:
            live: MB that a batch holds on a GPU.
            host: MB beside the weights in the host's memory, whatever runs the model.
            head: whether the language-model head runs.
        """
        if self.device != "cuda":  # the GPU of a Mac shares its memory
            # weights are mapped from their file, and those that are never read take no memory: embeddings of other tokens, the head
            numbers = shape.layers * shape.layer_matrices + (shape.vocabulary * shape.width if head else 0)
            held = numbers * _BYTES[self.config.dtype] / MB
            return Needs(_TORCH + held + host, _SECONDS[_TORCH] + seconds, disk)
        held = self._weights(shape)
        gpus = math.ceil((held + live) / (_USABLE * self.config.machine.gpu_memory * 1000))
        # the weights pass through the host's memory a file at a time
        memory = _TORCH + _CUDA + min(held, _WEIGHTS_FILE) + host
        return Needs(memory, _SECONDS[_TORCH] + seconds, disk, _CONTEXT + (held + live) / gpus, gpus)

    def _weights(self, shape: Shape, dtype: str | None = None) -> float:
        return shape.parameters * _BYTES[dtype or self.config.dtype] / MB

    def _forward_seconds(self, shape: Shape, tokens: float, length: int, threads: int) -> float:
        """Seconds of forward passes over so many tokens, without the language-model head."""
        operations = shape.layers * (shape.layer_matrices + 2 * shape.attention_width * length)
        machine = self.config.machine
        speed = threads * machine.core_gflops * 1e9 if self.device != "cuda" else machine.gpu_tflops * 1e12 / 20
        return 2 * operations * tokens / speed

    # models, corpora and prompts

    def _fetch_model(self, model: str) -> Needs:
        shape, settings = self.shape(model), self._models[model]
        single, tokens = self._weights(shape, "float32"), 1.1e-3 * shape.vocabulary
        seconds = _SECONDS[_TORCH] + 0.03 * single
        if settings.kind == "random":
            held = 1.35 * single + tokens
        elif settings.kind == "pypi" or settings.place.endswith(".gguf"):
            # dequantised one matrix after the other, of which the embedding is the largest
            held = 1.25 * single + 3 * shape.vocabulary * shape.width * 4 / MB
        else:  # copied file by file, names compared, numbers looked at block by block, tokenizer loaded
            held = tokens
        return Needs(_TORCH + held, seconds, single)

    def _label_model(self, model: str) -> Needs:
        return Needs(68, _SECONDS[_TABLES])  # Arrow alone

    def _fetch_corpus(self, data: str | None = None) -> Needs:
        size = self._text(data)
        return Needs(112 + 15 * min(size, 13), _SECONDS[_TABLES] + size / 5, size / 2)

    _fetch_own_corpus = _fetch_corpus

    def _tokenize_prompts(self, model: str, prompts: str) -> Needs:
        if not self._has_general_tokenizer(model):
            return Needs(_TORCH + 10, _SECONDS[_TORCH] + 2, 0.1)
        text = 25.0 if self._prompts[prompts].kind == "natural_text" else 0.0
        return Needs(_TOKENIZERS + 1.1e-3 * self.shape(model).vocabulary + text, _SECONDS[_TOKENIZERS] + 2, 0.1)

    def _has_general_tokenizer(self, model: str) -> bool:
        """Whether the tokenizer of a model is loaded without PyTorch, see ``loading.load_tokenizer``."""
        kind, place = self._models[model].kind, self._models[model].place
        if kind == "random":
            return self._has_general_tokenizer(place)
        for folder in (self.results / "models" / model, Path(place).expanduser()):
            try:
                return "TokenizersBackend" in (folder / "tokenizer_config.json").read_text()
            except (OSError, ValueError):  # not there, or no text
                continue
        return kind == "pypi"  # converted from GGUF

    def _draw_data_prompts(self, data: str, start: str, prompts: str) -> Needs:
        return Needs(_TOKENIZERS + 1.1e-3 * self.vocabulary(data), _SECONDS[_TOKENIZERS], 0.1)

    # activations

    def _sizes(self, model: str, prompts: str) -> "_Sizes":
        settings, batch = self._prompts[prompts], self.config.activations.batch
        N, T = settings.sequences, settings.length
        shape = self.shape(model)
        batch = fitting_batch(min(batch, N), shape.heads, T)
        return _Sizes(shape, N, T, B=batch, R=self.config.statistics.replicates)

    def extraction_threads(self, model: str) -> int:
        """Number of CPU threads on which the activations of a model are extracted; no table depends on it."""
        # a small model is loaded for longer than it is run, which leaves a second core idle
        return self.config.pretraining.threads if model in self._trained else 2

    def _extract_activations(self, model: str, prompts: str) -> Needs:
        s, shape = self._sizes(model, prompts), self.shape(model)
        threads = self.extraction_threads(model)
        raw = 0.0
        for site in self.config.activations.sites:
            sequences = s.N if site.sequences is None else min(site.sequences, s.N)
            raw += s.L * sequences * len(site.positions or range(s.P)) * _width(shape, site.site, s.T) * 4 / MB
        # Arrow holds the raw vectors, encoded, until a row group of a million rows is full
        summaries = _EXTRACTING + s.gram_megabytes + _COMPRESSED * raw
        firsts = 3 * s.L * max(s.B * threads, min(s.N, s.T)) * (s.d + s.f + shape.attention_width) * 4 / MB
        scores = s.N * s.L * s.H * s.P * 8 / MB  # two numbers a row
        listed = (
            s.N * s.L * (s.H + shape.kv_heads) * s.T * 4 / MB + s.token_gram_megabytes
        )  # weights on position 0, values' norms
        disk = _RAW * raw + _COMPRESSED * listed + s.gram_megabytes / 2 + s.first_token_megabytes + scores * 0.6
        seconds = 1.5 * self._forward_seconds(shape, s.N * s.T, s.T, threads) + raw / 100
        seconds += s.gram_seconds(self.config.machine.core_gflops)
        # rows that wait for the end of their batch: scores, weights on position 0, norms of the values, products of tokens
        rows = s.L * s.B * (40 * s.P * s.H + 4 * s.T * (s.H + shape.kv_heads)) / MB + s.token_gram_megabytes * min(
            1, s.B / 16
        )
        whole = any(site.site == "attention" for site in self.config.activations.sites)
        live, seen = (s.layer_megabytes, s.seen_megabytes) if whole or not s.blockwise else s.blockwise_megabytes
        host = threads * (seen + rows) + summaries + firsts
        return self._runs_model(shape, live=live, host=host, seconds=seconds, disk=disk)

    def _measure_weights(self, model: str) -> Needs:
        shape = self.shape(model)
        held, neurons = shape.layers * shape.layer_matrices * 4 / MB, shape.layers * shape.ffn_width
        made = (16 * shape.width * shape.ffn_width + 1400 * neurons) / MB
        return Needs(_TORCH - 10 + held + made, _SECONDS[_TORCH] + held / 200, 60 * neurons / MB)

    # statistics

    def _statistic(self, rule: str, model: str, prompts: str) -> Needs:
        """A statistic of one model; by default it reads scores of every head and vectors of some positions, and resamples them."""
        s, shape = self._sizes(model, prompts), self.shape(model)
        disk = 0.1
        match rule:
            case "compute_variance":
                memory, seconds = 0.0, 0.0
                for site in self.config.activations.sites:
                    if site.site in self.config.activations.variance_sites:
                        sequences = min(s.N, site.sequences or s.N)
                        positions, width = len(site.positions or range(s.P)), _width(shape, site.site, s.T)
                        memory = max(memory, s.moments(sequences, positions, width))
                        seconds += 1.5e-10 * s.L * s.R * sequences * positions * width
            case "compute_variance_through_output":
                outer = next(site for site in self.config.activations.sites if site.site == "output_projection_output")
                positions, width = len(outer.positions or range(s.P)), shape.attention_width
                memory = 6 * positions * (s.R + 1) * width * 8 / MB + 5 * s.block(s.N, s.P, width)
                seconds = 1e-9 * s.L * s.R * width * (positions * s.N + width)
            case "compute_norms" | "compute_disparity":
                read = 2 if rule == "compute_norms" else 5
                memory = read * s.chunk(s.N * s.P * 28) + 1500 * s.L * s.P / MB
                seconds = 5e-9 * s.L * s.N * s.P * s.R
            case "compute_sinks":
                memory = 2.5 * s.chunk(s.N * s.H * s.P * 28) + (1900 * s.L + 8 * s.R) * s.H * s.P / MB
                seconds, disk = 5e-9 * s.L * s.N * s.H * s.P * s.R, 80 * s.L * s.H * s.P / MB
            case "compute_first_positions":
                memory, seconds = 4 * s.chunk(s.N * s.H * s.P * 20), 1e-7 * s.L * s.N * s.H * s.P
            case "compute_secondary_sinks":
                memory = 5.5 * s.chunk(s.N * s.H * s.P * 20) + 1000 * s.L * s.P / MB
                seconds = 5e-7 * s.L * s.N * s.H * s.P
            case "compute_keys":
                head = shape.head_width
                memory = 5 * s.chunk(s.N * s.H * 3 * head * 4) + 2 * s.chunk(s.H * head**2 * 8)
                memory += 4 * s.chunk(s.N * s.H * s.P * 12)
                seconds = 1e-8 * s.L * s.H * (head**3 + s.R * s.N * head)
            case "compute_super_neurons":
                memory = ((2300 * s.L + 24 * s.R + 16 * s.N + 52 * min(s.T, 512)) * s.f + 1000 * s.L * s.P) / MB
                seconds, disk = 2e-9 * s.L * s.f * s.R * s.N, 100 * s.L * s.f / MB
            case "compute_effective_rank":
                memory, seconds = 11 * s.d**2 * 8 / MB, 4 * (s.L + 1) * 4 / 3 * s.d**3 / (_EIGEN_GFLOPS * 1e9)
            case "compute_value_drain":
                kept = shape.kv_heads
                memory = 6 * s.chunk(s.N * kept * s.T * 4) + 4 * s.chunk(s.N * s.H * s.P * 12) + 0.3 * s.L
                memory += s.N * s.L * s.H * 8 / MB + (4 * _PERMUTATIONS * s.L * kept + 24 * s.R * s.L * kept) / MB
                seconds, disk = 5e-9 * s.L * s.N * kept * s.T * s.R, 80 * s.L * (s.T + kept) / MB
            case "compute_matrix_entropy":
                memory = (
                    9.5 * s.d**2 * 8 / MB + 4 * s.token_gram_megabytes / (s.L + 1) + 4 * s.chunk(s.N * s.H * s.P * 12)
                )
                seconds = 2 * (s.L + 1) * 4 / 3 * s.d**3 / (_EIGEN_GFLOPS * 1e9)
            case "compute_super_weight":
                memory, seconds = 3 + s.chunk(s.N * 60), 1e-8 * s.L * s.N * s.R
            case "compute_row_sinks":
                memory = 6 * s.chunk(s.N * s.H * s.T * 4) + 0.3 * s.L + 40 * s.R * s.H / MB
                seconds, disk = 2e-8 * s.L * s.N * s.H * s.T, 400 * s.L * s.H / MB
            case _:
                memory = 5 * s.chunk(s.N * s.H * s.P * 28) + 5 * s.block(s.N, s.P, shape.attention_width)
                seconds, disk = 5e-9 * s.L * s.N * s.H * s.P * s.R, 80 * s.L * s.H * s.P / MB
        return Needs(_TABLES + memory, _SECONDS[_TABLES] + seconds, disk)

    def _compute_anatomy(self, model: str) -> Needs:
        shape, prompts = self.shape(model), self._prompts.values()
        rows = shape.layers * max(shape.heads * max(one.length for one in prompts), shape.ffn_width)
        return Needs(_TABLES + 10 + 150 * rows / MB, _SECONDS[_TABLES] + 1e-6 * rows * len(prompts), 0.1)

    # interventions

    def _edits(self, model: str, prompts: str) -> list[Intervention]:
        return [edit for edit in self.config.interventions if edit.runs_on(model, prompts)]

    def _edited(self, model: str, prompts: str) -> tuple["_Sizes", int]:
        """Sizes of the sequences that interventions run, and the number of edits."""
        edits, available = self._edits(model, prompts), self._prompts[prompts].sequences
        sequences = max(edit.sequences or available - edit.calibration for edit in edits)
        points = sum(len(e.positions) * len(e.strengths) * len(e.mean_factors or [1]) for e in edits)
        s = self._sizes(model, prompts)
        return replace(s, N=sequences, B=min(s.B, sequences)), points

    def _edits_a_model(self, model: str, prompts: str, *, workers: int, passes: float, rows: int) -> Needs:
        """What a job needs that runs a model without edits, or with them too.

        Args:
            workers: batches at the same time.
            passes: forward passes over all sequences.
            rows: bytes of the tables for each sequence, layer and head.
        """
        s, _ = self._edited(model, prompts)
        head = self._prompts[prompts].kind == "natural_text"
        # where losses are read, logits are made a block at a time, see interventions/logits.py, and copied once
        logits = 2 * min(s.B * s.T * s.shape.vocabulary * 4 / MB, 128.0) + 50
        batch = s.replayed_megabytes + (logits if head else 0.0)
        return self._runs_model(
            s.shape,
            live=s.layer_megabytes + workers * batch,
            host=20 + 2.6 * s.L + (workers * batch if self.device != "cuda" else 0.0),
            seconds=passes * self._forward_seconds(s.shape, s.N * s.T, s.T, workers),
            disk=rows * s.N * s.L * s.H / MB,
            head=head,
        )

    def _resolve_interventions(self, model: str, prompts: str) -> Needs:
        shape = self.shape(model)
        return Needs(_TABLES + 30 + 60 * shape.layers * shape.ffn_width / MB, _SECONDS[_TABLES], 0.1)

    def _measure_baseline(self, model: str, prompts: str) -> Needs:
        targets = len({k for edit in self._edits(model, prompts) for k in edit.targets})
        return self._edits_a_model(model, prompts, workers=1, passes=1, rows=12 * targets)

    def _intervene(self, model: str, prompts: str) -> Needs:
        _, points = self._edited(model, prompts)
        # an edit's pass begins where the edit does
        return self._edits_a_model(model, prompts, workers=2, passes=0.7 * points, rows=8 * points)

    # the first look's are a few of the study's
    _edit_for_first_look = _intervene

    def _compute_intervention_effects(self, model: str, prompts: str) -> Needs:
        s, points = self._edited(model, prompts)
        comparisons = 30 * points * self.config.statistics.comparison_replicates * 8 / MB
        memory = _TABLES + 43 + comparisons + 5 * s.N * s.L * s.H * 8 / MB
        return Needs(memory, _SECONDS[_TABLES] + 0.1 * points, 0.1)

    _measure_first_look = _compute_intervention_effects

    def _follow_edits(self, model: str, prompts: str) -> Needs:
        mechanism = self.config.mechanism
        s = self._sizes(model, prompts)
        s = replace(s, N=mechanism.sequences, B=min(s.B, mechanism.sequences))
        passes = _PATCHED_PASSES * (1 + len(mechanism.causes))
        return self._runs_model(
            s.shape,
            live=s.layer_megabytes + 2 * s.replayed_megabytes,
            host=20 + 2.6 * s.L + (2 * s.replayed_megabytes if self.device != "cuda" else 0.0),
            seconds=passes * self._forward_seconds(s.shape, s.N * s.T, s.T, 2),
            disk=0.1 + 100 * passes * s.N / MB,
        )

    def _compute_mediation(self, model: str, prompts: str) -> Needs:
        rows = _PATCHED_PASSES * (1 + len(self.config.mechanism.causes)) * self.config.mechanism.sequences
        return Needs(_TABLES + 25 + 2000 * rows / MB, _SECONDS[_TABLES] + 2, 0.1)

    # pretraining

    def _train_tokenizer(self, data: str) -> Needs:
        size = self._text(data)
        return Needs(106 + 40 * math.sqrt(size), _SECONDS[_TABLES] + size / 2, 1)

    def _take_tokenizer(self, data: str) -> Needs:
        return Needs(_TORCH, _SECONDS[_TORCH], 5)

    def _tokenize_corpus(self, data: str) -> Needs:
        size = self._text(data)
        return Needs(90 + 48 * min(size, 6), _SECONDS[_TABLES] + size / 2, size / 2)

    def _make_bigram_backcopy(self, data: str) -> Needs:
        task = self._data[data]
        assert not isinstance(task, TextData)
        return Needs(105 + 30 * task.tokens / MB, _SECONDS[_TABLES] + task.tokens / 1e6, 2.2 * task.tokens / MB)

    def _pretrain(self, run: str, seed: str, learning_rate: str | None = None) -> Needs:
        settings, pretraining = self._runs[run], self.config.pretraining
        devices = pretraining.gpus if self.device == "cuda" and learning_rate is None else 1
        dtype = settings.dtype if settings.dtype != "auto" else ("bfloat16" if self.device == "cuda" else "float32")
        run_settings, vocabulary = settings.model_dump() | {"dtype": dtype}, self.vocabulary(settings.data)
        needs = cost(run_settings, vocabulary=vocabulary, options=settings.options, devices=devices)
        machine = self.config.machine
        speed = machine.gpu_tflops * 1e12 if self.device == "cuda" else pretraining.threads * machine.core_gflops * 1e9
        seconds = _SECONDS[_TORCH] + needs.flops / (speed * devices)
        weights = 4 * needs.parameters / MB
        # beside the exported model: what is kept, and one state with AdamW's moments
        disk = weights * ((1 + len(settings.keep)) if learning_rate is None else 0) + 3 * weights
        needed = needs.memory / MB
        if self.device == "cuda":
            memory = devices * (_TORCH + _CUDA) + 2 * weights
            return Needs(memory, seconds, disk, _CONTEXT + needed, devices)
        return Needs(_TORCH + 60 + needed, seconds, disk)

    _pretrain_with_checkpoints = _pretrain_learning_rate = _pretrain

    def _measure_training(self, run: str) -> Needs:
        """What measuring all seeds of a run needs, one after the other."""
        settings = self._runs[run]
        name, seeds = f"{run}-seed{settings.seeds[0]}", len(settings.seeds)
        further = set(self.config.pretraining.further_prompts or [])
        read = [self._sizes(name, prompts) for prompts in self.config.pretraining.measured_prompts]
        reads = [
            1 if prompts in further else 1 + len(settings.keep) for prompts in self.config.pretraining.measured_prompts
        ]
        gflops = self.config.machine.core_gflops
        passes = [1 + self._forward_seconds(s.shape, s.N * s.T, s.T, 1) + s.gram_seconds(gflops) for s in read]
        return self._runs_model(
            self.shape(name),
            live=max(s.layer_megabytes for s in read),
            host=max(s.seen_megabytes + s.gram_megabytes for s in read),
            seconds=seeds * sum(number * seconds for number, seconds in zip(reads, passes, strict=True)),
            disk=0.1 * seeds,
        )

    def _table(self, **wildcards: str) -> Needs:
        """A table of a whole study, or of all its trainings, made from other tables."""
        return Needs(_TABLES + 5, _SECONDS[_TABLES] + 0.1 * len(self._trained), 0.1)

    def _compare_pretraining(self) -> Needs:
        return Needs(_TABLES + 10 + 3.5 * len(self._trained), _SECONDS[_TABLES] + 0.1 * len(self._trained), 0.1)

    def _compute_ladder(self) -> Needs:
        return Needs(_TABLES + 75, _SECONDS[_TABLES] + 1, 0.1)  # SciPy's optimizers and distributions

    # figures and claims

    def _plot(self, neuron_bytes: int = 0, imports: float = _DRAWING) -> Needs:
        """A figure of all models that go through all statistics, which holds so many bytes of each of their FFN neurons."""
        shapes = [self.shape(model) for model in (*self._models, *self.config.studied)]
        neurons = sum(shape.layers * shape.ffn_width for shape in shapes)
        memory = imports + 3 * len(shapes) + neuron_bytes * neurons / MB
        return Needs(memory, _SECONDS[_DRAWING] + len(shapes), 1)

    def _plot_channel_sparsity(self) -> Needs:
        return self._plot(neuron_bytes=900)

    def _plot_super_neurons(self) -> Needs:
        return self._plot(neuron_bytes=1150)

    def _plot_by_seaborn(self) -> Needs:
        """A figure that seaborn draws, or whose colours it has."""
        return self._plot(imports=_DRAWING + _SEABORN)

    _plot_dispersion_grid = _plot_loss_curves = _plot_mask_by_layers_and_position = _plot_by_seaborn
    _plot_query_alignment = _plot_variance_by_position = _plot_by_seaborn

    def _judge_claims(self) -> Needs:
        pairs = len(self._models) * len(self._prompts) + len(self.config.studied) * len(self.config.pretraining.prompts)
        return Needs(_TABLES + 62 + 4 * pairs, _SECONDS[_TABLES] + 5, 1)

    def _make_page(self) -> Needs:
        pairs = len(self._models) * len(self._prompts) + len(self.config.studied) * len(self.config.pretraining.prompts)
        # Altair and the engine that bundles Vega; tables and figures as text, several times over
        return Needs(_TABLES + 100 + 7 * pairs, _SECONDS[_TABLES] + 8, 10)


def _width(shape: Shape, site: str, length: int) -> int:
    """Width of the vectors of a site."""
    match site:
        case "value_aggregation" | "output_projection_input" | "query" | "key":
            return shape.attention_width
        case "ffn_activation":
            return shape.ffn_width
        case "attention":
            return shape.heads * length
    return shape.width


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a model on a prompt set, in the letters of docs/science.md, and MB of what is made of them.

    Attributes:
        N, T: sequences and positions.
        B: sequences in a batch.
        R: bootstrap replicates.
        L, H: layers and query heads.
        d, f: widths of the residual stream and of the FFN.
    """

    shape: Shape
    N: int
    T: int
    B: int
    R: int

    P = property(lambda self: min(self.T, POSITIONS))  # positions that tables have
    L = property(lambda self: self.shape.layers)
    H = property(lambda self: self.shape.heads)
    d = property(lambda self: self.shape.width)
    f = property(lambda self: self.shape.ffn_width)

    @property
    def layer_megabytes(self) -> float:
        """MB that the forward pass of one layer holds for a batch: vectors, attention weights, and copies of both."""
        vectors = 12 * self.d + 4 * self.f + 6 * self.shape.attention_width
        return self.B * self.T * (vectors + 4 * self.H * self.T) * 4 / MB

    @property
    def seen_megabytes(self) -> float:
        """MB that reading every layer of a batch leaves in memory until its end, as measured: 3 (d + f) numbers a token."""
        return self.B * self.T * (3 * self.L * (self.d + self.f) + 4 * self.H * self.T) * 4 / MB

    @property
    def blockwise(self) -> bool:
        """Whether an extraction computes attention in blocks of queries."""
        return in_blocks(self.B, self.H, self.T, self.T)

    @property
    def blockwise_megabytes(self) -> tuple[float, float]:
        """``layer_megabytes`` and ``seen_megabytes`` of such an extraction, which gives memory back after every layer."""
        vectors = 12 * self.d + 4 * self.f + 6 * self.shape.attention_width
        blocks = 4 * ATTENTION_BYTES / MB
        return self.B * self.T * vectors * 4 / MB + blocks, self.B * self.T * 3 * (self.d + self.f) * 4 / MB

    @property
    def replayed_megabytes(self) -> float:
        """MB that passes of a batch without and with edits hold, as measured: keys and values, and 5.5 d numbers a token."""
        keys_and_values = 2 * self.shape.kv_heads * self.shape.head_width
        return self.B * self.T * (self.L * (keys_and_values + 5.5 * self.d) + 4 * self.H * self.T) * 4 / MB

    @property
    def gram_megabytes(self) -> float:
        """MB of the Gram matrices of the residual stream, of first tokens (or their vectors) and others, and of the queries."""
        width, tokens = self.d, self.N
        first = tokens * width / 2 if tokens <= width / 2 else width**2
        residual, queries = (self.L + 1) * (first + width**2), self.L * self.H * self.shape.head_width**2
        return (residual + queries + self.L * min(self.T, 512) * self.d) * 8 / MB

    @property
    def token_gram_megabytes(self) -> float:
        """MB of the products of the tokens of some sequences; see activations/summaries/token_gram.py."""
        positions = min(self.T, 128)
        return min(self.N, 16) * (self.L + 1) * positions * (positions + 1) / 2 * 4 / MB

    def gram_seconds(self, core_gflops: float) -> float:
        """Seconds that making the Gram matrices takes."""
        return 4 * (self.L + 1) * self.N * self.T * self.d**2 / (core_gflops * 1e9)

    @property
    def first_token_megabytes(self) -> float:
        """MB of the tables of the first tokens' neurons and keys, and of the cosines with the gates."""
        return (
            self.L
            * (3 * self.N * self.f + 3 * self.N * self.shape.attention_width + min(self.T, 512) * self.f)
            * 4
            / MB
        )

    def chunk(self, layer: float) -> float:
        """MB of a table that are read at once, from the bytes of one of its layers."""
        layer /= MB
        return max(layer, min(_AT_ONCE, self.L * layer))

    def block(self, sequences: int, positions: int, width: int) -> float:
        """MB of raw vectors that are read at once: all where they are few, else a block; see statistics/variance.py."""
        numbers = sequences * positions * width
        return 4 * (numbers if numbers <= 2_500_000 else max(2**19, positions * width)) / MB

    def moments(self, sequences: int, positions: int, width: int) -> float:
        """MB of weighted moments over sequences, for all replicates."""
        several = sequences * positions * width > 2_500_000
        means = 1.3 * positions * (self.R + 1) * width * 4 / MB if several else 0.0
        return 9.3 * self.block(sequences, positions, width) + means + 3 * positions * width * 8 / MB
