"""What an extraction leaves behind besides raw vectors: sums and rows whose memory depends on the model, not on the
number of sequences.

Every summary takes (n, T, width) float32 tensors of whole sequences, in order, and is used from one thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.sites.architecture import Architecture, first_tensor
from sinkorigin.sites.attention import Tap

# Sun et al. 2024: a massive activation is larger than this, so below it no median is needed
MASSIVE = 100.0

_LAYER = (pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding")
_SEQUENCE = (pa.int32(), "number of the sequence in the prompt table")

MAGNITUDES_SCHEMA = tables.schema(
    site=(pa.string(), "residual or attention_input"),
    layer=_LAYER,
    sequence=_SEQUENCE,
    position=(pa.int32(), "position in the sequence, from 0"),
    norm=(pa.float32(), "Euclidean norm of the vector"),
    mean_abs=(pa.float32(), "mean over dims of the absolute value"),
    max_abs=(pa.float32(), "largest absolute value over dims"),
    max_dim=(pa.int32(), "the dim that has it"),
    width=(pa.int32(), "number of dims"),
    hidden_median=(
        pa.float32(),
        "residual: median absolute value of all positions and dims of this sequence and layer; null where none exceeds 100",
    ),
)

NEURON_MOMENTS_SCHEMA = tables.schema(
    layer=(pa.int32(), "layer, counted from 0"),
    tokens=(pa.string(), "first (position 0) or rest (positions >= 1)"),
    neuron=(pa.int32(), "FFN neuron"),
    count=(pa.int64(), "number of tokens"),
    mean_abs=(pa.float64(), "mean absolute value of the activation"),
    max_abs=(pa.float64(), "largest absolute value"),
)

GATE_COSINES_SCHEMA = tables.schema(
    layer=(pa.int32(), "layer, counted from 0"),
    position=(pa.int32(), "position in the sequence, from 0"),
    cosine=(pa.list_(pa.float32()), "for each neuron: mean over sequences of cos(FFN input, gate weights)"),
)

RESIDUAL_GRAM_SCHEMA = tables.schema(
    layer=_LAYER,
    tokens=(pa.string(), "first (position 0) or rest (positions >= 1)"),
    dim=(pa.int32(), "dim i"),
    count=(pa.int64(), "number of tokens"),
    sum=(pa.float64(), "sum over tokens of x_i"),
    products=(pa.list_(pa.float64()), "sums over tokens of x_i x_j for j >= i; null where values are given"),
    values=(
        pa.list_(pa.float32()),
        "x_i of every token, where the tokens are at most half as many as the dims: the smaller of the two",
    ),
)

QUERY_GRAM_SCHEMA = tables.schema(
    layer=(pa.int32(), "layer, counted from 0"),
    head=(pa.int32(), "query head"),
    dim=(pa.int32(), "dim i of the head"),
    count=(pa.int64(), "number of queries (positions >= 1)"),
    products=(pa.list_(pa.float64()), "sums over queries of q_i q_j for every j"),
)

FIRST_TOKEN_NEURONS_SCHEMA = tables.schema(
    sequence=_SEQUENCE,
    layer=(pa.int32(), "layer, counted from 0"),
    activation=(pa.list_(pa.float32()), "for each neuron n: its activation a_n at position 0"),
    on_output=(pa.list_(pa.float32()), "for each: its down weights w_n · the sum of a_m w_m over all neurons m"),
    on_residual=(
        pa.list_(pa.float32()),
        "for each: w_n · the residual stream leaving the layer; null where a norm after the FFN rescales w_n",
    ),
    output_norm=(pa.float32(), "Euclidean norm of the sum of a_m w_m over all neurons m"),
)

FIRST_TOKEN_KEYS_SCHEMA = tables.schema(
    sequence=_SEQUENCE,
    layer=(pa.int32(), "layer, counted from 0"),
    head=(pa.int32(), "query head; heads of one group share their key"),
    key=(pa.list_(pa.float32()), "key of position 0, after QK-norm and rotary embedding"),
    one_dim=(pa.list_(pa.float32()), "the key if the residual stream had its largest dim only; null without a norm"),
    two_dims=(pa.list_(pa.float32()), "the same for its two largest dims"),
    top_dim=(pa.int32(), "the largest dim"),
    one_hot=(
        pa.float32(),
        "cosine between the normalised residual stream, before the norm's weights, and its largest dim alone",
    ),
    positive=(pa.float32(), "share of the queries at positions >= 1 with q · key > 0"),
)

TABLES = {
    "magnitudes": MAGNITUDES_SCHEMA,
    "neuron_moments": NEURON_MOMENTS_SCHEMA,
    "gate_cosines": GATE_COSINES_SCHEMA,
    "residual_gram": RESIDUAL_GRAM_SCHEMA,
    "query_gram": QUERY_GRAM_SCHEMA,
    "first_token_neurons": FIRST_TOKEN_NEURONS_SCHEMA,
    "first_token_keys": FIRST_TOKEN_KEYS_SCHEMA,
}

# sites of which every vector is looked at, whatever is kept raw
WHOLE_SITES = ("residual", "attention_input", "ffn_input", "ffn_activation")
MAGNITUDE_SITES = ("residual", "attention_input")


def _lists(values: np.ndarray, type_: pa.ListType) -> pa.ListArray:
    """(rows, width) numbers as a column of lists."""
    rows, width = values.shape
    offsets = np.arange(0, rows * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1), type=type_.value_type))


def magnitude_rows(site: str, layer: int, first: int, values: np.ndarray) -> dict:
    """Rows of the magnitudes table for one (n, T, d) array whose first sequence has the number ``first``."""
    sequences, length, width = values.shape
    absolute = np.abs(values)  # NumPy, here and below: on one thread it is several times as fast as PyTorch
    max_dim = absolute.argmax(axis=-1)
    max_abs = np.take_along_axis(absolute, max_dim[..., None], axis=-1)[..., 0]
    rows = sequences * length
    median = np.full(sequences, np.nan, dtype=np.float32)
    if site == "residual":
        candidates = max_abs.max(axis=-1) > MASSIVE
        hidden = absolute.reshape(sequences, -1)[candidates]
        middle = (length * width - 1) // 2  # the lower of two middle ones, one number of millions
        median[candidates] = np.partition(hidden, middle, axis=1)[:, middle]
    return {
        "site": pa.array([site]).take(pa.array(np.zeros(rows, dtype=np.int32))),
        "layer": np.full(rows, layer, dtype=np.int32),
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), length),
        "position": np.tile(np.arange(length, dtype=np.int32), sequences),
        "norm": np.sqrt(np.einsum("ntd,ntd->nt", values, values)).reshape(-1),
        "mean_abs": absolute.mean(axis=-1).reshape(-1),
        "max_abs": max_abs.reshape(-1),
        "max_dim": max_dim.reshape(-1).astype(np.int32),
        "width": np.full(rows, width, dtype=np.int32),
        "hidden_median": pa.array(np.repeat(median, length), from_pandas=True),
    }


class NeuronMoments:
    """Mean and largest magnitude of each neuron's activation, over the first tokens and over the others."""

    def __init__(self):
        self._sums: dict[tuple[int, str], tuple[int, np.ndarray, np.ndarray]] = {}  # count, sum of |a|, max of |a|

    def add(self, layer: int, values: Tensor) -> None:
        """Take (n, T, f) FFN activations."""
        magnitude = np.abs(values.numpy())
        first = magnitude[:, 0].copy()
        magnitude[:, 0] = 0  # adds nothing to the others' sum, and is not their largest
        for tokens, part in (("first", first), ("rest", magnitude.reshape(-1, magnitude.shape[-1]))):
            count = len(first) if tokens == "first" else len(part) - len(first)
            if not count:
                continue
            # a batch in float32, by a product, which is several times as fast as a sum; the batches in float64
            total = np.ones(len(part), dtype=np.float32) @ part
            largest = part.max(axis=0)
            old = self._sums.get((layer, tokens), (0, np.float64(0), largest))
            self._sums[layer, tokens] = (old[0] + count, old[1] + total, np.maximum(old[2], largest))

    def write(self, path: Path) -> None:
        with tables.table_writer(path, NEURON_MOMENTS_SCHEMA) as writer:
            for (layer, tokens), (count, magnitude, largest) in sorted(self._sums.items()):
                neurons = len(largest)
                writer.write_table(
                    pa.table(
                        {
                            "layer": np.full(neurons, layer, dtype=np.int32),
                            "tokens": [tokens] * neurons,
                            "neuron": np.arange(neurons, dtype=np.int32),
                            "count": np.full(neurons, count),
                            "mean_abs": magnitude / count,
                            "max_abs": largest.astype(np.float64),
                        },
                        schema=NEURON_MOMENTS_SCHEMA,
                    )
                )


