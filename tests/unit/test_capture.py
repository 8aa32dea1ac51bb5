"""What is streamed to Parquet is what the model computed, in bounded memory."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from architectures import build
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.summaries.attention_sums import normalised_rows
from sinkorigin.activations.summaries.scores import attention_scores
from sinkorigin.activations.writers import Kept
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.interventions.sweep import Sweep, measure_baseline, run_sweeps
from sinkorigin.pretraining.layer_statistics import layer_statistics
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.statistics.bootstrap import Resampling

SITES = {
    "residual": Kept(),
    "attention_input": Kept(sequences=3, positions=(0, 4)),
    "value_aggregation": Kept(),
    "query": Kept(),
    "key": Kept(),
    "attention": Kept(),
}


def full(architecture, token_ids, sites):
    seen = {}
    with watch_sites(
        architecture, sites, lambda layer, site, values: seen.__setitem__((site, layer), values.numpy().copy())
    ):
        architecture.forward(torch.from_numpy(token_ids))
    return seen


def test_tables_hold_the_activations_whatever_the_batch(llama, token_ids, tmp_path):
    architecture = read_architecture(llama)
    seen = full(architecture, token_ids, list(SITES))
    extract(
        architecture, token_ids, model="m", sites=SITES, batch=4, activations=tmp_path / "a", scores=tmp_path / "s.parquet"
    )  # fmt: skip
    for (site, layer), values in seen.items():
        table = pl.read_parquet(tmp_path / "a" / site / f"layer={layer}" / "part-0.parquet", hive_partitioning=False)
        kept = SITES[site]
        positions = list(range(12)) if kept.positions is None else list(kept.positions)
        expected = values[: kept.sequences, positions]
        assert table["sequence"].to_list() == [n for n in range(len(expected)) for _ in positions]
        assert table["position"].to_list() == positions * len(expected)
        np.testing.assert_allclose(
            table["activation"].to_numpy().reshape(expected.shape), expected, rtol=1e-5, atol=1e-6
        )
        if site not in ("residual", "attention_input"):
            continue
        rows = pl.read_parquet(tmp_path / "a" / "magnitudes.parquet").filter(
            (pl.col("site") == site) & (pl.col("layer") == layer)
        )
        flat = values.reshape(-1, values.shape[-1])
        np.testing.assert_allclose(rows["norm"], np.linalg.norm(flat, axis=-1), rtol=1e-5)
        np.testing.assert_allclose(rows["mean_abs"], np.abs(flat).mean(-1), rtol=1e-5)
        np.testing.assert_allclose(rows["max_abs"], np.abs(flat).max(-1), rtol=1e-5)
        assert rows["max_dim"].to_list() == np.abs(flat).argmax(-1).tolist()
    assert {layer for site, layer in seen if site == "residual"} == {-1, 0, 1, 2}


def test_layers_are_read_apart_as_a_hive_and_their_vectors_are_not_compressed(llama, token_ids, tmp_path):
    extract(
        read_architecture(llama), token_ids, model="m", sites={"residual": Kept()}, batch=6,
        activations=tmp_path / "a", scores=tmp_path / "s.parquet",
    )  # fmt: skip
    table = pl.scan_parquet(tmp_path / "a" / "residual" / "**" / "*.parquet", hive_partitioning=True).collect()
    assert table.group_by("layer").len().sort("layer").rows() == [(layer, 72) for layer in (-1, 0, 1, 2)]
    vectors = pq.read_metadata(tmp_path / "a/residual/layer=0/part-0.parquet").row_group(0).column(2)
    assert (vectors.path_in_schema, vectors.compression) == ("activation.list.element", "UNCOMPRESSED")


def test_scores_of_a_hand_made_attention_matrix():
    weights = torch.tensor([[1.0, 0, 0], [0.6, 0.4, 0], [0.5, 0.2, 0.3]]).expand(1, 1, 3, 3)
    score, excluding_self = attention_scores(weights.sum(-2), weights.diagonal(dim1=-2, dim2=-1))
    torch.testing.assert_close(score[0, 0], torch.tensor([2.1 / 3, 0.3, 0.3]))
    torch.testing.assert_close(excluding_self[0, 0, :2], torch.tensor([0.55, 0.2]))
    assert excluding_self[0, 0, 2].isnan()


def test_normalised_scores_are_of_rows_divided_by_their_sum_and_rows_of_zeros_stay():
    weights = torch.tensor([[0.5, 0, 0], [0.3, 0.2, 0], [0, 0, 0]]).expand(1, 1, 3, 3)
    normalised = normalised_rows(weights)
    torch.testing.assert_close(normalised[0, 0], torch.tensor([[1.0, 0, 0], [0.6, 0.4, 0], [0, 0, 0]]))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss"])
def test_scores_are_normalised_too_only_where_rows_do_not_sum_to_one(name, token_ids, tmp_path):
    architecture = read_architecture(build(name))
    assert architecture.rows_sum_to_one == [name != "gpt_oss"] * 3
    seen = {}
    with watch_sites(architecture, [], None, lambda layer, query, key, weights: seen.__setitem__(layer, weights)):
        architecture.forward(torch.from_numpy(token_ids))
    extract(
        architecture, token_ids, model="m", sites={}, batch=6, activations=tmp_path / "a", scores=tmp_path / "s.parquet"
    )  # fmt: skip
    table = pl.read_parquet(tmp_path / "s.parquet").sort("layer", "sequence", "head", "position")
    if name != "gpt_oss":
        assert table["score_normalised"].null_count() == len(table)
        return
    for layer, weights in seen.items():
        normalised = weights / weights.sum(-1, keepdim=True)
        score, after = attention_scores(normalised.sum(-2), normalised.diagonal(dim1=-2, dim2=-1))
        rows = table.filter(pl.col("layer") == layer)
        np.testing.assert_allclose(rows["score_normalised"], score.reshape(-1), rtol=1e-5)
        excluding_self = rows["score_excluding_self_normalised"].fill_null(float("nan"))
        np.testing.assert_allclose(excluding_self, after.reshape(-1), rtol=1e-5)
        assert (rows["score_normalised"] > rows["score"]).all()


def averaging_model(width: int = 8, vocabulary: int = 64):
    """Two layers whose heads attend uniformly to the ±1 embeddings of the tokens, and whose blocks add nothing."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, rms_norm_eps=0.0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.randint(2, (vocabulary, width)) * 2.0 - 1)
        for block in model.model.layers:
            for zero in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.o_proj, block.mlp.down_proj):
                zero.weight.zero_()
            block.self_attn.v_proj.weight.copy_(torch.eye(width))
    return model


