"""Every structural statistic of a real tiny model against slow, obvious NumPy on its full tensors."""

import copy
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from architectures import build
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.summaries import residual_gram
from sinkorigin.activations.writers import Kept
from sinkorigin.errors import SinkoriginError
from sinkorigin.sites import registry
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.statistics import (
    disparity,
    keys,
    norms,
    secondary_sinks,
    sinks,
    super_neurons,
    variance_through_output,
)
from sinkorigin.statistics import effective_rank as rank
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.change_points import change_table, turning_points
from sinkorigin.statistics.channel_sparsity import excess_kurtosis, max_over_mean, participation_ratio, top_dims
from sinkorigin.statistics.effective_rank import effective_rank
from sinkorigin.statistics.keys import cosine_between, spearman
from sinkorigin.statistics.uniform import uniform_score
from sinkorigin.statistics.variance import variance_tables
from sinkorigin.statistics.weights import (
    NEURONS_SCHEMA,
    OUTPUT_PROJECTION_SCHEMA,
    neuron_table,
    output_projection_table,
)
from sinkorigin.tables import write_table

NAMES = {"model": "m", "prompts": "p"}
BOOTSTRAP = {"resampling": Resampling(25, 0)}
SITES = {
    "value_aggregation": Kept(),
    "output_projection_output": Kept(positions=(0, 2, 5, 7)),
    "attention_output": Kept(positions=(0, 2, 5, 7)),
    "residual": Kept(positions=(0, 5)),
}
N, T = 10, 9


def measured(name_or_model, folder, workers=1, first_token=None):
    """A model's extraction in ``folder`` and its full tensors: {(site, layer): (N, T, width)}, weights (N, H, T, T).

    Args:
        first_token: with which all sequences begin; by default each begins with another.
    """
    model = build(name_or_model) if isinstance(name_or_model, str) else name_or_model
    watched = [site for site in registry.SITES if site != "attention"]
    architecture = read_architecture(model, sites=watched)
    ids = np.random.default_rng(3).integers(3, 96, size=(N, T))
    if first_token is not None:
        ids[:, 0] = first_token
    full, weights = {}, {}
    with watch_sites(
        architecture,
        watched,
        lambda layer, site, x: full.__setitem__((site, layer), x.detach().reshape(N, T, -1).double().numpy()),
        lambda layer, query, key, a: weights.__setitem__(layer, a.double().numpy()),
    ):
        architecture.forward(torch.from_numpy(ids))
    activations, scores = folder / "a", folder / "s.parquet"
    write_prompts(folder / "p.parquet", ids.astype(str).tolist(), ids)
    extract(
        architecture, ids, model="m", sites=SITES, batch=4, activations=activations, scores=scores, workers=workers
    )  # fmt: skip
    write_table(folder / "neurons.parquet", neuron_table(architecture, "m"), NEURONS_SCHEMA)
    write_table(folder / "output.parquet", output_projection_table(architecture, "m"), OUTPUT_PROJECTION_SCHEMA)
    return SimpleNamespace(
        model=model, architecture=architecture, full=full, weights=weights, a=activations, s=scores, folder=folder
    )  # fmt: skip


@pytest.fixture(scope="module")
def llama_measured(tmp_path_factory):
    return measured("llama", tmp_path_factory.mktemp("llama"))


def rows_of(table):
    return pl.from_arrow(table).to_dicts()


def pair_tau(left, right):
    pairs = [(i, j) for i in range(len(left)) for j in range(i)]
    return np.mean([np.sign(left[i] - left[j]) * np.sign(right[i] - right[j]) for i, j in pairs])


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def inputs_of(found):
    """What an extraction and the weights of its model give to the statistics, by name."""
    names = ("first_token_neurons", "neuron_moments", "gate_cosines", "magnitudes", "first_token_keys", "query_gram")
    sites = ("value_aggregation", "output_projection_output")
    return {
        **{name: found.a / f"{name}.parquet" for name in names},
        **{site: found.a / site / "manifest.json" for site in sites},
        "scores": found.s,
        "prompts": found.folder / "p.parquet",
        "neurons": found.folder / "neurons.parquet",
        "output_projection": found.folder / "output.parquet",
    }


def super_neurons_of(found, **rule):
    rule = {"share": 0.1, "ratio": 2.0} | rule
    tables = super_neurons.compute(inputs_of(found), **NAMES, **BOOTSTRAP, **rule)
    return [pl.DataFrame(tables[name]) for name in ("super_neurons", "super_neuron_surge")]


def keys_of(found):
    tables = keys.compute(inputs_of(found), **NAMES, **BOOTSTRAP)
    return [pl.DataFrame(tables[name]) for name in ("key_collapse", "query_alignment", "alignment_correlation")]


def through_output_of(found):
    return variance_through_output.compute(inputs_of(found), **NAMES, **BOOTSTRAP)["variance_through_output"]


def ranks_of(residual_gram):
    tables = rank.compute({"residual_gram": residual_gram}, **NAMES)
    return [pl.DataFrame(tables[name]) for name in ("effective_rank", "effective_rank_mean")]


def test_the_number_of_workers_changes_no_byte(tmp_path):
    for workers in (1, 3):
        measured("qwen3", tmp_path / str(workers), workers=workers)
    first = {p.relative_to(tmp_path / "1"): p.read_bytes() for p in sorted((tmp_path / "1").rglob("*.parquet"))}
    assert len(first) > 12
    for path, content in first.items():
        assert (tmp_path / "3" / path).read_bytes() == content, path