class GateCosines:
    """Mean over sequences of cos(FFN input, gate weights) by layer and position.

    The mean of cosines with one vector is its product with the mean unit vector, so only (T, d) sums are kept.
    """

    def __init__(self):
        self._units: dict[int, np.ndarray] = {}
        self._counts: dict[int, int] = {}

    def add(self, layer: int, values: Tensor) -> None:
        """Take (n, T, d) FFN inputs."""
        units = torch.nn.functional.normalize(values, dim=-1).sum(0).double().numpy()  # (T, d)
        self._units[layer] = self._units.get(layer, 0.0) + units
        self._counts[layer] = self._counts.get(layer, 0) + len(values)

    def write(self, path: Path, architecture: Architecture) -> None:
        column = GATE_COSINES_SCHEMA.field("cosine").type
        with tables.table_writer(path, GATE_COSINES_SCHEMA) as writer:
            for layer, units in sorted(self._units.items()):
                gate = architecture.projections[layer].get("gate")
                if gate is None:
                    continue
                weights = torch.nn.functional.normalize(gate.weight(), dim=-1)  # (f, d)
                cosines = torch.from_numpy(units / self._counts[layer]).float() @ weights.T  # (T, f)
                writer.write_table(
                    pa.table(
                        {
                            "layer": np.full(len(units), layer, dtype=np.int32),
                            "position": np.arange(len(units), dtype=np.int32),
                            "cosine": _lists(cosines.numpy(), column),
                        },
                        schema=GATE_COSINES_SCHEMA,
                    )
                )


