"""Value drain, matrix entropy, super weight and row-wise sink rate of real tiny models against slow, obvious NumPy."""

import copy
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr

from architectures import build
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.summaries import token_gram
from sinkorigin.activations.summaries.attention_sums import AttentionSums
from sinkorigin.activations.summaries.first_token_attention import first_token_rows
from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.tap import Tap
from sinkorigin.statistics import matrix_entropy, row_sinks, super_weight, value_drain
from sinkorigin.statistics.bootstrap import Resampling, resamples
from sinkorigin.statistics.matrix_entropy import von_neumann_entropy

BOOTSTRAP = {"model": "m", "prompts": "p", "resampling": Resampling(25, 0)}
EPSILONS = [0.15, 0.3]
SITES = ("residual", "attention_input", "ffn_activation", "value_aggregation")
N, T, LAYERS, HEADS, WIDTH = 20, 9, 3, 4, 8  # sequences beyond those of which the entropy is measured
STATISTICS = {
    value_drain: {"onset_mass": 0.229},  # between the sink masses of the tiny Llama's layers
    matrix_entropy: {},
    super_weight: {},
    row_sinks: {"epsilons": EPSILONS},
}


def measured(model, folder, first_token=None):
    """A model's extraction in ``folder``, and its full tensors: {(site, layer): (N, T, width)}, weights (N, H, T, T)."""
    architecture = read_architecture(model)
    ids = np.random.default_rng(3).integers(3, 96, size=(N, T))
    if first_token is not None:
        ids[:, 0] = first_token
    full, weights = {}, {}
    with watch_sites(
        architecture,
        SITES,
        lambda layer, site, x: full.__setitem__((site, layer), x.detach().reshape(N, T, -1).double().numpy()),
        lambda layer, query, key, a: weights.__setitem__(layer, a.double().numpy()),
    ):
        architecture.forward(torch.from_numpy(ids))
    extract(architecture, ids, model="m", sites={}, batch=4, activations=folder, scores=folder / "scores.parquet")
    return SimpleNamespace(model=model, full=full, weights=weights, folder=folder)


def tables_of(found, *statistics, **bootstrap):
    """Name → frame of the tables of these statistics, by default of all."""
    inputs = {path.stem: str(path) for path in found.folder.glob("*.parquet")}
    made = {}
    for statistic in statistics or STATISTICS:
        made |= statistic.compute(inputs, **BOOTSTRAP | bootstrap, **STATISTICS[statistic])
    return SimpleNamespace(**{name: pl.DataFrame(table) for name, table in made.items()})


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    found = measured(build("llama"), tmp_path_factory.mktemp("llama"))
    return found, tables_of(found)


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual, dtype=float), expected, rtol=1e-5, atol=1e-7)


def replicated(values):
    """(R, ...) means over resampled sequences, one by one."""
    return np.stack([np.tensordot(draw, values, 1) for draw in resamples(len(values), 25, 0)])


def is_interval(row, name, samples):
    close([row[f"{name}_low"], row[f"{name}_high"]], np.percentile(samples, [2.5, 97.5]))


def value_norms(found, layer):
    """(N, 2, T) norms of the values, from the value projection's own weights."""
    projection = found.model.model.layers[layer].self_attn.v_proj.weight.detach().double().numpy()
    values = found.full["attention_input", layer] @ projection.T  # (N, T, 2·8)
    return np.linalg.norm(values.reshape(N, T, 2, WIDTH), axis=-1).transpose(0, 2, 1)


def test_value_drain_equals_numpy(llama):
    found, tables = llama
    ratios, masses = {}, {}
    for layer in range(LAYERS):
        norms = value_norms(found, layer)
        rows = tables.value_norms.filter(layer=layer).sort("position")
        close(rows["norm"], norms.mean(axis=(0, 1)))
        is_interval(rows.row(4, named=True), "norm", replicated(norms.mean(axis=1))[:, 4])
        for head in (0, 1, None):
            chosen = norms if head is None else norms[:, [head]]
            readers = found.weights[layer][:, slice(None) if head is None else slice(2 * head, 2 * head + 2), 1:, 0]
            first, rest = chosen[:, :, 0].mean(axis=1), chosen[:, :, 1:].mean(axis=(1, 2))
            row = tables.value_drain.filter(pl.col("layer") == layer, pl.col("head").eq_missing(head)).row(
                0, named=True
            )
            ratio, mass = first.mean() / rest.mean(), readers.mean()
            close([row[name] for name in ("first", "rest", "ratio", "mass")], [first.mean(), rest.mean(), ratio, mass])
            is_interval(row, "ratio", replicated(first) / replicated(rest))
            ratios[layer, head], masses[layer, head] = ratio, mass
    summary = tables.value_drain_and_sink.row(0, named=True)
    with_sink = [layer for layer in range(LAYERS) if masses[layer, None] > 0.229]
    without = [layer for layer in range(LAYERS) if layer not in with_sink]
    assert with_sink and without and summary["sink_layers"] == len(with_sink) and summary["heads"] == 6
    close(summary["with_sink"], np.mean([ratios[layer, None] for layer in with_sink]))
    close(summary["difference"], summary["with_sink"] - np.mean([ratios[layer, None] for layer in without]))
    heads = [(layer, head) for layer in range(LAYERS) for head in (0, 1)]
    observed = spearmanr([ratios[h] for h in heads], [masses[h] for h in heads]).statistic
    close(summary["correlation"], observed)
    permuted = [
        spearmanr([ratios[layer, head] for layer in order for head in (0, 1)], [masses[h] for h in heads]).statistic
        for order in permutations(range(LAYERS))
    ]
    close(summary["p"], np.mean(np.abs(permuted) >= abs(observed) - 1e-9))


