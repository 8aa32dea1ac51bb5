"""Attention in blocks of queries, as long prompts are attended: the same tables, without a T × T matrix."""

import sys

import numpy as np
import polars as pl
import polars.testing
import pytest
import torch
from transformers.masking_utils import (
    causal_mask_function,
    chunked_causal_mask_function,
    eager_mask,
    sliding_window_causal_mask_function,
)

from architectures import ARCHITECTURES, build
from harness.config.variants import VARIANTS
from sinkorigin.activations import pipeline
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.summaries import gate_cosines, magnitudes, scores
from sinkorigin.activations.writers import Kept
from sinkorigin.errors import SinkoriginError
from sinkorigin.sites import batches, row_check
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.mask_rows import MaskRows
from sinkorigin.statistics import first_positions, secondary_sinks, sinks
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.uniform import uniform_score
from sinkorigin.variants.declaration import declared

N, T = 3, 12
BOOTSTRAP = {"model": "m", "prompts": "p", "resampling": Resampling(20, 0)}


@pytest.fixture
def blocks(monkeypatch):
    """Prompts of twelve tokens count as long: one sequence at a time, in blocks of one head and two queries."""

    def begin():
        monkeypatch.setattr(batches, "ATTENTION_BYTES", 1)
        monkeypatch.setattr(batches, "_BLOCK_BYTES_CPU", 4 * T * 2)
        monkeypatch.setattr(batches, "_FEWEST_QUERIES", 2)
        monkeypatch.setattr(batches, "_FEWEST_QUERIES_CPU", 2)

    return begin


def extracted(model, folder, architecture=None):
    """Name → table of an extraction, a sequence at a time."""
    ids = np.random.default_rng(0).integers(3, 96, size=(N, T))
    architecture = architecture or read_architecture(model)
    extract(
        architecture, ids, model="m", sites={"value_aggregation": Kept()}, batch=1, activations=folder,
        scores=folder / "scores.parquet",
    )  # fmt: skip
    frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in pipeline.TABLES if name != "architecture"}
    frames["value_aggregation"] = pl.read_parquet(sorted((folder / "value_aggregation").rglob("*.parquet")))
    return frames


