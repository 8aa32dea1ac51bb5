"""Statistics over training: the numbers are those of the ordinary tables, at a fraction of their cost."""

import numpy as np
import polars as pl
import pytest
import torch

from architectures import build
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.summaries.attention_sums import normalised_rows
from sinkorigin.activations.writers import Kept
from sinkorigin.errors import SinkoriginError
from sinkorigin.pretraining.layer_statistics import SITES, layer_statistics
from sinkorigin.pretraining.model import build_model
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.statistics import disparity, effective_rank, norms, sinks, variance
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.training import QUANTITIES, Measured, training_table

SIZE = {"layers": 3, "width": 32, "heads": 4, "kv_heads": 2, "ffn_width": 48, "length": 16, "tied_embeddings": True}
EPSILONS = [0.1, 0.3]
VARIANCES = {"value_aggregation": "aggregation_variance_ratio", "output_projection_input": "variance_ratio"}


def models():
    yield "llama", build("llama")
    yield "gpt_oss", build("gpt_oss")  # rows of its attention do not sum to one
    yield "headwise_rmsnorm", build_model(SIZE, vocabulary=96, variant="headwise_rmsnorm", seed=3).eval()
    yield "gated", build_model(SIZE, vocabulary=96, variant="gated", seed=3).eval()


def ordinary(architecture, token_ids, folder) -> dict:
    """(quantity, epsilon, layer) → value, from the tables that every other model gets."""
    extract(
        architecture, token_ids, model="m", sites=dict.fromkeys(VARIANCES, Kept()), batch=4,
        activations=folder / "a", scores=folder / "s.parquet",
    )  # fmt: skip
    inputs = {name: folder / "a" / f"{name}.parquet" for name in ("magnitudes", "residual_gram")}
    inputs["scores"] = folder / "s.parquet"
    names = {"model": "m", "prompts": "p"}
    bootstrap = {"resampling": Resampling(20, 0)}
    tables = (
        sinks.compute(
            inputs, length=token_ids.shape[1], epsilons=EPSILONS, onset_mass=0.3, change_mass=0.1, **names, **bootstrap
        )
        | disparity.compute(inputs, **names, **bootstrap)
        | norms.compute(inputs, surge_ratio=3.0, change_factor=2.0, **names, **bootstrap)
        | effective_rank.compute(inputs, **names)
    )
    rows = {name: table.to_pylist() for name, table in tables.items()}
    found = {("sink_mass", None, r["layer"]): r["mass"] for r in rows["sink_mass"]}
    found |= {("sink_rate", r["epsilon"], None): r["rate"] for r in rows["sink_rate"] if r["position"] == 0}
    for r in rows["disparity_by_layer"]:
        if r["site"] == "residual":
            found["dominance_ratio_first", None, r["layer"]] = r["first"]
            found["dominance_ratio_rest", None, r["layer"]] = r["rest"]
    for r in rows["norm_ratio"]:
        found |= {(f"norm_{name}", None, r["layer"]): r[name] for name in ("first", "rest", "ratio")}
    ranks, mean = rows["effective_rank"], rows["effective_rank_mean"]
    chosen = [r for r in ranks if r["positions"] == "all" and not r["centred"]]
    found |= {("effective_rank", None, r["layer"]): r["effective_rank"] for r in chosen}
    later = [r for r in ranks if r["positions"] == "later" and not r["centred"]]
    found |= {("effective_rank_later", None, r["layer"]): r["effective_rank"] for r in later}
    for site, quantity in VARIANCES.items():
        _, trend = variance.variance_tables(folder / "a" / site, site=site, **names, **bootstrap)
        found |= {(quantity, None, r["layer"]): r["ratio"] for r in trend.to_pylist()}
    found["effective_rank", None, None] = next(
        r["effective_rank"] for r in mean if r["positions"] == "all" and not r["centred"]
    )
    return found


@pytest.mark.parametrize(("name", "model"), models(), ids=lambda value: value if isinstance(value, str) else "")
def test_numbers_are_those_of_the_ordinary_tables(name, model, tmp_path):
    token_ids = np.random.default_rng(0).integers(3, 96, size=(10, 12))
    architecture = read_architecture(model, name, SITES)
    expected = ordinary(architecture, token_ids, tmp_path)
    measured = layer_statistics(architecture, token_ids, model=name, batch=4, epsilons=EPSILONS)
    rows = training_table(
        [(5, "p", measured)], run="r", variant="v", seed=0, step_tokens=7, first_tokens={"p": "drawn"}
    ).to_pylist()
    ours = {(r["quantity"], r["epsilon"], r["layer"]): r["value"] for r in rows if r["over"] != "largest"}
    assert {r["quantity"] for r in rows} == set(QUANTITIES)
    for key, value in expected.items():
        assert ours[key] == pytest.approx(value, rel=1e-9 if key[0] not in VARIANCES.values() else 1e-6), key
    assert {r["tokens"] for r in rows} == {35}