class Aggregated(Tap):
    """What the values of each layer make, beside what the model aggregates."""

    def __init__(self):
        self.values, self.pairs = {}, []

    def observe_values(self, layer, values):
        self.values[layer] = values

    def observe(self, layer, query, key, weights, aggregation):
        values = self.values[layer]
        values = values.repeat_interleave(weights.shape[1] // values.shape[1], dim=1)
        self.pairs.append((weights @ values, aggregation))


def test_the_values_that_are_seen_are_those_that_are_aggregated(any_model):
    architecture, seen = read_architecture(any_model), Aggregated()
    with architecture.tapped(seen):
        architecture.forward(torch.arange(3, 3 + 2 * T).reshape(2, T))
    assert len(seen.pairs) == LAYERS
    for made, aggregation in seen.pairs:
        torch.testing.assert_close(made, aggregation)


def entropy_of(matrix):
    shares = np.linalg.svd(matrix, compute_uv=False) ** 2 / np.sum(matrix**2)
    shares = shares[shares > 0]
    return -(shares * np.log(shares)).sum()


def test_matrix_entropy_equals_the_singular_values_of_each_sequence_and_of_all_tokens(llama):
    found, tables = llama
    counted = token_gram.SEQUENCES
    assert counted < N and len(tables.matrix_entropy) == 4 * (LAYERS + 1)
    curve, later = {}, {}
    for row in tables.matrix_entropy.to_dicts():
        x = found.full["residual", row["layer"]][:, 1 if row["positions"] == "later" else 0 :]
        if row["over"] == "prompts":
            x = x.reshape(-1, 32)
            close([row["entropy"], row["normalised"]], [entropy_of(x), entropy_of(x) / np.log(32)])
            assert row["tokens"] == len(x) and row["entropy_low"] is None
            continue
        entropies = np.array([entropy_of(tokens) for tokens in x[:counted]])
        close([row["entropy"], row["normalised"]], [entropies.mean(), entropies.mean() / np.log(x.shape[1])])
        assert (row["sequences"], row["tokens"], row["width"]) == (counted, x.shape[1], 32)
        is_interval(row, "entropy", replicated(entropies))
        (later if row["positions"] == "later" else curve)[row["layer"]] = entropies / np.log(x.shape[1])
    valley = tables.entropy_valley.row(0, named=True)
    means = {layer: values.mean() for layer, values in curve.items()}
    lowest = min(range(LAYERS), key=means.get)
    assert valley["layer"] == lowest and valley["sequences"] == counted
    close(valley["fall"], max(means[layer] for layer in range(-1, lowest)) - means[lowest])
    is_interval(valley, "first_token", replicated(later[lowest] - curve[lowest]))
    mass = [found.weights[layer][:counted, :, 1:, 0].mean() for layer in range(LAYERS)]
    close(valley["correlation"], spearmanr([means[layer - 1] for layer in range(LAYERS)], mass).statistic)


def test_the_entropy_of_one_direction_is_nothing_and_of_equal_ones_the_bound():
    rows = np.random.default_rng(0).normal(size=(5, 7))
    one = np.outer(rows[:, 0], rows[0])
    grams = np.stack([one @ one.T, np.eye(5), np.zeros((5, 5))])
    entropies = von_neumann_entropy(grams)
    np.testing.assert_allclose(entropies[:2], [0, np.log(5)], atol=1e-12)
    assert np.isnan(entropies[2])


def with_massive_first_token(token):
    """A Llama one of whose tokens has an embedding far above the others', so that it fills the residual stream."""
    model = copy.deepcopy(build("llama"))
    with torch.no_grad():
        model.model.embed_tokens.weight[token] *= 300
    return model


def test_a_massive_first_token_takes_the_entropy_of_the_others(tmp_path):
    tables = tables_of(measured(with_massive_first_token(2), tmp_path, first_token=2), matrix_entropy)
    valley = tables.entropy_valley.row(0, named=True)
    assert valley["lowest"] < 0.01 < 0.4 < valley["without_first_low"]
    assert valley["first_token_low"] > 0.4
    pooled = tables.matrix_entropy.filter(over="prompts", layer=0).sort("positions")["normalised"]
    assert pooled[0] < 0.01 < 0.4 < pooled[1]


def test_the_super_weight_equals_numpy(llama):
    found, tables = llama
    sizes = []
    for layer, row in enumerate(tables.super_weight.to_dicts()):
        down = found.model.model.layers[layer].mlp.down_proj.weight.detach().double().numpy()  # (d, f)
        a = found.full["ffn_activation", layer][:, 0]  # (N, f)
        o = a @ down.T
        n, c = (np.abs(part[:T]).mean(axis=0).argmax() for part in (a, o))
        weight = down[c, n]
        assert (row["layer"], row["neuron"], row["dim"]) == (layer, n, c)
        assert row["weight_rank"] == 1 + (np.abs(down) > abs(weight)).sum() and row["weights"] == down.size
        own = (np.abs(a).argmax(axis=1) == n) & (np.abs(o).argmax(axis=1) == c)
        expected = {
            "weight": weight,
            "weight_ratio": abs(weight) / np.abs(down).mean(),
            "activation": a[:, n].mean(),
            "activation_ratio": np.abs(a[:, n]).mean() / np.abs(a).mean(),
            "output": o[:, c].mean(),
            "output_ratio": np.abs(o[:, c]).mean() / np.abs(o).mean(),
            "share": (a[:, n] * weight * o[:, c]).sum() / (o[:, c] ** 2).sum(),
            "agreement": own.mean(),
        }
        close([row[name] for name in expected], list(expected.values()))
        is_interval(row, "share", replicated(a[:, n] * weight * o[:, c]) / replicated(o[:, c] ** 2))
        sizes.append(np.abs(o[:, c]).mean())
    assert tables.super_weight["place"].to_list() == [1 + sum(other > size for other in sizes) for size in sizes]


def test_a_planted_super_weight_is_found_with_its_share_and_rank(tmp_path):
    model = copy.deepcopy(build("llama"))
    ids = np.random.default_rng(3).integers(3, 96, size=(N, T))
    largest = {}
    with watch_sites(
        read_architecture(model), ["ffn_activation"], lambda layer, site, x: largest.__setitem__(layer, x[:, 0].clone())
    ):
        read_architecture(model).forward(torch.from_numpy(ids))
    neuron = int(largest[1][:T].abs().mean(dim=0).argmax())
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[5, neuron] = 400.0
    row = tables_of(measured(model, tmp_path), super_weight).super_weight.row(1, named=True)
    assert (row["place"], row["neuron"], row["dim"], row["weight_rank"], row["weight"]) == (1, neuron, 5, 1, 400.0)
    assert row["share_low"] > 0.95 and row["weight_ratio"] > 1000


def test_row_wise_sink_rates_equal_numpy(llama):
    found, tables = llama
    shares = {"largest": [], **dict.fromkeys(EPSILONS)}
    by_head = {"largest": [], **{epsilon: [] for epsilon in EPSILONS}}
    for layer in range(LAYERS):
        rows = found.weights[layer][:, :, 1:]  # (N, H, queries, T)
        by_head["largest"].append((rows.argmax(axis=-1) == 0).mean(axis=2))
        for epsilon in EPSILONS:
            by_head[epsilon].append((rows[..., 0] > epsilon).mean(axis=2))
    for what in shares:
        table, name = (tables.row_sinks, "largest") if what == "largest" else (tables.row_sink_rate, "rate")
        table = table if what == "largest" else table.filter(epsilon=what)
        for layer, of_heads in enumerate(by_head[what]):
            rows = table.filter(layer=layer)
            assert rows["head"].to_list() == [0, 1, 2, 3, None]
            close(rows[name], [*of_heads.mean(axis=0), of_heads.mean()])
            is_interval(rows.row(2, named=True), name, replicated(of_heads)[:, 2])
        everything = table.filter(pl.col("layer").is_null()).row(0, named=True)
        every_head = np.concatenate(by_head[what], axis=1)
        close(everything[name], every_head.mean())
        is_interval(everything, name, replicated(every_head.mean(axis=1)))
    assert tables.row_sink_rate["rate"].to_list() == tables.row_sink_rate["rate_normalised"].to_list()


def test_where_rows_do_not_sum_to_one_their_rate_is_of_normalised_weights_too(tmp_path):
    found = measured(build("gpt_oss"), tmp_path)
    table = tables_of(found, row_sinks).row_sink_rate.filter(epsilon=0.3, head=1)
    for row in table.to_dicts():
        weights = found.weights[row["layer"]][:, 1, 1:]
        close(row["rate"], (weights[..., 0] > 0.3).mean())
        close(row["rate_normalised"], (weights[..., 0] / weights.sum(axis=-1) > 0.3).mean())
    assert (table["rate_normalised"] > table["rate"]).any()


def test_equal_weights_lie_on_no_key_and_rows_of_zeros_on_none():
    weights = torch.zeros((1, 1, 4, 4))
    weights[0, 0, 0, 0] = 1
    weights[0, 0, 1, :2] = 0.5  # equal
    weights[0, 0, 2, :3] = torch.tensor(
        [0.5, 0.3, 0.2]
    )  # the largest on position 0; the last query gives nothing to anything
    sums = AttentionSums(length=4, rows_sum_to_one=False)
    sums.add(weights, 0, 0, 0)
    rows = first_token_rows(0, 0, sums)
    assert rows["largest"].tolist() == [1]
    assert rows["weight_normalised"].to_pylist() == [[1, 0.5, 0.5, 0]]


def test_without_one_down_projection_there_is_no_super_weight_and_the_reason(tmp_path):
    tables = tables_of(measured(build("mixtral"), tmp_path))
    assert tables.super_weight["layer"].to_list() == [0, 1, 2]
    assert all("mixture of experts" in reason for reason in tables.super_weight["not_applicable"])
    values = tables.super_weight.drop("model", "prompts", "layer", "not_applicable")
    assert set(values.null_count().row(0)) == {3}
    assert tables.value_drain["ratio"].null_count() == tables.row_sinks["largest"].null_count() == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_with_one_first_token_everything_is_a_number(name, tmp_path):
    tables = vars(tables_of(measured(build(name), tmp_path, first_token=5)))
    for table, frame in tables.items():
        for column in frame.select(pl.selectors.float()):
            assert column.is_nan().sum() == 0 and column.is_infinite().sum() == 0, (table, column.name)
    drain = tables["value_drain"].filter(pl.col("head").is_null())
    assert drain["ratio"].null_count() == 0
    first = drain.row(0, named=True)  # in layer 0 it is one vector
    assert first["first_low"] == pytest.approx(first["first_high"], rel=1e-6) and first["rest_low"] < first["rest_high"]
    assert set(tables["super_weight"]["agreement"]) == {1.0}
    share = tables["super_weight"].select(pl.col("share_high") - pl.col("share_low")).to_series()
    assert share.abs().max() < 1e-5


def test_windows_of_few_documents_have_values_and_no_interval_and_of_more_are_resampled_by_document(llama):
    found, one_by_one = llama
    few, more = (
        tables_of(found, resampling=Resampling(25, 0, clusters=tuple(n % documents for n in range(N))))
        for documents in (4, 10)
    )
    for name, frame in vars(one_by_one).items():
        ends = [column for column in frame.columns if column.endswith(("_low", "_high"))]
        for other in (few, more):
            assert frame.drop(ends).equals(getattr(other, name).drop(ends)), name
        assert ends and set(getattr(few, name).select(ends).null_count().row(0)) == {len(frame)}, name
        assert getattr(more, name)[ends[0]].null_count() == frame[ends[0]].null_count(), name
    row = more.value_norms.row(3, named=True)  # of layer 0, position 3
    norms = value_norms(found, 0).mean(axis=1)[:, 3].reshape(2, 10)  # two windows of each document
    drawn = np.stack([draw @ norms.mean(axis=0) for draw in resamples(10, 25, 0)])
    low, high = Resampling(25, 0, clusters=tuple(range(10))).interval(drawn)
    close([row["norm_low"], row["norm_high"]], [low, high])


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_truncated_or_foreign_table_is_told_in_one_sentence(damage, tmp_path):
    found = measured(build("llama"), tmp_path)
    read_by = {
        "value_magnitudes": value_drain,
        "token_gram": matrix_entropy,
        "down_projection_spikes": super_weight,
        "first_token_attention": row_sinks,
    }
    for name, statistic in read_by.items():
        path = tmp_path / f"{name}.parquet"
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[:-40] + bytes(40))  # of the same size, as after a crash
        else:
            pl.DataFrame({"x": [1.0] * 50}).write_parquet(path)
        with pytest.raises(SinkoriginError, match=r"run the same command again$") as caught:
            tables_of(found, statistic)
        assert "\n" not in str(caught.value), name