def test_variance_of_averaged_values_falls_as_one_over_the_number_of_keys(tmp_path):
    from sinkorigin.statistics.variance import variance_tables

    model = averaging_model()
    token_ids = np.random.default_rng(0).integers(0, 64, size=(4000, 8))
    extract(
        read_architecture(model), token_ids, model="m", sites={"value_aggregation": Kept()}, batch=500,
        activations=tmp_path / "a", scores=tmp_path / "s.parquet",
    )  # fmt: skip
    variance, trend = variance_tables(
        tmp_path / "a" / "value_aggregation",
        model="m",
        prompts="p",
        site="value_aggregation",
        resampling=Resampling(20, 0),
    )
    table = pl.from_arrow(variance)
    of_one_token = model.model.embed_tokens.weight.detach().numpy().var(axis=0).mean()  # uniform over the vocabulary
    for layer in (0, 1):
        rows = table.filter(pl.col("layer") == layer).sort("position")
        expected = of_one_token / np.arange(1, 9)
        np.testing.assert_allclose(rows["variance"], expected, rtol=0.05)
    ratio = pl.from_arrow(trend).filter(pl.col("layer") == 0)["ratio"][0]
    np.testing.assert_allclose(ratio, 1 / np.mean(1 / np.arange(2, 9)), rtol=0.05)