class ResidualGram:
    """Gram matrix over tokens of the residual stream in float64: one (d, d) matrix a layer for the first tokens and one
    for the others, which hold what singular values and means need. Up to d / 2 tokens are kept as they are instead."""

    def __init__(self):
        self._counts: dict[tuple[int, str], int] = {}
        self._totals: dict[tuple[int, str], np.ndarray] = {}  # (d,)
        self._few: dict[tuple[int, str], list[np.ndarray]] = {}  # (m, d) float32 each
        self._grams: dict[tuple[int, str], np.ndarray] = {}  # X^T X, once there are more

    def add(self, layer: int, tokens: str, vectors: Tensor) -> None:
        """Take (m, d) residual vectors of these tokens: "first" or "rest"."""
        if not len(vectors):
            return
        key, values = (layer, tokens), vectors.numpy()
        self._counts[key] = self._counts.get(key, 0) + len(values)
        self._totals[key] = self._totals.get(key, 0.0) + values.sum(0, dtype=np.float64)
        if self._counts[key] <= values.shape[1] // 2:
            self._few.setdefault(key, []).append(values.copy())
            return
        for part in (*self._few.pop(key, []), values):
            product = _products(part)
            if key in self._grams:
                product += self._grams[key]
            self._grams[key] = product

    def matrices(self) -> Iterator[tuple[int, str, np.ndarray]]:
        """Layer, tokens and (d, d) Gram matrix of each, in order."""
        for layer, tokens in sorted(self._counts):
            few = self._few.get((layer, tokens))
            yield layer, tokens, self._grams[layer, tokens] if few is None else _products(np.concatenate(few))

    def write(self, path: Path) -> None:
        products, values = (RESIDUAL_GRAM_SCHEMA.field(name).type for name in ("products", "values"))
        with tables.table_writer(path, RESIDUAL_GRAM_SCHEMA) as writer:
            for key, count in sorted(self._counts.items()):
                layer, tokens = key
                width = len(self._totals[key])
                columns = {"products": pa.nulls(width, products), "values": pa.nulls(width, values)}
                if key in self._few:
                    columns["values"] = _lists(np.concatenate(self._few[key]).T, values)
                else:
                    offsets = np.concatenate([[0], np.cumsum(np.arange(width, 0, -1))]).astype(np.int32)
                    upper = np.concatenate([row[i:] for i, row in enumerate(self._grams[key])])
                    columns["products"] = pa.ListArray.from_arrays(offsets, pa.array(upper), type=products)
                writer.write_table(
                    pa.table(
                        {
                            "layer": np.full(width, layer, dtype=np.int32),
                            "tokens": [tokens] * width,
                            "dim": np.arange(width, dtype=np.int32),
                            "count": np.full(width, count),
                            "sum": self._totals[key],
                            **columns,
                        },
                        schema=RESIDUAL_GRAM_SCHEMA,
                    )
                )