def test_variance_through_output_equals_numpy(llama_measured):
    found = llama_measured
    table = through_output_of(found)
    shared = [0, 2, 5, 7]
    rows = rows_of(table)
    assert len(rows) == 3
    for row in rows:
        layer = row["layer"]
        before = found.full["value_aggregation", layer][:, shared]
        after = found.full["output_projection_output", layer][:, shared]
        norms = np.linalg.norm(found.model.model.layers[layer].self_attn.o_proj.weight.detach().double(), axis=0)
        std = np.sqrt(before.var(axis=0, ddof=1).mean(axis=0))
        np.testing.assert_allclose(row["dim_tau"], pair_tau(std, norms), atol=1e-9)
        v_in, v_out = (x.var(axis=0, ddof=1).mean(axis=-1) for x in (before, after))
        np.testing.assert_allclose(row["position_tau"], pair_tau(v_in, v_out), atol=1e-9)
        np.testing.assert_allclose(row["ratio_before"], v_in[0] / v_in[1:].mean(), rtol=1e-5)
        np.testing.assert_allclose(row["ratio_after"], v_out[0] / v_out[1:].mean(), rtol=1e-5)
        assert row["dim_tau_low"] <= row["dim_tau_high"] and row["positions"] == 4


def test_super_neurons_equal_numpy(llama_measured):
    found = llama_measured
    table, surge = super_neurons_of(found)
    assert table["rank"].to_list() == list(range(1, 3 * 48 + 1))
    change = table["norm_change"].abs().to_list()
    assert change == sorted(change, reverse=True)
    for row in table.to_dicts():
        layer, n = row["layer"], row["neuron"]
        mlp = found.model.model.layers[layer].mlp
        gate, up, down = (m.weight.detach().double().numpy() for m in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        a = found.full["ffn_activation", layer]  # (N, T, f)
        x = found.full["ffn_input", layer]
        out = a[:, 0] @ down.T
        own = a[:, 0, n : n + 1] * down[:, n]
        residual = found.full["residual", layer][:, 0]
        before = found.full["residual", layer - 1][:, 0]
        share = (own * out).sum(1) / (out**2).sum(1)
        lost = np.linalg.norm(residual, axis=1) - np.linalg.norm(residual - own, axis=1)
        cosines = (x @ gate[n]) / np.linalg.norm(x, axis=-1) / np.linalg.norm(gate[n])
        expected = {
            "share": share.mean(),
            "norm_change": lost.mean(),
            "first": np.abs(a[:, 0, n]).mean(),
            "rest": np.abs(a[:, 1:, n]).mean(),
            "rest_max": np.abs(a[:, 1:, n]).max(),
            "activation_ratio": np.abs(a[:, 0, n]).mean() / np.abs(a[:, 1:, n]).mean(),
            "gate_cosine_first": cosines[:, 0].mean(),
            "gate_cosine_rest": cosines[:, 1:].mean(),
            "gate_norm": np.linalg.norm(gate[n]),
            "up_norm": np.linalg.norm(up[n]),
            "up_norm_ratio": np.linalg.norm(up[n]) / np.median(np.linalg.norm(up, axis=1)),
            "down_norm": np.linalg.norm(down[:, n]),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(row[name], value, rtol=1e-5, atol=2e-6, err_msg=f"{name} {layer}.{n}")
        assert row["dim_1"] == np.abs(down[:, n]).argmax()
        added = (np.linalg.norm(residual, axis=1) - np.linalg.norm(before, axis=1)).mean()
        if added > np.linalg.norm(residual, axis=1).mean() / 2:
            np.testing.assert_allclose(row["surge_share"], lost.mean() / added, rtol=1e-5, atol=2e-6)
        else:
            assert row["surge_share"] is None
    for layer in range(3):
        rows = table.filter(pl.col("layer") == layer)
        np.testing.assert_allclose(rows["share"].sum(), 1, rtol=1e-5)
        largest = rows.sort(pl.col("norm_change").abs(), descending=True)["neuron"][0]
        assert surge.filter(pl.col("layer") == layer)["largest"].to_list() == [largest]


def with_super_neuron():
    """A Llama whose neuron 7 of layer 1 answers to position 0 alone and writes to dim 5 alone."""
    model = copy.deepcopy(build("llama"))
    architecture = read_architecture(model)
    inputs = {}
    ids = torch.from_numpy(np.random.default_rng(3).integers(3, 96, size=(N, T)))
    with watch_sites(architecture, ["ffn_input"], lambda layer, site, x: inputs.__setitem__(layer, x.clone())):
        architecture.forward(ids)
    x = inputs[1].double()
    # least squares: x · w is 1 at position 0 and 0 elsewhere
    target = torch.zeros(N, T, dtype=torch.double)
    target[:, 0] = 1
    ridge = x.reshape(-1, 32).T @ x.reshape(-1, 32) + 1e-6 * torch.eye(32, dtype=torch.double)
    direction = torch.linalg.solve(ridge, x.reshape(-1, 32).T @ target.reshape(-1)).float()
    with torch.no_grad():
        mlp = model.model.layers[1].mlp
        mlp.gate_proj.weight[7] = 60 * direction
        mlp.up_proj.weight[7] = 60 * direction
        mlp.down_proj.weight[:, 7] = 0
        mlp.down_proj.weight[5, 7] = 60.0
    return model


def test_a_planted_super_neuron_is_found_ranked_first_and_explains_the_dominating_dim(tmp_path):
    table, surge = super_neurons_of(measured(with_super_neuron(), tmp_path))
    first = table.row(0, named=True)
    assert (first["layer"], first["neuron"], first["super_neuron"]) == (1, 7, True)
    assert first["share"] > 0.9 and first["surge_share"] > 0.8 and first["participation_ratio"] == 1
    assert first["dominant_dim"] == first["dim_1"] == 5 and first["hits_dominant_dim"]
    assert first["gate_cosine_first"] > 2 * abs(first["gate_cosine_rest"])
    assert table.filter(pl.col("layer") == 1)["super_neuron"].sum() == 1
    accounted = surge.filter(pl.col("layer") == 1).row(0, named=True)
    assert accounted["largest"] == 7 and accounted["accounted"] > 0.8
    none, _ = super_neurons_of(measured(build("llama"), tmp_path / "plain"), share=0.5)
    assert none["super_neuron"].sum() == 0


def test_key_collapse_and_alignment_equal_numpy(llama_measured):
    found = llama_measured
    collapse, alignment, correlation = keys_of(found)
    heads, width = 4, 8
    masses, aligned, positives = [], [], []
    for layer in range(3):
        block = found.model.model.layers[layer]
        gamma = block.input_layernorm.weight.detach().double().numpy()
        w_k = block.self_attn.k_proj.weight.detach().double().numpy()  # (2·8, 32)
        x = found.full["residual", layer - 1][:, 0]  # (N, 32)
        keys = found.full["key", layer].reshape(N, T, heads, width)[:, 0]
        queries = found.full["query", layer].reshape(N, T, heads, width)
        top = np.abs(x).argsort(axis=1)
        for head in range(heads):
            group = slice(head // 2 * width, (head // 2 + 1) * width)
            one, two, hot = [], [], []
            for n in range(N):
                c, second = top[n, -1], top[n, -2]
                predicted = np.sign(x[n, c]) * np.sqrt(32) * gamma[c] * w_k[group, c]  # the paper's formula
                one.append(cosine(keys[n, head], predicted))
                pair = x[n, [c, second]]
                pair = pair / np.sqrt((pair**2).sum() / 32)
                two.append(cosine(keys[n, head], w_k[group][:, [c, second]] @ (pair * gamma[[c, second]])))
                hot.append(np.abs(x[n, c]) / np.linalg.norm(x[n]))
            between = np.mean([cosine(keys[i, head], keys[j, head]) for i in range(N) for j in range(i)])
            row = collapse.filter((pl.col("layer") == layer) & (pl.col("head") == head)).row(0, named=True)
            for name, value in (("one_dim", one), ("two_dims", two), ("one_hot", hot)):
                np.testing.assert_allclose(row[name], np.mean(value), rtol=1e-5, atol=1e-6, err_msg=name)
            np.testing.assert_allclose(row["between_sequences"], between, rtol=1e-5, atol=1e-6)

            stacked = queries[:, 1:, head].reshape(-1, width)
            u = np.linalg.svd(stacked)[2][0]
            own = np.mean([abs(cosine(u, keys[n, head])) for n in range(N)])
            positive = np.mean([[queries[n, t, head] @ keys[n, head] > 0 for t in range(1, T)] for n in range(N)])
            mass = found.weights[layer][:, head, 1:, 0].mean()
            row = alignment.filter((pl.col("layer") == layer) & (pl.col("head") == head)).row(0, named=True)
            np.testing.assert_allclose(row["alignment"], own, rtol=1e-5)
            np.testing.assert_allclose(row["positive_ratio"], positive, rtol=1e-6)
            np.testing.assert_allclose(row["mass"], mass, rtol=1e-5)
            masses.append(mass), aligned.append(own), positives.append(positive)
        mean = collapse.filter((pl.col("layer") == layer) & pl.col("head").is_null()).row(0, named=True)
        per_head = collapse.filter((pl.col("layer") == layer) & pl.col("head").is_not_null())
        np.testing.assert_allclose(mean["one_dim"], per_head["one_dim"].mean())
    from scipy.stats import spearmanr

    for quantity, values in (("alignment", aligned), ("positive_ratio", positives)):
        row = correlation.filter((pl.col("quantity") == quantity) & (pl.col("over") == "heads")).row(0, named=True)
        np.testing.assert_allclose(row["correlation"], spearmanr(values, masses).statistic, rtol=1e-6)
        assert row["count"] == 12


def test_variance_through_output_by_groups_equals_numpy(llama_measured):
    found = llama_measured
    tables = variance_through_output.compute(inputs_of(found), **NAMES, **BOOTSTRAP)
    rows = rows_of(tables["variance_through_output"])
    for row in rows:
        before, after = (
            found.full[site, row["layer"]][:, [0, 2, 5, 7]]
            for site in ("value_aggregation", "output_projection_output")
        )
        # positions 0; 2; 5 and 7 are the groups 0, 2-3 and 4-7
        groups = [[v[0], v[1], v[2:].mean()] for v in (x.var(axis=0, ddof=1).mean(axis=-1) for x in (before, after))]
        np.testing.assert_allclose(row["group_tau"], pair_tau(*groups), atol=1e-9)
        halves = [
            [[v[0], v[1], v[2:].mean()] for v in (x[half::2].var(axis=0).mean(axis=-1) for half in (0, 1))]
            for x in (before, after)
        ]
        crossed = (pair_tau(halves[0][0], halves[1][1]) + pair_tau(halves[0][1], halves[1][0])) / 2
        assert row["group_tau_low"] <= min(row["group_tau"], crossed) + 1e-9
        assert row["group_tau_high"] >= max(row["group_tau"], crossed) - 1e-9
    for mean in rows_of(tables["variance_through_output_mean"]):
        assert mean["layers"] == 3 and mean["tau_low"] <= mean["tau_high"]
        np.testing.assert_allclose(mean["tau"], np.mean([row[mean["reading"]] for row in rows]), atol=1e-9)


def test_what_a_few_neurons_write_adds_up_with_all_other_parts(tmp_path):
    """Of the norm along the residual, and of its largest entry: attention, neurons and what enters are the whole."""
    found = measured(with_super_neuron(), tmp_path)
    _, surge = super_neurons_of(found)
    row = surge.filter(pl.col("layer") == 1).row(0, named=True)
    assert row["few"] == [7]
    r, entering = (found.full["residual", layer][:, 0] for layer in (1, 0))
    attention, ffn = (found.full[site, 1][:, 0] for site in ("attention_output", "ffn_output"))
    down = found.model.model.layers[1].mlp.down_proj.weight.detach().double().numpy()
    written = found.full["ffn_activation", 1][:, 0, 7:8] * down[:, 7]
    along = r / np.linalg.norm(r, axis=1, keepdims=True)
    added = np.linalg.norm(r, axis=1) - (entering * along).sum(1)
    np.testing.assert_allclose(((attention + ffn) * along).sum(1), added, rtol=1e-5)
    np.testing.assert_allclose(row["few_surge"], ((written * along).sum(1)).mean() / added.mean(), rtol=1e-5)
    n, dims = np.arange(N), np.abs(r).argmax(axis=1)
    largest = (written[n, dims] * np.sign(r[n, dims])).mean() / np.abs(r[n, dims]).mean()
    np.testing.assert_allclose(row["few_largest"], largest, rtol=1e-5)
    for name in ("few_surge", "few_largest"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_aligned_heads_are_those_of_the_table_of_alignments(llama_measured):
    tables = keys.compute(inputs_of(llama_measured), **NAMES, **BOOTSTRAP)
    alignment = pl.DataFrame(tables["query_alignment"])
    for row in rows_of(tables["aligned_heads"]):
        chosen = alignment["alignment"] > row["alignment"]
        aligned, others = alignment.filter(chosen), alignment.filter(~chosen)
        assert (row["aligned"], row["others"]) == (len(aligned), len(others)) and len(aligned) + len(others) == 12
        if len(aligned) and len(others):
            shares = [(one["positive_ratio"] >= row["positive_ratio"]).mean() for one in (aligned, others)]
            np.testing.assert_allclose(row["difference"], shares[0] - shares[1], atol=1e-9)
            np.testing.assert_allclose(
                row["mass_difference"], aligned["mass"].mean() - others["mass"].mean(), atol=1e-6
            )
            assert 1 / 6 <= row["p"] <= 1  # three layers have six orders


def test_the_interval_of_a_mean_cosine_over_heads_is_studentised(llama_measured):
    from sinkorigin.statistics.bootstrap import studentised_interval

    collapse, _, _ = keys_of(llama_measured)
    rows = (
        pl.read_parquet(llama_measured.a / "first_token_keys.parquet")
        .filter(pl.col("layer") == 1)
        .sort("sequence", "head")
    )
    by_sequence = (
        np.array([cosine(np.float64(k), np.float64(p)) for k, p in rows.select("key", "one_dim").rows()])
        .reshape(N, 4)
        .mean(axis=1)
    )
    row = collapse.filter((pl.col("layer") == 1) & pl.col("head").is_null()).row(0, named=True)
    expected = studentised_interval(by_sequence, **BOOTSTRAP)
    np.testing.assert_allclose([row["one_dim_low"], row["one_dim_high"]], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neox", "phi", "cohere"])
def test_the_key_of_one_dim_is_layer_norms_own_limit(name, tmp_path):
    """±sqrt(d/(1−1/d))·(e_c − 1/d) ⊙ γ + β through the key projection, for a residual stream with one dim."""
    from sinkorigin.activations.summaries.first_token_keys import keys_of_inputs

    architecture = read_architecture(build(name))
    x = torch.zeros(2, 32)
    x[0, 3], x[1, 9] = 500.0, -500.0  # far above the norm's epsilon
    norm = next(
        module
        for path, module in architecture.blocks[1].named_modules()
        if path.split(".")[-1] in {"ln_1", "self_attn_layer_norm", "input_layernorm"}
    )
    gamma = norm.weight.detach().double()
    beta = getattr(norm, "bias", None)
    beta = torch.zeros(32, dtype=torch.double) if beta is None else beta.detach().double()
    limit = torch.stack(
        [
            sign * (32 / (1 - 1 / 32)) ** 0.5 * (torch.eye(32, dtype=torch.double)[c] - 1 / 32)
            for c, sign in ((3, 1), (9, -1))
        ]
    )
    expected = (limit * gamma + beta).float()
    seen = {}
    hook = norm.register_forward_hook(lambda module, args, output: seen.__setitem__("output", output.clone()))
    try:
        keys = keys_of_inputs(architecture, dict.fromkeys(range(3), x))
    finally:
        hook.remove()
    torch.testing.assert_close(seen["output"].reshape(2, 32), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        key = _key_projection(
            name, architecture.attention[1], expected
        )  # (2, H_kv, 8); at position 0 RoPE does nothing
    torch.testing.assert_close(keys[1], key.repeat_interleave(4 // key.shape[1], dim=1), rtol=1e-4, atol=1e-4)


def _key_projection(name, attention, normed):
    """The keys that an attention module makes of (n, 32) normalised vectors, with its bias, from its own weights."""
    if name == "gpt2":
        return (normed @ attention.c_attn.weight + attention.c_attn.bias)[:, 32:64].reshape(-1, 4, 8)
    if name.startswith("gpt_neox"):
        fused = attention.query_key_value
        return (normed @ fused.weight.T + fused.bias).reshape(-1, 4, 3, 8)[:, :, 1]
    keys = normed @ attention.k_proj.weight.T
    keys = keys if attention.k_proj.bias is None else keys + attention.k_proj.bias
    return keys.reshape(len(normed), -1, 8)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "qwen3", "qwen2", "phi3"])
def test_the_key_of_one_dim_honours_one_plus_gamma_biases_and_qk_norm(name):
    from sinkorigin.activations.summaries.first_token_keys import keys_of_inputs

    model = build(name)
    architecture = read_architecture(model)
    x = torch.zeros(1, 32)
    x[0, 3] = -500.0
    block = architecture.blocks[0]
    gamma = block.input_layernorm.weight.detach()
    gamma = gamma + 1 if name.startswith("gemma") else gamma
    normed = torch.zeros(32)
    normed[3] = -(32**0.5) * gamma[3]
    attention = block.self_attn
    key = (attention.qkv_proj.weight.detach() @ normed)[32:48] if name == "phi3" else attention.k_proj(normed).detach()
    key = key.reshape(2, 8)
    if name in {"qwen3", "gemma3"}:
        scale = attention.k_norm.weight.detach() + (1 if name == "gemma3" else 0)
        key = key / key.square().mean(-1, keepdim=True).add(1e-6).sqrt() * scale
    found = keys_of_inputs(architecture, dict.fromkeys(range(3), x))[0][0]
    torch.testing.assert_close(found, key.repeat_interleave(2, dim=0), rtol=1e-4, atol=1e-4)


def test_one_vector_for_all_sequences_has_cosine_one_and_repeats_do_not_count():
    vector = np.random.default_rng(0).normal(size=6)
    weights = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    found = cosine_between(np.tile(vector, (3, 1)), weights)
    np.testing.assert_allclose(found[0], 1)
    assert np.isnan(found[1])  # one sequence drawn three times is no pair


def test_spearman_shares_the_rank_of_ties():
    from scipy.stats import spearmanr

    x, y = np.array([1.0, 2, 2, 3, 9]), np.array([2.0, 1, 4, 4, 5])
    np.testing.assert_allclose(spearman(x, y), spearmanr(x, y).statistic)


@pytest.mark.parametrize("tokens", [5, 16, 17, 40])  # kept as they are up to half of the 32 dims
def test_tokens_that_become_many_have_the_gram_matrix_of_all(tokens, tmp_path):
    vectors = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(tokens))
    gram, whole = residual_gram.ResidualGram(), vectors.double().T @ vectors.double()
    for part in vectors.split(5):
        gram.add(0, "rest", part)
    ((_, _, matrix),) = gram.matrices()
    np.testing.assert_allclose(matrix, whole, rtol=1e-12)
    (rows,) = gram.rows()
    write_table(tmp_path / "gram.parquet", rows, residual_gram.SCHEMA)
    assert (pl.read_parquet(tmp_path / "gram.parquet")["values"].null_count() == 0) == (tokens <= 16)
    found = ranks_of(tmp_path / "gram.parquet")[0]
    ranks = dict(found.select("centred", "effective_rank").iter_rows())
    centred = (vectors - vectors.mean(dim=0)).double()
    np.testing.assert_allclose(ranks[False], effective_rank(whole.numpy()), rtol=1e-6)
    np.testing.assert_allclose(ranks[True], effective_rank((centred.T @ centred).numpy()), rtol=1e-5)


def test_effective_rank_equals_the_singular_values_of_the_full_matrix(llama_measured):
    table, mean = ranks_of(llama_measured.a / "residual_gram.parquet")
    assert len(table) == 4 * 4
    for row in table.to_dicts():
        x = llama_measured.full["residual", row["layer"]]
        x = (x if row["positions"] == "all" else x[:, 1:]).reshape(-1, 32)
        x = x - x.mean(axis=0) if row["centred"] else x
        sigma = np.linalg.svd(x, compute_uv=False)
        p = sigma / sigma.sum()
        np.testing.assert_allclose(row["effective_rank"], np.exp(-(p * np.log(p)).sum()), rtol=1e-5)
        assert row["tokens"] == len(x)
    sides = {(positions, centred) for positions in ("all", "later") for centred in (False, True)}
    assert set(mean.select("positions", "centred").iter_rows()) == sides and len(mean) == 4
    for row in mean.to_dicts():
        own = table.filter(
            (pl.col("positions") == row["positions"]) & (pl.col("centred") == row["centred"]) & (pl.col("layer") >= 0)
        )
        np.testing.assert_allclose(row["effective_rank"], own["effective_rank"].mean())


def test_massive_activations_equal_numpy(tmp_path):
    model = copy.deepcopy(build("llama"))
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[4] *= 3e4
    found = measured(model, tmp_path)
    table = pl.DataFrame(disparity.compute(inputs_of(found), **NAMES, **BOOTSTRAP)["massive_activations"])
    some = 0
    for row in table.to_dicts():
        x = np.abs(found.full["residual", row["layer"]])  # (N, T, d)
        median = np.sort(x.reshape(N, -1), axis=1)[:, (T * 32 - 1) // 2]
        own = x[:, row["position"]].max(axis=1)
        share = ((own > 100) & (own >= 1000 * median)).mean()
        np.testing.assert_allclose(row["share"], share)
        np.testing.assert_allclose(row["max_abs"], own.mean(), rtol=1e-5)
        some += share > 0
        assert (row["dim"] == 4) if share else (row["dim"] is None)
    assert some


def test_secondary_sinks_are_found_where_they_are(llama_measured, tmp_path):
    found = llama_measured
    tokens = [[f"t{n}" if t == 3 else "x" for t in range(T)] for n in range(N)]
    write_prompts(tmp_path / "p.parquet", tokens)
    weights = np.tril(np.ones((N, 3, 2, T, T)))
    weights[:4, 1, :, 4:, 3] = 40.0  # position 3 of four sequences, in layer 1
    weights /= weights.sum(-1, keepdims=True)
    write_scores(tmp_path / "s.parquet", weights)
    made = {"scores": tmp_path / "s.parquet", "prompts": tmp_path / "p.parquet"}
    tables = secondary_sinks.compute(inputs_of(found) | made, **NAMES, **BOOTSTRAP)
    by_token, by_layer = (pl.DataFrame(tables[name]) for name in ("secondary_sinks", "secondary_sinks_by_layer"))
    assert by_token["token"].to_list() == ["t0", "t1", "t2", "t3"]
    assert by_token.select("sinks", "candidates", "first_layer", "last_layer").unique().row(0) == (1, 1, 1, 1)
    np.testing.assert_allclose(by_token["score"][0], weights[0, 1, 0, 4:, 3].mean(), rtol=1e-5)
    assert by_layer["sinks"].to_list() == [0, 4, 0] and by_layer["candidates"][0] == N * (T // 2)
    assert weights[0, 1, 0, 4:, 3].mean() > 3 * uniform_score(3, T)


def write_prompts(path, tokens, ids=None):
    import pyarrow as pa

    from sinkorigin.corpora.prompts import SCHEMA

    write_table(
        path,
        {
            "sequence": np.arange(len(tokens), dtype=np.int32),
            "token_ids": pa.array(
                np.zeros((len(tokens), T), int).tolist() if ids is None else ids.tolist(), SCHEMA.field(1).type
            ),
            "tokens": pa.array(tokens),
            "text": ["" for _ in tokens],
            "document": pa.nulls(len(tokens), pa.string()),
        },
        SCHEMA,
    )


def write_scores(path, weights):
    from sinkorigin.activations.summaries.scores import SCHEMA as SCORES_SCHEMA

    n, layers, heads, length, _ = weights.shape
    grid = np.indices((n, layers, heads, length)).reshape(4, -1)
    k = np.arange(length)
    score = np.stack([weights[..., i:, i].mean(-1) for i in k], -1)
    after = np.stack(
        [weights[..., i + 1 :, i].mean(-1) if i + 1 < length else np.full((n, layers, heads), np.nan) for i in k], -1
    )
    columns = dict(zip(("sequence", "layer", "head", "position"), grid, strict=True))
    columns |= {
        "score": score.reshape(-1).astype(np.float32),
        "score_excluding_self": after.reshape(-1).astype(np.float32),
    }
    nulls = pa.nulls(score.size, pa.float32())  # rows sum to one
    write_table(
        path,
        columns | {"score_normalised": nulls, "score_excluding_self_normalised": nulls},
        SCORES_SCHEMA,
    )


def test_channel_sparsity_of_known_vectors(llama_measured):
    one = np.zeros((1, 50))
    one[0, 7] = -3.0
    assert (max_over_mean(one)[0], participation_ratio(one)[0], top_dims(one)[0, 0]) == (50, 1, 7)
    flat = np.ones((1, 50))
    assert (max_over_mean(flat)[0], participation_ratio(flat)[0]) == (1, 50)
    normal = np.random.default_rng(0).normal(size=(1, 200_000))
    assert abs(excess_kurtosis(normal)[0]) < 0.05
    from scipy.stats import kurtosis

    table = pl.read_parquet(llama_measured.folder / "neurons.parquet")
    for row in table.filter(pl.col("neuron").is_in([0, 17])).to_dicts():
        w = (
            llama_measured.model.model.layers[row["layer"]]
            .mlp.down_proj.weight.detach()
            .double()
            .numpy()[:, row["neuron"]]
        )
        np.testing.assert_allclose(row["excess_kurtosis"], kurtosis(w), rtol=1e-5)
        np.testing.assert_allclose(row["participation_ratio"], (w**2).sum() ** 2 / (w**4).sum(), rtol=1e-5)
        np.testing.assert_allclose(row["max_over_mean"], np.abs(w).max() / np.abs(w).mean(), rtol=1e-5)
        np.testing.assert_allclose(row["dim_1_share"], (w**2).max() / (w**2).sum(), rtol=1e-5)


def test_gpt2_neurons_are_read_in_its_transposed_layout(tmp_path):
    table = pl.from_arrow(neuron_table(read_architecture(build("gpt2")), "m")).filter(pl.col("layer") == 0)
    mlp = build("gpt2").transformer.h[0].mlp
    assert len(table) == 128 and table["gate_norm"].null_count() == 128
    np.testing.assert_allclose(table["up_norm"], mlp.c_fc.weight.detach().norm(dim=0), rtol=1e-5)
    np.testing.assert_allclose(table["down_norm"], mlp.c_proj.weight.detach().norm(dim=1), rtol=1e-5)
    assert table["not_applicable"].unique().to_list() == ["the FFN has no gate"]


def test_all_rises_and_falls_are_found_and_wiggles_are_not():
    curve = [0.0, 0.05, 0.0, 0.6, 0.62, 0.6, 0.1, 0.1, 0.8]
    assert turning_points(curve, 0.2) == [0, 4, 6, 8]
    assert turning_points([0.0, 0.1, 0.05], 0.2) == []
    samples = np.tile(curve, (5, 1))
    table = change_table(
        np.array(curve),
        samples,
        list(range(9)),
        0.2,
        Resampling(5, 0),
        factor=False,
        model="m",
        prompts="p",
        quantity="q",
    )
    rows = pl.from_arrow(table).select("kind", "start", "layer", "end").rows()
    assert rows == [("rise", 0, 3, 4), ("fall", 4, 6, 6), ("rise", 6, 8, 8)]
    table = change_table(
        np.array([1.0, 1.1, 9.0, 1.0]), np.array([[1.0, 1.0, 9.0, 1.0]]), [-1, 0, 1, 2], 2.0, Resampling(1, 0), factor=True,
        model="m", prompts="p", quantity="q",
    )  # fmt: skip
    assert pl.from_arrow(table).select("kind", "layer", "change").rows() == [
        ("rise", 1, pytest.approx(9)),
        ("fall", 2, pytest.approx(1 / 9)),
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mixtral", "mixture of experts"),
        ("gpt_oss", "mixture of experts"),
        ("gpt2", "no gate"),
        ("gemma2", "norm after the FFN"),
    ],
)
def test_what_has_no_meaning_is_said_with_the_reason(name, reason, tmp_path):
    found = measured(name, tmp_path)
    table, surge = super_neurons_of(found)
    assert all(reason in text for text in table["not_applicable"])
    if name in ("mixtral", "gpt_oss"):
        assert table["neuron"].null_count() == 3 and surge["super_neurons"].null_count() == 3
    else:
        assert table["share"].null_count() == 0
        assert (table["gate_norm"].null_count() > 0) == (name == "gpt2")
        assert (table["norm_change"].null_count() > 0) == (name == "gemma2")
    text = pl.read_parquet(found.a / "architecture.parquet").filter(pl.col("reason").is_not_null())
    assert reason in " ".join(text["reason"])


def test_without_a_norm_before_the_attention_the_collapse_is_not_defined(tmp_path):
    collapse, _, _ = keys_of(measured("olmo2", tmp_path))
    assert collapse["one_dim"].null_count() == len(collapse)
    assert collapse["between_sequences"].null_count() == 0
    assert "nothing normalises" in collapse["not_applicable"][0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_with_one_first_token_what_is_not_defined_is_null_with_its_reason_and_all_else_is_a_number(name, tmp_path):
    found = measured(name, tmp_path, first_token=5)
    variance, trend = variance_of_site(found)
    assert variance.filter(pl.col("position") == 0)["variance"].null_count() == 3
    assert variance.filter(pl.col("position") > 0)["variance"].null_count() == 0
    for row in trend.to_dicts():
        assert (
            row["ratio"] is None
            and row["kendall_tau"] is None
            and "same vector in every sequence" in row["not_applicable"]
        )
    for row in rows_of(through_output_of(found)):
        assert row["ratio_before"] is None and "left out" in row["not_applicable"]
        assert row["positions"] == 3 and row["position_tau"] is not None
    collapse, alignment, correlation = keys_of(found)
    assert collapse["between_sequences"].null_count() == len(collapse)
    assert all("every sequence begins with the same token" in reason for reason in collapse["not_applicable"])
    assert collapse["one_dim"].null_count() == 0
    assert (collapse["one_dim_low"] - collapse["one_dim_high"]).abs().max() < 1e-6
    table, surge = super_neurons_of(found)
    assert table["share"].null_count() == 0 and (table["share_low"] - table["share_high"]).abs().max() < 1e-6
    ranks, means = ranks_of(found.a / "residual_gram.parquet")
    settings = {"length": 12, "epsilons": [0.3], "onset_mass": 0.3, "change_mass": 0.1}
    norm_settings = {"surge_ratio": 3.0, "change_factor": 2.0}
    inputs = inputs_of(found)
    computed = [
        variance, alignment, correlation, table, surge, ranks, means, collapse,
        *map(pl.DataFrame, disparity.compute(inputs, **NAMES, **BOOTSTRAP).values()),
        *map(pl.DataFrame, sinks.compute(inputs, **NAMES, **BOOTSTRAP, **settings).values()),
        *map(pl.DataFrame, norms.compute(inputs, **NAMES, **BOOTSTRAP, **norm_settings).values()),
        *map(pl.DataFrame, secondary_sinks.compute(inputs, **NAMES, **BOOTSTRAP).values()),
    ]  # fmt: skip
    for frame in computed:
        for column in frame.select(pl.selectors.float()):
            assert column.is_nan().sum() == 0 and column.is_infinite().sum() == 0, column.name
    for frame in (alignment, correlation, ranks, means):
        assert frame.select(pl.selectors.float().null_count()).sum_horizontal().sum() == 0


def variance_of_site(found):
    made = variance_tables(found.a / "value_aggregation", site="value_aggregation", **NAMES, **BOOTSTRAP)
    return [pl.DataFrame(table) for table in made]


def test_every_architecture_goes_through_every_statistic(any_model, tmp_path):
    found = measured(any_model, tmp_path)
    table, _ = super_neurons_of(found)
    collapse, alignment, _ = keys_of(found)
    ranks, _ = ranks_of(found.a / "residual_gram.parquet")
    rows = rows_of(through_output_of(found))
    assert len(alignment) == 3 * 4 and len(ranks) == 16 and len(rows) == 3 and len(table) >= 3
    assert len(collapse) == 3 * 5
    assert all(row["dim_tau"] is not None and row["ratio_after"] is not None for row in rows)
    for row in rows:  # what W_O itself gives, also where a norm stands behind it
        before, after = (
            found.full[site, row["layer"]][:, [0, 2, 5, 7]].var(axis=0, ddof=1).mean(axis=-1)
            for site in ("value_aggregation", "output_projection_output")
        )
        np.testing.assert_allclose(row["position_tau"], pair_tau(before, after), atol=1e-9)
        np.testing.assert_allclose(row["ratio_after"], after[0] / after[1:].mean(), rtol=1e-5)
        assert row["group_tau"] is not None and row["not_applicable"] is None


def test_a_site_that_a_model_lacks_has_no_variance_and_the_reason(tmp_path):
    architecture = read_architecture(build("mixtral"))
    ids = np.random.default_rng(3).integers(3, 96, size=(N, T))
    extract(
        architecture, ids, model="m", sites={"ffn_activation": Kept()}, batch=4, activations=tmp_path / "a",
        scores=tmp_path / "s.parquet",
    )  # fmt: skip
    variance, trend = variance_tables(tmp_path / "a" / "ffn_activation", site="ffn_activation", **NAMES, **BOOTSTRAP)
    assert len(variance) == 0
    assert "no such site" in rows_of(trend)[0]["not_applicable"]


def test_half_precision_is_captured_as_the_model_computed_it(tmp_path):
    model = copy.deepcopy(build("llama")).bfloat16()
    found = measured(model, tmp_path)
    raw = pl.read_parquet(found.a / "value_aggregation" / "layer=1" / "part-0.parquet", hive_partitioning=False)
    vectors = raw.sort("sequence", "position")["activation"].to_numpy().reshape(N, T, 32)
    assert np.abs(vectors - found.full["value_aggregation", 1]).max() < 2e-2  # the model's own rounding, batch by batch
    assert (vectors == torch.from_numpy(vectors.copy()).bfloat16().float().numpy()).all()
    table, _ = ranks_of(found.a / "residual_gram.parquet")
    row = next(r for r in table.to_dicts() if r["layer"] == 1 and r["positions"] == "all" and not r["centred"])
    sigma = np.linalg.svd(found.full["residual", 1].reshape(-1, 32), compute_uv=False)
    p = sigma / sigma.sum()
    np.testing.assert_allclose(row["effective_rank"], np.exp(-(p * np.log(p)).sum()), rtol=1e-2)


def statistics_of(found):
    """Name of an input file → a statistic that reads it."""
    a = found.a
    neurons = ("a/first_token_neurons.parquet", "a/neuron_moments.parquet", "a/gate_cosines.parquet", "neurons.parquet")
    return {
        "a/value_aggregation/layer=1/part-0.parquet": lambda: variance_tables(
            a / "value_aggregation", site="value_aggregation", **NAMES, **BOOTSTRAP
        ),
        "a/output_projection_output/layer=1/part-0.parquet": lambda: through_output_of(found),
        "output.parquet": lambda: through_output_of(found),
        **dict.fromkeys(neurons, lambda: super_neurons_of(found)),
        **dict.fromkeys(("a/first_token_keys.parquet", "a/query_gram.parquet", "s.parquet"), lambda: keys_of(found)),
        "a/residual_gram.parquet": lambda: ranks_of(a / "residual_gram.parquet"),
        "a/magnitudes.parquet": lambda: disparity.compute(inputs_of(found), **NAMES, **BOOTSTRAP),
    }


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_truncated_or_foreign_table_is_told_in_one_sentence(damage, tmp_path):
    found = measured("llama", tmp_path)
    for name, statistic in statistics_of(found).items():
        path = tmp_path / name
        whole = path.read_bytes()
        if damage == "truncated":
            path.write_bytes(whole[:-40] + bytes(40))  # of the same size, as after a crash
        else:
            pl.DataFrame({"x": [1.0] * 50}).write_parquet(path)
        try:
            with pytest.raises(SinkoriginError, match=r"run the same command again$") as caught:
                statistic()
            assert "\n" not in str(caught.value), name
        finally:
            path.write_bytes(whole)
        statistic()