def test_non_finite_activations_end_with_a_sentence_and_no_table(token_ids, tmp_path):
    model = averaging_model(vocabulary=96)
    architecture = read_architecture(model)  # the probe needs finite numbers
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(torch.inf)
    with pytest.raises(SinkoriginError, match="model m: residual of layer 1 is not finite; use"):
        extract(
            architecture, token_ids, model="m", sites={"residual": Kept()}, batch=6, activations=tmp_path / "a", scores=tmp_path / "s.parquet",
        )  # fmt: skip
    assert not (tmp_path / "a" / "residual").exists()
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("site", "projections", "value"),
    [("query", ["q_proj"], torch.inf), ("key", ["k_proj"], torch.inf), ("attention", ["q_proj", "k_proj"], 1e25)],
)
def test_queries_keys_and_attention_that_are_not_finite_are_named(site, projections, value, token_ids, tmp_path):
    model = copy.deepcopy(build("llama"))
    architecture = read_architecture(model)
    with torch.no_grad():
        for name in projections:
            getattr(model.model.layers[1].self_attn, name).weight.fill_(value)
    with pytest.raises(
        SinkoriginError, match=f"model m: {site} of layer 1 is not finite; use dtype: float32, or another"
    ):
        extract(
            architecture, token_ids, model="m", sites={}, batch=6, activations=tmp_path / "a", scores=tmp_path / "s.parquet",
        )  # fmt: skip


def test_a_model_that_differs_through_the_taps_only_in_long_prompts_is_refused(token_ids, tmp_path):
    """The probe of six tokens cannot see what a window of eight hides."""
    model = copy.deepcopy(build("llama"))

    def window(module, args, kwargs):
        if model.config._attn_implementation != "eager":
            return None
        mask = kwargs["attention_mask"].clone()
        mask[..., 8:, :4] = torch.finfo(mask.dtype).min
        return args, {**kwargs, "attention_mask": mask}

    model.model.layers[0].self_attn.register_forward_pre_hook(window, with_kwargs=True)
    architecture = read_architecture(model)
    folders = {"activations": tmp_path / "a", "scores": tmp_path / "s.parquet"}
    extract(architecture, token_ids[:, :8], model="m", sites={}, batch=6, **folders)
    with pytest.raises(
        SinkoriginError, match="model m: on a prompt of 12 tokens LlamaForCausalLM gives other .* choose"
    ):
        extract(architecture, token_ids, model="m", sites={}, batch=6, **folders)
    with pytest.raises(SinkoriginError, match="model m: on a prompt of 12 tokens LlamaForCausalLM gives other"):
        measure_baseline(architecture, token_ids, tmp_path, model="m", batch=6, targets=[5])
    with pytest.raises(SinkoriginError, match="model m: on a prompt of 12 tokens LlamaForCausalLM gives other"):
        layer_statistics(architecture, token_ids, model="m", batch=6, epsilons=[0.3])
    with pytest.raises(SinkoriginError, match="gives other hidden states .* use dtype: float32, .* or another model"):
        read_architecture(model.bfloat16()).check_against_eager(torch.from_numpy(token_ids), "m")
    model.float()
    edited = {tmp_path / "b": Sweep("i", [Mask(layers=[0], positions=[5])])}
    with pytest.raises(SinkoriginError, match="model m: on a prompt of 12 tokens LlamaForCausalLM gives other"):
        run_sweeps(architecture, token_ids, edited, sequences=6, model="m", batch=6, scratch=tmp_path)


_PEAK = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, torch, transformers
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.writers import Kept
config = transformers.LlamaConfig(vocab_size=512, hidden_size=256, intermediate_size=256, num_hidden_layers=4,
                                  num_attention_heads=4, num_key_value_heads=4)