def test_largest_value_names_its_layer_and_a_mean_leaves_the_embedding_out():
    measured = [Measured(-1, "norm_ratio", 9.0), Measured(0, "norm_ratio", 1.0), Measured(1, "norm_ratio", 2.0)]
    table = pl.from_arrow(
        training_table([(0, "p", measured)], run="r", variant="v", seed=0, step_tokens=7, first_tokens={"p": "drawn"})
    )
    summary = table.filter(pl.col("over") != "layer").select("over", "layer", "value").rows()
    assert summary == [("largest", -1, 9.0), ("mean", None, 1.5)]


def test_rows_that_do_not_sum_to_one_are_also_reported_normalised():
    model = build("gpt_oss")
    measured = layer_statistics(
        read_architecture(model, sites=SITES),
        np.random.default_rng(1).integers(3, 96, size=(6, 12)),
        model="m",
        batch=3,
        epsilons=[0.3],
    )
    values = {(m.quantity, m.layer): m.value for m in measured}
    assert all(values["sink_mass_normalised", layer] > 1.05 * values["sink_mass", layer] for layer in range(3))
    assert normalised_rows(torch.tensor([[0.0, 0.0], [0.2, 0.6]])).tolist() == [
        [0.0, 0.0],
        [pytest.approx(0.25), pytest.approx(0.75)],
    ]


def test_softmax_rows_are_the_same_when_normalised():
    measured = layer_statistics(
        read_architecture(build("llama"), sites=SITES),
        np.random.default_rng(1).integers(3, 96, size=(6, 12)),
        model="m",
        batch=6,
        epsilons=[0.3],
    )
    values = {(m.quantity, m.layer): m.value for m in measured}
    for layer in range(3):
        assert values["sink_mass_normalised", layer] == pytest.approx(values["sink_mass", layer], rel=1e-6)


def test_a_number_that_is_not_finite_is_refused():
    model = build_model(SIZE, vocabulary=96, variant="softmax", seed=0).eval()
    architecture = read_architecture(model, sites=SITES)
    torch.nn.init.constant_(model.model.layers[1].mlp.down_proj.weight, torch.inf)
    with pytest.raises(SinkoriginError, match="residual of layer 1 is not finite"):
        layer_statistics(architecture, np.full((2, 8), 5), model="m", batch=2, epsilons=[0.3])


def test_sequences_that_begin_with_one_token_have_no_variance_at_position_0():
    ids = np.random.default_rng(1).integers(3, 96, size=(6, 12))
    ids[:, 0] = 5
    found = layer_statistics(read_architecture(build("llama"), sites=SITES), ids, model="m", batch=4, epsilons=[0.3])
    assert {m.value for m in found if m.quantity in VARIANCES.values()} == {0.0}


@pytest.mark.parametrize("variant", ["softmax", "headwise_rmsnorm", "gated", "sigmoid"])
def test_what_enters_the_output_projection_lies_behind_norm_and_gate(variant):
    options = {"scale": "shared", "scale_init": 0.3} if variant == "headwise_rmsnorm" else {}
    model = build_model(SIZE, vocabulary=96, variant=variant, seed=3, options=options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("offset", "scale")):
                parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    architecture = read_architecture(model, sites=[*SITES, "attention_output"])
    seen = {}
    with watch_sites(
        architecture, [*SITES, "attention_output"], lambda layer, site, values: seen.update({(site, layer): values})
    ):
        architecture.forward(torch.arange(3, 15)[None])
    for layer in range(SIZE["layers"]):
        entering, aggregation = seen["output_projection_input", layer], seen["value_aggregation", layer]
        weight = model.model.layers[layer].self_attn.o_proj.weight
        torch.testing.assert_close(entering @ weight.T, seen["attention_output", layer], rtol=1e-5, atol=1e-6)
        assert torch.equal(entering, aggregation) == (variant in ("softmax", "sigmoid"))
        if variant == "headwise_rmsnorm":  # the formula of docs/paper.md
            norm = model.model.layers[layer].self_attn.o_proj
            heads = aggregation.unflatten(-1, (SIZE["heads"], -1))
            expected = heads / (heads.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.scale + norm.offset
            torch.testing.assert_close(entering, expected.flatten(-2), rtol=1e-5, atol=1e-6)