def _products(vectors: np.ndarray) -> np.ndarray:
    """X^T X in float64 of (m, d) vectors; NumPy sees the transpose and computes one triangle."""
    double = vectors.astype(np.float64)
    return double.T @ double


class QueryGram:
    """Gram matrix of each head's queries at positions >= 1: its first eigenvector is their first right-singular vector."""

    def __init__(self):
        self._grams: dict[int, np.ndarray] = {}  # (H, d_k, d_k)
        self._counts: dict[int, int] = {}

    def add(self, layer: int, queries: Tensor) -> None:
        """Take (n, H, T, d_k) queries of all positions."""
        later = queries[:, :, 1:].transpose(0, 1).flatten(1, 2).numpy()  # (H, n·(T−1), d_k)
        products = np.stack([own.T @ own for own in later])  # NumPy computes one triangle
        self._grams[layer] = self._grams.get(layer, 0.0) + products.astype(np.float64)  # the batches in float64
        self._counts[layer] = self._counts.get(layer, 0) + later.shape[1]

    def write(self, path: Path) -> None:
        column = QUERY_GRAM_SCHEMA.field("products").type
        with tables.table_writer(path, QUERY_GRAM_SCHEMA) as writer:
            for layer, grams in sorted(self._grams.items()):
                heads, width, _ = grams.shape
                rows = heads * width
                writer.write_table(
                    pa.table(
                        {
                            "layer": np.full(rows, layer, dtype=np.int32),
                            "head": np.repeat(np.arange(heads, dtype=np.int32), width),
                            "dim": np.tile(np.arange(width, dtype=np.int32), heads),
                            "count": np.full(rows, self._counts[layer]),
                            "products": _lists(grams.reshape(rows, width), column),
                        },
                        schema=QUERY_GRAM_SCHEMA,
                    )
                )


def largest_dims(vectors: Tensor, count: int) -> Tensor:
    """(n, d) vectors with all but their ``count`` dims of largest magnitude set to 0."""
    kept = vectors.abs().topk(count, dim=-1).indices
    return torch.zeros_like(vectors).scatter(-1, kept, vectors.gather(-1, kept))


def one_hot_cosine(vectors: Tensor, norm: str) -> Tensor:
    """Cosine between the normalised vector, before the norm's weights, and that of its largest dim alone (docs/paper.md, K1).

    RMSNorm keeps the direction, so it is |x_c| / ||x||. LayerNorm subtracts the mean from both: x − mean(x) against
    e_c − 1/d.

    Args:
        vectors: (n, d) residual vectors. norm: "RMSNorm" or "LayerNorm".
    """
    alone = largest_dims(vectors, 1)
    if norm == "LayerNorm":
        vectors, alone = (part - part.mean(dim=-1, keepdim=True) for part in (vectors, alone))
    return torch.nn.functional.cosine_similarity(vectors, alone, dim=-1)


class _KeySeen(Exception):
    """Ends a block whose key has been seen."""


class _Keys(Tap):
    """Keeps the keys of position 0 of one forward pass, and ends each block but the first there."""

    def __init__(self):
        self.of: dict[int, Tensor] = {}

    def observe(self, layer, query, key, weights, aggregation):
        self.of[layer] = key[:, :, 0].detach().to("cpu", torch.float32)  # (n, H, d_k)
        if layer:
            raise _KeySeen