model = transformers.LlamaForCausalLM(config).eval()
ids = np.random.default_rng(0).integers(0, 512, size=(int(sys.argv[2]), 32))
sites = {"value_aggregation": Kept(), "attention_output": Kept(positions=(0, 1, 4, 8)), "residual": Kept()}
extract(read_architecture(model), ids, model="m", sites=sites, batch=16, workers=2,
        activations=sys.argv[3] + "/a", scores=sys.argv[3] + "/s.parquet")
pq.write_table(pa.table({"token_ids": ids.tolist()}), sys.argv[3] + "/prompts.parquet")
"""

_STATISTICS = """
import sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from pathlib import Path
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.tables import write_table
folder = Path(sys.argv[2]); a = folder / "a"; many = dict(resampling=Resampling(200, 0))
scores, magnitudes = {"scores": folder / "s.parquet"}, {"magnitudes": a / "magnitudes.parquet"}
inputs, settings = {
 "variance": ({"sites": [a / "value_aggregation" / "manifest.json"]}, dict(sites=["value_aggregation"], **many)),
 "norms": (magnitudes, dict(surge_ratio=3.0, change_factor=2.0, **many)),
 "disparity": (magnitudes, many),
 "sinks": (scores, dict(length=32, epsilons=[0.3], onset_mass=0.3, change_mass=0.1, **many)),
 "keys": ({"first_token_keys": a / "first_token_keys.parquet", "query_gram": a / "query_gram.parquet",
           "prompts": folder / "prompts.parquet", **scores}, many),
 "effective_rank": ({"residual_gram": a / "residual_gram.parquet"}, {}),
 "value_drain": ({"value_magnitudes": a / "value_magnitudes.parquet", "architecture": a / "architecture.parquet", **scores},
                 dict(onset_mass=0.3, **many)),
 "row_sinks": ({"first_token_attention": a / "first_token_attention.parquet", "architecture": a / "architecture.parquet"},
               dict(epsilons=[0.3], **many)),
}[sys.argv[3]]
found = import_module(f"sinkorigin.statistics.{sys.argv[3]}").compute(inputs, model="m", prompts="p", **settings)
for name, table in found.items():
    write_table(folder / f"{name}.parquet", table, table.schema)
"""
LIBRARY = Path(__file__).parents[2] / "src"


# not ru_maxrss, which on Linux is at least that of the process that started this one
_REPORT = """
from pathlib import Path
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0], *{"pandas", "torch"} & set(sys.modules))
"""
on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def run(code, *arguments):
    """Peak memory of the code in KiB, and which heavy libraries it has imported."""
    command = [sys.executable, "-c", code + _REPORT, LIBRARY, *arguments]
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.split()
    return int(answer[0]), answer[1:]


@pytest.fixture(scope="module")
def few_and_many(tmp_path_factory):
    """An extraction of 64 sequences and one of eight times as many, with the peak memory of each, in KiB."""
    folders = {count: tmp_path_factory.mktemp(str(count)) for count in (64, 512)}
    return folders, {count: run(_PEAK, count, folder)[0] for count, folder in folders.items()}


@on_linux
def test_eight_times_the_sequences_take_no_more_memory_to_extract(few_and_many):
    _, peaks = few_and_many
    assert peaks[512] < 1.15 * peaks[64], peaks


@on_linux
@pytest.mark.parametrize(
    "statistic", ["variance", "norms", "disparity", "sinks", "keys", "effective_rank", "value_drain", "row_sinks"]
)
def test_eight_times_the_sequences_take_no_more_memory_for_a_statistic(statistic, few_and_many):
    folders, _ = few_and_many
    (few, heavy), (many, _) = (run(_STATISTICS, folder, statistic) for folder in folders.values())
    assert many < few + 20_000, (few, many)  # a pass over the table, and the larger layer of weights, scores or keys
    assert not heavy  # each takes longer to import than the statistic of a small model