def assert_same(blockwise, whole):
    for name, frame in whole.items():
        pl.testing.assert_frame_equal(blockwise[name], frame, rel_tol=1e-4, abs_tol=1e-4)
    for name, columns in {"scores": ["score", "score_excluding_self"], "first_token_attention": ["weight"]}.items():
        found, expected = (frames[name].select(columns) for frames in (blockwise, whole))
        pl.testing.assert_frame_equal(found, expected, rel_tol=0, abs_tol=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tables_of_attention_in_blocks_are_those_of_the_whole_matrix(name, blocks, tmp_path, monkeypatch):
    model = build(name)
    whole = extracted(model, tmp_path / "whole")
    blocks()
    seen = []
    add = pipeline.AttentionSums.add
    monkeypatch.setattr(
        pipeline.AttentionSums,
        "add",
        lambda self, weights, *place: (seen.append(weights.shape), add(self, weights, *place)),
    )
    assert_same(extracted(model, tmp_path / "blocks"), whole)
    if not read_architecture(model).eager:
        assert {shape[:3] for shape in seen} == {(1, 1, 2)}
        assert {shape[3] for shape in seen} >= {2, 4, 12} if name in ("llama", "gpt2") else seen


@pytest.mark.parametrize("variant", VARIANTS)
def test_tables_of_variants_in_blocks_are_those_of_the_whole_matrix(variant, blocks, tmp_path):
    torch.manual_seed(0)
    model_class = declared(variant).model_class
    model = model_class(model_class.config_class(**ARCHITECTURES["llama"][1])).eval()
    whole = extracted(model, tmp_path / "whole")
    blocks()
    assert_same(extracted(model, tmp_path / "blocks"), whole)


def test_a_sliding_window_leaves_keys_before_it_out_of_a_block(blocks, tmp_path):
    blocks()
    seen = []
    architecture = read_architecture(build("mistral"))  # its window is 4
    ids = torch.arange(3, 3 + T)[None]
    with watch_sites(
        architecture, [], None, on_weights=lambda layer, weights, *place: seen.append((weights.shape, place))
    ):
        architecture.forward(ids)
    assert max(shape[3] for shape, _ in seen) == 5  # two queries with windows of 4
    assert {place[1:] for _, place in seen} >= {(0, 0), (4, 1), (10, 7)}


MASKS = {
    "causal": causal_mask_function,
    "window": sliding_window_causal_mask_function(4),
    "chunks": chunked_causal_mask_function(4, torch.zeros(2, dtype=int)),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("padded", [False, True])
def test_rows_of_a_mask_are_those_of_the_whole(kind, padded):
    padding = torch.ones(2, T, dtype=torch.bool)
    if padded:
        padding[1, :3] = False  # its first queries see nothing
    arguments = {
        "batch_size": 2, "q_length": T, "kv_length": T, "q_offset": 0, "kv_offset": 0, "mask_function": MASKS[kind],
        "attention_mask": padding if padded else None, "dtype": torch.float32,
    }  # fmt: skip
    whole = eager_mask(**arguments)
    mask = MaskRows(arguments=arguments)
    assert torch.equal(mask.whole, whole)
    assert torch.equal(mask.of_queries([0, 5, 11]), whole[:, :, [0, 5, 11]])
    for first, stop in ((0, 1), (0, 3), (5, 9), (9, T)):
        keys, hidden = mask.rows(first, stop)
        expected = whole[:, :, first:stop].clone()
        found = torch.full_like(expected, torch.finfo(torch.float32).min)
        found[..., keys] = 0
        if hidden is not None:
            found[..., keys.stop - hidden.shape[-1] : keys.stop] = hidden
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss"])
def test_attention_in_blocks_that_is_not_the_class_s_own_ends_the_extraction(name, blocks, tmp_path, monkeypatch):
    model = build(name)
    blocks()
    extracted(model, tmp_path / "right")
    module = sys.modules[type(model).__module__]
    eager = module.eager_attention_forward

    def other_at_the_end(*args, **kwargs):
        output, weights = eager(*args, **kwargs)
        output[:, -1] *= 1.01
        return output, weights

    monkeypatch.setattr(module, "eager_attention_forward", other_at_the_end)
    with pytest.raises(
        SinkoriginError, match="model m: on a prompt of 12 tokens .*Attention gives another value aggregation"
    ):
        extracted(model, tmp_path / "wrong")
    assert not (tmp_path / "wrong" / "scores.parquet").exists()
    monkeypatch.setattr(row_check, "eager_function", lambda module: None)
    with pytest.raises(SinkoriginError, match="model m: .* has no eager attention function .* use shorter prompts"):
        extracted(model, tmp_path / "unknown")


def test_a_model_that_computes_with_its_mask_is_refused_for_long_prompts(blocks, tmp_path):
    model = build("llama")  # of all tests
    with model.model.layers[0].self_attn.register_forward_pre_hook(
        lambda _m, args, kwargs: (args, {**kwargs, "attention_mask": kwargs["attention_mask"].clone()}),
        with_kwargs=True,
    ):
        architecture = read_architecture(model)
        extracted(model, tmp_path / "short")
        blocks()
        with pytest.raises(
            SinkoriginError, match="computes with its attention mask itself .*its clone.* use prompts of at most"
        ):
            extracted(model, tmp_path / "long", architecture)


def test_the_kept_site_attention_is_the_whole_matrix_of_long_prompts_too(blocks, tmp_path):
    blocks()
    ids = np.random.default_rng(0).integers(3, 96, size=(2, T))
    extract(
        read_architecture(build("llama")), ids, model="m", sites={"attention": Kept()}, batch=1,
        activations=tmp_path / "a", scores=tmp_path / "scores.parquet",
    )  # fmt: skip
    rows = pl.read_parquet(sorted((tmp_path / "a" / "attention").rglob("*.parquet")))
    sums = np.array(rows["activation"].to_list()).reshape(-1, 4, T).sum(-1)
    np.testing.assert_allclose(sums, 1, rtol=1e-5)


def test_tables_of_prompts_longer_than_they_list_positions_hold_scores_over_all_queries(tmp_path, monkeypatch):
    whole = extracted(build("llama"), tmp_path / "whole")
    for module in (scores, magnitudes, gate_cosines):
        monkeypatch.setattr(module, "POSITIONS", 5)
    monkeypatch.setattr(secondary_sinks, "POSITIONS", 5)
    short = extracted(build("llama"), tmp_path / "short")
    for name in ("scores", "magnitudes", "gate_cosines"):
        assert short[name].equals(whole[name].filter(pl.col("position") < 5))
    assert short["first_token_attention"].equals(whole["first_token_attention"])

    def computed(folder):
        pl.DataFrame({"tokens": [list("abcdefghijkl")] * N}).write_parquet(folder / "prompts.parquet")
        inputs = {path.stem: str(path) for path in folder.glob("*.parquet")}
        return {
            **sinks.compute(inputs, length=T, epsilons=[0.3], onset_mass=0.1, change_mass=0.1, **BOOTSTRAP),
            **first_positions.compute(inputs, length=T, first_token="drawn", **BOOTSTRAP),
            **secondary_sinks.compute(inputs, **BOOTSTRAP),
        }

    found, expected = (
        {name: pl.DataFrame(t) for name, t in computed(tmp_path / f).items()} for f in ("short", "whole")
    )
    for name in ("sink_mass", "sink_onset", "sink_changes", "first_positions", "first_position_sinks"):
        assert found[name].equals(expected[name])
    for name in ("sinks", "sink_rate"):
        assert found[name].equals(expected[name].filter(pl.col("position") < 5))
    assert set(found["sink_mass"]["uniform"]) == {uniform_score(0, T)}
    by_layer = found["secondary_sinks_by_layer"]
    assert set(by_layer["candidates"]) == {4 * N}


def test_blocks_depend_on_sizes_alone_and_stay_within_their_bytes():
    assert batches.block_shape(1, 9, 32768, 32768, on_cpu=True) == (1, 128)
    assert batches.block_shape(1, 9, 4096, 4096, on_cpu=True) == (2, 256)
    assert batches.block_shape(1, 32, 131072, 131072, on_cpu=True) == (1, 128)
    heads, queries = batches.block_shape(1, 32, 32768, 32768, on_cpu=False)
    assert heads * queries * 32768 * 4 <= batches.ATTENTION_BYTES
    assert not batches.in_blocks(1, 9, 2730, 2730) and batches.in_blocks(1, 9, 2731, 2731)