def keys_of_inputs(architecture: Architecture, inputs: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Keys that each layer would give position 0 if its block received these vectors.

    The model's own norm, key projection with bias, QK-norm and rotary embedding do the work, so the result is the
    collapse formula K1 of docs/paper.md whatever the architecture: for a vector with one dim c, RMSNorm gives
    ±sqrt(d)·γ_c·W_K[:, c] (1 + γ in Gemma), LayerNorm its own limit.

    Args:
        inputs: layer → (n, d) block inputs, for every layer.

    Returns:
        layer → (n, H, d_k) keys, repeated for grouped queries.
    """
    count = len(next(iter(inputs.values())))

    def replace(layer: int):
        def before(module, args, kwargs):
            old = first_tensor(args, kwargs)
            new = inputs[layer].to(old.device, old.dtype).reshape(old.shape)
            args = tuple(new if value is old else value for value in args)
            return args, {name: new if value is old else value for name, value in kwargs.items()}

        return before

    rest: tuple | None = None  # what a block returns beside the hidden states, where it returns a tuple

    def until_key(layer: int, forward):
        def ended(*args, **kwargs):
            nonlocal rest
            try:
                output = forward(*args, **kwargs)
            except _KeySeen:  # what the block returns is replaced before the next one
                hidden = first_tensor(args, kwargs)
                return hidden if rest is None else (hidden, *rest)
            rest = tuple(output[1:]) if isinstance(output, tuple | list) else None
            return output

        return ended

    keys = _Keys()
    handles = [
        block.register_forward_pre_hook(replace(layer), with_kwargs=True)
        for layer, block in enumerate(architecture.blocks)
    ]
    try:
        with architecture.tapped(keys), architecture.wrapped(until_key):
            device = next(architecture.model.parameters()).device
            architecture.forward(torch.zeros((count, 1), dtype=torch.long, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return keys.of


class FirstTokens:
    """Position 0 of every sequence: what each neuron writes, and the keys with their prediction from few dims.

    Collects sequences until they are taken and written, because both need the model's weights.
    """

    def __init__(self, architecture: Architecture, neurons, keys):
        """``neurons``, ``keys``: writers of the two tables."""
        self._architecture, self._neurons, self._keys = architecture, neurons, keys
        self._parts: dict[tuple[str, int], list[Tensor]] = {}
        self._first = 0

    def add(self, site: str, layer: int, vectors: Tensor) -> None:
        """Take what one batch has at position 0: (n, ...) of residual, ffn_activation, key, or positive shares."""
        self._parts.setdefault((site, layer), []).append(vectors)

    def take(self) -> dict[tuple[str, int], Tensor]:
        """What was collected, (site, layer) → (m, ...); it is forgotten here."""
        parts = {key: torch.cat(values) for key, values in self._parts.items()}
        self._parts.clear()
        return parts

    def write(self, parts: dict[tuple[str, int], Tensor]) -> None:
        """Write the rows of the sequences that were collected. Runs the model on one position."""
        self._write_neurons(parts)
        self._write_keys(parts)
        self._first += len(parts["residual", -1])

    def _numbers(self, count: int) -> np.ndarray:
        return np.arange(self._first, self._first + count, dtype=np.int32)

    def _write_neurons(self, parts: dict[tuple[str, int], Tensor]) -> None:
        column = FIRST_TOKEN_NEURONS_SCHEMA.field("activation").type
        for layer, projections in enumerate(self._architecture.projections):
            if "down" not in projections:
                continue
            down = projections["down"].weight()  # (d, f)
            activation = parts["ffn_activation", layer]  # (n, f)
            output = activation @ down.T  # (n, d)
            count = len(activation)
            on_residual = pa.nulls(count, column)
            if "contribution" not in self._architecture.missing[layer]:
                on_residual = _lists((parts["residual", layer] @ down).numpy(), column)
            self._neurons.write_table(
                pa.table(
                    {
                        "sequence": self._numbers(count),
                        "layer": np.full(count, layer, dtype=np.int32),
                        "activation": _lists(activation.numpy(), column),
                        "on_output": _lists((output @ down).numpy(), column),
                        "on_residual": on_residual,
                        "output_norm": torch.linalg.vector_norm(output, dim=-1).numpy(),
                    },
                    schema=FIRST_TOKEN_NEURONS_SCHEMA,
                )
            )

    def _write_keys(self, parts: dict[tuple[str, int], Tensor]) -> None:
        architecture = self._architecture
        inputs = {layer: parts["residual", layer - 1] for layer in range(architecture.layers)}
        count = len(inputs[0])
        predicted = keys_of_inputs(
            architecture, {k: torch.cat([largest_dims(x, 1), largest_dims(x, 2)]) for k, x in inputs.items()}
        )
        column = FIRST_TOKEN_KEYS_SCHEMA.field("key").type
        for layer, norm in enumerate(architecture.norms):
            key = parts["key", layer]  # (n, H, d_k)
            heads, width = key.shape[1:]
            rows = count * heads
            few = [part.reshape(rows, width).numpy() for part in predicted[layer].split(count)]
            one_hot = pa.nulls(rows, pa.float32())
            if norm is not None:
                one_hot = one_hot_cosine(inputs[layer], norm).repeat_interleave(heads).numpy()
            self._keys.write_table(
                pa.table(
                    {
                        "sequence": np.repeat(self._numbers(count), heads),
                        "layer": np.full(rows, layer, dtype=np.int32),
                        "head": np.tile(np.arange(heads, dtype=np.int32), count),
                        "key": _lists(key.reshape(rows, width).numpy(), column),
                        "one_dim": pa.nulls(rows, column) if norm is None else _lists(few[0], column),
                        "two_dims": pa.nulls(rows, column) if norm is None else _lists(few[1], column),
                        "top_dim": inputs[layer].abs().argmax(-1).int().repeat_interleave(heads).numpy(),
                        "one_hot": one_hot,
                        "positive": parts["positive", layer].reshape(rows).numpy(),
                    },
                    schema=FIRST_TOKEN_KEYS_SCHEMA,
                )
            )


def positive_share(query: Tensor, key: Tensor) -> Tensor:
    """Share of the queries at positions >= 1 with a positive product with the key of position 0 (docs/paper.md, K2).

    Args:
        query: (n, H, T, d_k); key: (n, H, d_k).

    Returns:
        (n, H), NaN for T = 1.
    """
    products = np.einsum("nhtd,nhd->nht", query[:, :, 1:].numpy(), key.numpy())
    return torch.from_numpy(products > 0).float().mean(dim=-1)


def part_rows(architecture: Architecture, sites: Sequence[str]) -> dict:
    """Rows of the architecture table: every site, matrix and norm of every layer, or why there is none."""
    names = {id(module): name for name, module in architecture.model.named_modules()}
    rows: dict[str, list] = {"layer": [], "part": [], "found": [], "reason": []}
    for layer in range(architecture.layers):
        places = architecture.places[layer]
        projections = architecture.projections[layer]
        found: dict[str, str | None] = {site: None for site in sites}
        found |= {site: f"{place.end} of {names[id(place.module)]}" for site, place in places.items()}
        tap = f"attention function of {names[id(architecture.attention[layer])]}"
        found |= dict.fromkeys(("value_aggregation", "query", "key", "attention"), tap)
        for role in ("output", "gate", "up", "down"):
            matrix = projections.get(role)
            found[role] = None if matrix is None else names[id(matrix.module)]
        found |= {"norm": architecture.norms[layer], "contribution": None}
        missing = architecture.missing[layer]
        if "contribution" not in missing and "down" in projections:
            found["contribution"] = "added to the residual stream as it is"
        for part in sorted(found):
            rows["layer"].append(layer)
            rows["part"].append(part)
            rows["found"].append(found[part])
            reason = missing.get(part) or missing.get("down" if part == "contribution" else part)
            rows["reason"].append(reason if found[part] is None else None)
    return rows


ARCHITECTURE_SCHEMA = tables.schema(
    layer=(pa.int32(), "layer, counted from 0"),
    part=(
        pa.string(),
        "a site; output, gate, up, down: matrices; norm: before the attention; contribution: of FFN neurons to the residual",
    ),
    found=(pa.string(), "the module where it is, or the kind of norm; null where the layer has none"),
    reason=(pa.string(), "why it has none"),
)
