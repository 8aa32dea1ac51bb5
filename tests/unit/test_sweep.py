"""A sweep gives what separate full passes give, in every architecture, and runs no more than it must."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from architectures import build
from sinkorigin.activations.capture import watch_sites
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions import logits
from sinkorigin.interventions.context import EditTap, applied
from sinkorigin.interventions.folders import fill, key_of
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.moments import estimate_moments
from sinkorigin.interventions.passes import even_batches
from sinkorigin.interventions.replay import Replay
from sinkorigin.interventions.sweep import Sweep, measure_baseline, run_sweeps
from sinkorigin.sites import batches
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.batches import fitting_batch
from sinkorigin.tables import read_table

LENGTH = 12


class Weights(Tap):
    def __init__(self):
        self.weights, self.keys = {}, {}

    def observe(self, layer, query, key, weights, aggregation):
        self.weights[layer], self.keys[layer] = weights.clone(), key.clone()


def full_pass(architecture, ids, *edits):
    """Weights (N, L, H, T, T), residuals (N, L, T, d) and logits of one pass of everything."""
    watch, residuals = Weights(), {}
    with (
        applied(architecture, *edits),
        watch_sites(architecture, ["residual"], lambda layer, _, x: residuals.__setitem__(layer, x.clone())),
        architecture.tapped(watch),
        torch.no_grad(),
    ):
        logits = architecture.model(ids).logits
    depth = range(architecture.layers)
    weights = torch.stack([watch.weights[i] for i in depth], dim=1)
    return weights, torch.stack([residuals[i] for i in depth], dim=1), logits, [watch.keys[i] for i in depth]


def edit(kind, layers, positions, *strength, **parameters):
    """An edit of a kind by name; ``layers`` may say by layer what the kind needs."""
    kind = kind_named(kind)
    place = {kind.needs.parameter if kind.needs else "layers": layers}
    return kind(positions=positions, **place, **dict(zip(["strength"], strength, strict=False)), **parameters)


EDITS = [
    edit("mask", (0, 1), (5,)),
    edit("mask", (1, 2), (3, 7)),
    edit("variance_amplification", (0, 1), (5,), 4.0),
    edit("mask", (0, 2), (4,)),
    edit("variance_amplification", (0, 2), (5,), 2.0),
    edit("norm_control", (0, 1, 2), (3,), 3.0),
    edit("norm_control", (2,), (4,), 3.0),
    edit("mean_and_deviation", (1, 2), (5,), 4.0, mean_factor=2.0),
    edit("random_directions", (0, 1), (5,), 4.0),
    edit("mean_shift", (1,), (5,), 4.0),
    edit("shuffled_deviations", (0, 1), (5,), 2.0),
    edit("variance_amplification", (0, 1), (5,), 4.0, site="attention_output"),
    edit("variance_matching", {0: 0.5, 1: 0.3}, (0,)),
    edit("value_averaging", (0, 1), (0,), 3.0),
    edit("dominating_dims", {1: [3]}, (0,), to="mean"),
]


def sweep(architecture, token_ids, folders, *, calibration=0, **options):
    """Run folders of edits, by default on all of the prompts."""
    scratch = next(iter(folders)).parent / "scratch"
    scratch.mkdir(exist_ok=True)
    sweeps = {folder: Sweep("i", edits, calibration) for folder, edits in folders.items()}
    options = {"sequences": len(token_ids), "model": "m", "scratch": scratch, **options}
    run_sweeps(architecture, token_ids, sweeps, **options)


def close(left, right, tolerance=1e-5):
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    assert np.abs(left - right).max() <= tolerance * np.abs(right).max()


@pytest.mark.parametrize("with_losses", [True, False])
def test_a_sweep_equals_separate_full_passes(any_model, token_ids, tmp_path, with_losses):
    architecture = read_architecture(any_model)
    ids = torch.from_numpy(token_ids)
    edits = list(EDITS)
    if "ffn_activation" in architecture.places[1]:
        edits.append(edit("super_neuron_ablation", {1: [3, 4], 2: [0]}, (0,)))
    folders = {tmp_path / str(i): [made] for i, made in enumerate(edits)}
    sweep(architecture, token_ids, folders, batch=len(token_ids), losses=with_losses)
    measure_baseline(
        architecture, token_ids, tmp_path / "none", targets=[0, 3, 4, 5, 7], model="m", batch=len(token_ids),
        losses=with_losses,
    )  # fmt: skip
    plain = full_pass(architecture, ids)[2].log_softmax(-1)
    for folder, made in (folders | {tmp_path / "none": []}).items():
        weights, residuals, logits, keys = full_pass(architecture, ids, *made)
        scores = pl.read_parquet(folder / "scores.parquet")
        others = pl.read_parquet(folder / "residuals.parquet")
        shape = weights.shape[:3]
        after = torch.from_numpy(np.tril(np.ones((LENGTH, LENGTH)), -1)).to(weights)
        columns = (weights * after).sum(-2) / torch.arange(LENGTH - 1, -1, -1)  # (N, L, H, T), NaN at the last
        for target in made[0].positions if made else (0, 3, 5):
            here = scores.filter(pl.col("target") == target).sort("sequence", "layer", "head")
            close(here["score"].to_numpy().reshape(shape), columns[..., target])
            close(here["first_score"].to_numpy().reshape(shape), columns[..., 0])
            there = others.filter(pl.col("target") == target).sort("sequence", "layer")
            norms = residuals[:, :, target].norm(dim=-1)
            close(there["norm"].to_numpy().reshape(norms.shape), norms)
            ratio = residuals[:, :, target].abs().amax(-1) / residuals[:, :, target].abs().mean(-1)
            close(there["dominance_ratio"].to_numpy().reshape(norms.shape), ratio)
            cosines = torch.stack(
                [torch.cosine_similarity(k[:, :, target], k[:, :, target].roll(-1, 0), dim=-1).mean(1) for k in keys], 1
            )
            close(there["key_cosine"].to_numpy().reshape(norms.shape), cosines, 1e-4)
        positions = pl.read_parquet(folder / "positions.parquet").sort("layer", "position")
        grid = positions["score"].to_numpy().reshape(-1, LENGTH)
        close(grid[:, :-1], columns.double().mean((0, 2))[:, :-1])
        assert np.isnan(grid[:, -1]).all()
        if not with_losses:
            continue
        losses = pl.read_parquet(folder / "losses.parquet")
        first = min(made[0].positions) if made else 3
        loss = losses.filter(pl.col("target") == first).sort("sequence")
        now = logits.log_softmax(-1)
        picked = -now[:, first:-1].gather(-1, ids[:, first + 1 :, None]).mean((1, 2))
        close(loss["loss"], picked)
        divergence = (plain.exp() * (plain - now)).sum(-1)[:, first:-1].mean(1)
        np.testing.assert_allclose(loss["divergence"], divergence, rtol=1e-3, atol=1e-5)


def test_partial_passes_are_exact_in_every_architecture_and_leave_the_model_as_it_was(any_model, token_ids):
    ids = torch.from_numpy(token_ids)
    with torch.no_grad():
        plain = any_model(ids).logits
    replay = Replay(read_architecture(any_model))
    with replay.active():
        assert replay.check(ids, layer=1, position=5)
        assert replay.check(ids, layer=0, position=3)
        assert replay.check(ids, layer=2, position=0)
    with torch.no_grad():
        assert torch.equal(any_model(ids).logits, plain)
    assert not any("forward" in vars(block) for block in replay.architecture.blocks)


def test_a_model_with_other_state_is_run_in_full_and_still_right(llama, token_ids, tmp_path, monkeypatch):
    monkeypatch.setattr(Replay, "check", lambda self, ids, *, layer, position: setattr(self, "exact", False))
    amplified = edit("variance_amplification", (1, 2), (5,), 4.0)
    architecture = read_architecture(llama)
    sweep(architecture, token_ids, {tmp_path / "a": [amplified]}, batch=6)
    weights = full_pass(architecture, torch.from_numpy(token_ids), amplified)[0]
    scores = pl.read_parquet(tmp_path / "a" / "scores.parquet")["score"].to_numpy().reshape(weights.shape[:3])
    close(scores, weights[..., 6:, 5].mean(-1))


@pytest.mark.parametrize("name", ["gemma4", "zaya"])
@pytest.mark.parametrize("with_losses", [True, False])
def test_layers_that_share_keys_or_keep_other_state_are_run_in_full_and_still_right(
    name, token_ids, tmp_path, with_losses, capsys
):
    architecture = read_architecture(build(name))
    amplified = edit("variance_amplification", (1, 3), (5,), 4.0, site="value_aggregation")
    replay = Replay(architecture, exact=False)
    with replay.active():
        [moments] = estimate_moments(replay, token_ids, [amplified], batch=6).values()
    sweep(architecture, token_ids, {tmp_path / "a": [amplified]}, batch=6, losses=with_losses)
    assert "every edit runs in full" in capsys.readouterr().out
    weights, residuals, _, _ = full_pass(architecture, torch.from_numpy(token_ids), EditTap(amplified, moments))
    scores = pl.read_parquet(tmp_path / "a" / "scores.parquet")["score"].to_numpy().reshape(weights.shape[:3])
    close(scores, weights[..., 6:, 5].mean(-1))
    norms = pl.read_parquet(tmp_path / "a" / "residuals.parquet")["norm"].to_numpy().reshape(residuals.shape[:2])
    close(norms, residuals[:, :, 5].norm(dim=-1))


def test_attention_that_is_not_finite_after_the_target_is_told(token_ids, tmp_path):
    model = copy.deepcopy(build("llama"))
    architecture = read_architecture(model)
    # in the last layer, so that no residual at an earlier position knows of it
    model.model.layers[2].self_attn.q_proj.register_forward_hook(
        lambda module, args, output: output.index_fill(1, torch.tensor(9), torch.inf)
    )
    with pytest.raises(
        SinkoriginError, match="model m, intervention baseline, strength None: the attention is not finite"
    ):
        measure_baseline(architecture, token_ids, tmp_path, targets=[5], model="m", batch=3)


def test_an_edited_pass_runs_only_later_layers_and_positions(llama, token_ids):
    architecture = read_architecture(llama)
    replay = Replay(architecture)
    seen = []
    handles = [
        block.self_attn.register_forward_hook(
            lambda module, args, kwargs, output, layer=layer: seen.append((layer, output[0].shape[1])), with_kwargs=True
        )
        for layer, block in enumerate(architecture.blocks)
    ]
    with replay.active():
        unedited = replay.unedited(torch.from_numpy(token_ids), entries={1})
        seen.clear()
        replay.edited(unedited, layer=1, position=5)
    for handle in handles:
        handle.remove()
    assert seen == [(1, LENGTH - 5), (2, LENGTH - 5)]


@pytest.mark.parametrize("site", ["value_aggregation", "attention_output"])
def test_means_are_those_of_the_edited_model_whatever_the_batch(llama, token_ids, site):
    architecture = read_architecture(llama)
    replay = Replay(architecture)
    amplified = edit("variance_amplification", (0, 1, 2), (3, 5), 4.0, site=site)
    with replay.active():
        [whole] = estimate_moments(replay, token_ids, [amplified], batch=6).values()
        [parts] = estimate_moments(replay, token_ids, [amplified], batch=2).values()
    seen = {}
    with (
        watch_sites(architecture, [site], lambda layer, _, x: seen.__setitem__(layer, x.clone())),
        torch.no_grad(),
        applied(architecture, amplified.at_layers([0, 1])),
    ):
        # taken after the edit, so of the last layer, which is not edited here
        architecture.model(torch.from_numpy(token_ids))
    expected = seen[2][:, [3, 5]].double()
    torch.testing.assert_close(whole.mean[2].flatten(1), expected.mean(0), rtol=1e-4, atol=1e-5)
    spread = (expected - expected.mean(0)).reshape(len(expected), 2, whole.mean[2].shape[1], -1)
    torch.testing.assert_close(whole.spread[2], spread.square().sum(-1).mean(0).sqrt(), rtol=1e-4, atol=1e-5)
    for layer in (0, 1, 2):
        torch.testing.assert_close(parts.mean[layer], whole.mean[layer], rtol=1e-5, atol=1e-6)


def test_no_sequence_counts_in_the_mean_of_a_calibration(llama, token_ids, tmp_path):
    amplified = edit("variance_amplification", (0,), (5,), 4.0)
    architecture = read_architecture(llama)

    def norms(sequences, calibration, folder):
        folders = {tmp_path / folder: [amplified]}
        sweep(architecture, token_ids, folders, sequences=sequences, batch=6, calibration=calibration)
        return pl.read_parquet(tmp_path / folder / "residuals.parquet")["norm"].to_numpy().reshape(sequences, -1)

    alone = norms(1, 3, "alone")
    np.testing.assert_allclose(norms(3, 3, "more")[0], alone[0], rtol=1e-5)
    assert np.abs(norms(3, 0, "own")[0] / alone[0] - 1).max() > 1e-3


def test_tables_do_not_depend_on_the_batch(llama, token_ids, tmp_path):
    architecture = read_architecture(llama)
    edits = [
        edit("random_directions", (0, 1), (5,), 4.0), edit("mask", (0,), (5,)), edit("mean_shift", (0,), (5,), 4.0),
    ]  # fmt: skip
    for batch in (6, 2):
        sweep(architecture, token_ids, {tmp_path / f"{batch}": edits}, batch=batch, losses=True)
    keys = ["kind", "sequence", "layer", "head"]
    six, two = (pl.read_parquet(tmp_path / n / "scores.parquet").sort(keys) for n in ("6", "2"))
    close(two["score"], six["score"])
    six, two = (
        pl.read_parquet(tmp_path / n / "positions.parquet").sort("kind", "layer", "position") for n in ("6", "2")
    )
    close(two["score"].drop_nulls(), six["score"].drop_nulls())


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("computed", [1, 150, 1 << 26])
def test_losses_are_those_of_all_logits_however_they_are_divided(name, computed, token_ids, tmp_path, monkeypatch):
    monkeypatch.setattr(
        logits, "_COMPUTED", computed * 96 if computed < 1000 else computed
    )  # logits of so many positions
    monkeypatch.setattr(logits, "_READ", 200)
    architecture, masked = read_architecture(build(name)), edit("mask", (0, 1), (5,))
    sweep(architecture, token_ids, {tmp_path / "masked": [masked]}, batch=3, losses=True, workers=2)
    (tmp_path / "baseline").mkdir()
    measure_baseline(architecture, token_ids, tmp_path / "baseline", targets=[5], model="m", batch=3, losses=True)
    ids = torch.from_numpy(token_ids)
    before, now = (
        torch.log_softmax(full_pass(architecture, ids, *edits)[2][:, 5:-1], dim=-1) for edits in ([], [masked])
    )
    after = ids[:, 6:].unsqueeze(-1)
    table = pl.read_parquet(tmp_path / "masked" / "losses.parquet").sort("sequence")
    unedited = pl.read_parquet(tmp_path / "baseline" / "losses.parquet").sort("sequence")
    close(table["loss"], -now.gather(-1, after).mean(dim=(1, 2)))
    close(table["baseline_loss"], -before.gather(-1, after).mean(dim=(1, 2)))
    close(table["divergence"], (before.exp() * (before - now)).sum(-1).mean(1), 1e-4)
    close(unedited["loss"], table["baseline_loss"])
    assert not list(tmp_path.glob("*.logits"))


@pytest.mark.parametrize(("length", "together"), [(64, 8), (965, 8), (1000, 7), (1931, 1), (100_000, 1)])
def test_long_sequences_run_fewer_at_a_time(length, together):
    assert fitting_batch(8, heads=9, length=length) == together


def test_no_more_passes_run_at_a_time_than_sequences_fit():
    architecture = read_architecture(build("llama"))
    assert [architecture.fitting_workers(2, length) for length in (64, 100_000)] == [2, 1]


def test_as_many_sequences_run_together_as_an_edit_mixes(llama, token_ids, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "ATTENTION_BYTES", 1)
    sizes = []
    edited = Replay.unedited
    monkeypatch.setattr(
        Replay, "unedited", lambda self, ids, **rest: sizes.append(len(ids)) or edited(self, ids, **rest)
    )
    sweep(read_architecture(llama), token_ids, {tmp_path / "a": [edit("mask", (0,), (5,))]}, batch=6)
    assert set(sizes[1:]) == {2}  # the first is a trial
    sizes.clear()
    sweep(read_architecture(llama), token_ids, {tmp_path / "b": [edit("value_averaging", (0,), (0,), 3)]}, batch=6)
    assert set(sizes[1:]) == {3}
    groups = {}
    for name in "ab":
        numbers = read_table(tmp_path / name / "scores.parquet", ["sequence", "unit"]).to_pydict()
        groups[name] = dict(zip(numbers["sequence"], numbers["unit"], strict=True))
    assert all(sequence == unit for sequence, unit in groups["a"].items())
    assert all(unit == sequence // 3 * 3 for sequence, unit in groups["b"].items())


def test_batches_are_of_one_size_give_or_take_one():
    sizes = [part.stop - part.start for part in even_batches(17, 8)]
    assert sorted(sizes) == [5, 6, 6]
    assert [part.start for part in even_batches(17, 8)] == [0, *np.cumsum(sizes)[:-1]]


def test_one_more_strength_makes_only_that_strength(tmp_path):
    made = []

    def run(folders, making):
        for path in folders:
            with making(path) as folder:
                (folder / "scores.parquet").write_text("x")
                made.append(f"{path.parent.name} {path.name}")

    def go(strengths, fact="a", **others):
        made.clear()
        wanted = {"control": strengths, **others}
        edits = {i: {f"{s:g}": [edit("norm_control", (0,), (5,), s)] for s in own} for i, own in wanted.items()}
        keys = {i: {name: key_of(own, fact) for name, own in groups.items()} for i, groups in edits.items()}
        assert fill(tmp_path, keys, run) == [name.replace(" ", "/") for name in made]
        return made

    assert go([2.0, 4.0]) == ["control 2", "control 4"]
    assert go([2.0, 4.0, 8.0]) == ["control 8"]
    assert go([2.0, 8.0]) == [] and not (tmp_path / "control/4").exists()
    assert go([2.0, 8.0], other=[3.0]) == ["other 3"]
    (tmp_path / "control/8/scores.parquet").unlink()
    assert go([2.0, 8.0]) == ["control 8"] and not (tmp_path / "other").exists()
    assert go([2.0, 8.0], fact="b") == ["control 2", "control 8"]
    (tmp_path / "control/2/scores.parquet").write_text("y")
    assert go([2.0, 8.0], fact="b") == ["control 2"], "damage of the same size is made again"


def test_what_another_directory_has_of_the_same_key_is_taken_and_not_made(tmp_path):
    def run(folders, making):
        for path in folders:
            with making(path) as folder:
                (folder / "scores.parquet").write_text(f"made for {path.parents[1].name}")

    look, study = tmp_path / "look", tmp_path / "study"
    assert fill(look, {"i": {"a": "1", "b": "2"}}, run, made_elsewhere=study) == ["i/a", "i/b"]
    (look / "i/b/scores.parquet").write_text("y")  # damaged
    wanted = {"i": {"a": "1", "b": "2", "c": "3"}, "j": {"a": "4"}}
    assert fill(study, wanted, run, made_elsewhere=look) == ["i/b", "i/c", "j/a"]
    assert (study / "i/a/scores.parquet").read_text() == "made for look"
    assert fill(study, wanted, run, made_elsewhere=look) == [], "what was taken is whole"
    assert fill(look, {"i": {"a": "changed", "b": "2"}}, run, made_elsewhere=study) == ["i/a"], "of the same key only"


def test_what_was_made_before_an_interruption_is_not_made_again(tmp_path):
    def run(folders, making):
        for path in folders:
            with making(path) as folder:
                if path.name == "b" and not again:
                    raise KeyboardInterrupt
                (folder / "scores.parquet").write_text("x")

    again = False
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, {"i": {"a": "1", "b": "2"}}, run)
    again = True
    assert fill(tmp_path, {"i": {"a": "1", "b": "2"}}, run) == ["i/b"]


@pytest.mark.parametrize("losses", [True, False])
def test_sweeps_side_by_side_write_the_bytes_of_one_after_the_other(any_model, token_ids, tmp_path, losses):
    architecture = read_architecture(any_model)
    edits = [made for made in EDITS if made.kind != "value_averaging"]

    def go(workers, edits):
        root = tmp_path / f"{workers} {len(edits)}"
        sweeps = {root / str(EDITS.index(made)): Sweep("i", [made], 2 * (made.kind == "mean_shift")) for made in edits}
        (root / "scratch").mkdir(parents=True)
        run_sweeps(
            architecture, token_ids, sweeps, sequences=4, model="m", batch=2, losses=losses, workers=workers,
            scratch=root / "scratch",
        )  # fmt: skip
        return root

    alone, beside = go(1, edits), go(3, edits)
    files = {path.relative_to(beside) for path in beside.rglob("*.parquet")}
    assert len(files) == len(edits) * (4 if losses else 3)
    for file in files:
        assert (alone / file).read_bytes() == (beside / file).read_bytes()
    # nor do they depend on which other edits are made
    few = go(2, edits[1:3])
    for file in {path.relative_to(few) for path in few.rglob("*.parquet")}:
        assert (alone / file).read_bytes() == (few / file).read_bytes()


def test_sweeps_share_one_unedited_pass_of_each_batch(llama, token_ids, tmp_path, monkeypatch):
    passes = []
    monkeypatch.setattr(
        Replay,
        "unedited",
        lambda self, ids, _run=Replay.unedited, **more: passes.append(len(ids)) or _run(self, ids, **more),
    )
    folders = {tmp_path / str(i): [made] for i, made in enumerate(EDITS[:8])}
    sweep(read_architecture(llama), token_ids, folders, batch=3, workers=2)
    assert passes == [2, 3, 3]  # the first is the check of exactness


def test_an_error_in_one_of_many_sweeps_is_told_and_the_model_is_left_as_it_was(llama, token_ids, tmp_path):
    (tmp_path / "scratch").mkdir()
    sweeps = {
        tmp_path / "a": Sweep("fine", [EDITS[0]]), tmp_path / "b": Sweep("far", [edit("norm_control", (0,), (5,), 1e38)])
    }  # fmt: skip
    architecture = read_architecture(llama)
    with pytest.raises(SinkoriginError, match="intervention far, strength 1e[+]38: the residual is not finite"):
        run_sweeps(
            architecture, token_ids, sweeps, sequences=6, model="m", batch=6, workers=2, scratch=tmp_path / "scratch"
        )
    assert not any("forward" in vars(block) for block in architecture.blocks)
    assert not list((tmp_path / "b").glob("*"))


def test_wrong_layers_and_targets_are_told_in_one_sentence(llama, token_ids, tmp_path):
    architecture = read_architecture(llama)

    def go(kind, *place, ids=token_ids):
        sweep(architecture, ids, {tmp_path / "x": [edit(kind, *place)]}, batch=4)

    with pytest.raises(SinkoriginError, match="layer 7, but model m has 3 layers, 0 to 2; choose"):
        go("mask", (7,), (5,))
    with pytest.raises(SinkoriginError, match="target position 11 has no later query .* choose"):
        go("mask", (0,), (11,))
    with pytest.raises(
        SinkoriginError, match="value_averaging mixes 5 sequences of a batch, but batches have 3; raise"
    ):
        go("value_averaging", (0,), (0,), 5.0)
    with pytest.raises(SinkoriginError, match="a mean over sequences needs at least 2, it has 1; raise"):
        go("variance_amplification", (0,), (5,), 5.0, ids=token_ids[:1])
    with pytest.raises(SinkoriginError, match="strength 1e[+]38: the residual is not finite; lower the strength"):
        go("norm_control", (0,), (5,), 1e38)
    assert not list((tmp_path / "x").rglob("*.parquet"))


_SWEEP = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import numpy as np
from architectures import build
from intervention_tables import resolved
from sinkorigin.interventions.resolution import SCHEMA
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification
from sinkorigin.interventions.sweep import Sweep, measure_baseline, run_sweeps
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.interventions import compute
from sinkorigin.tables import write_manifest, write_table
count, root = int(sys.argv[3]), Path(sys.argv[4])
ids = np.random.default_rng(0).integers(3, 96, size=(count, 32))
edits = [VarianceAmplification(layers=[0, 1], positions=[k], strength=s) for k in (5, 9) for s in (2.0, 4.0)]
common = {"model": "m", "batch": 8, "losses": True}
architecture = read_architecture(build("llama"))
measure_baseline(architecture, ids, root / "baseline", targets=[5, 9], **common)
sweeps = {root / "edited" / "i" / "strength=4": Sweep("i", edits)}
(root / "scratch").mkdir()
run_sweeps(architecture, ids, sweeps, sequences=count, scratch=root / "scratch", **common)
for folder in ("baseline", "edited/i/strength=4"):
    write_manifest(root / folder)
points = {"i": {4.0: [{"kind": "variance_amplification", "target": k} for k in (5, 9)]}}
write_table(root / "resolved.parquet", resolved(points), SCHEMA)
inputs = {"baseline": str(root / "baseline/manifest.json"), "edited": str(root / "edited/interventions.json")}
inputs["resolved"] = str(root / "resolved.parquet")
compute(
    inputs, model="m", prompts="p", length=32, resampling=Resampling(50, 0), comparison_replicates=1000, only=None
)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_eight_times_the_sequences_take_no_more_memory_to_edit_and_to_compare(tmp_path):
    here = Path(__file__).parents[1]
    peaks = {}
    for count in (64, 512):
        command = [sys.executable, "-c", _SWEEP, here.parent / "src", here, count, tmp_path / str(count)]
        answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        peaks[count] = int(answer.stdout.split()[-1])
    assert peaks[512] < 1.15 * peaks[64], peaks
