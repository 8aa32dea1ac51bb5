"""What jobs ask for follows from the shape of the model and the size of the data."""

import copy
import json
from pathlib import Path

import pytest

from harness.config.reading import read_config
from harness.job import Record
from harness.plan import comparison, job_row, plan_text
from harness.resources import ASSUMED_SHAPE, Estimates
from sinkorigin.models.shapes import Shape
from tiny_study import TINY

SHAPE = {"layers": 8, "width": 512, "heads": 8, "kv_heads": 4, "ffn_width": 1408, "vocabulary": 32000}
PAIR = {"model": "own", "prompts": "random_tokens"}
RUNNING = ("extract_activations", "measure_baseline", "intervene")


def study(*, shape=SHAPE, prompts=None, activations=None, device="cpu", results="nowhere", **top):
    raw = copy.deepcopy(TINY) | copy.deepcopy(top)
    raw["models"] = [{"name": "own", "source": "hub:a/b@c", "shape": shape}, {"name": "copy", "source": "random:own"}]
    raw["interventions"] = [
        {"name": "mask", "kind": "mask", "models": ["own"], "prompts": ["random_tokens", "natural_text"], "layers": [0], "positions": [5], "sequences": 8}
    ]  # fmt: skip
    raw["prompts"][0] |= {"sequences": 16, "length": 64} | (prompts or {})
    raw["activations"] |= activations or {}
    return Estimates(read_config(raw), device, Path(results))


def test_the_shape_of_a_config_json_has_the_models_parameters(any_model):
    shape = Shape.of_config(json.loads(any_model.config.to_json_string()))
    # biases and learned positions are left out; they are much of models as tiny as these
    assert shape.parameters == pytest.approx(sum(p.numel() for p in any_model.parameters()), rel=0.11)
    assert shape.layers == len(any_model.config.get_text_config().to_dict().get("layer_types") or range(shape.layers))


@pytest.mark.parametrize("key", ["layers", "width", "ffn_width"])
def test_memory_grows_with_the_model(key):
    small, large = study(), study(shape=SHAPE | {key: 4 * SHAPE[key]})
    for rule in RUNNING:
        assert large.of(rule, PAIR).memory > small.of(rule, PAIR).memory, rule


def test_memory_grows_with_the_vocabulary_where_losses_are_read():
    for rule in ("measure_baseline", "intervene"):
        small, large = (
            study(shape=SHAPE | {"vocabulary": words}).of(rule, {"model": "own", "prompts": "natural_text"})
            for words in (32_000, 128_000)
        )
        assert large.memory > small.memory, rule


@pytest.mark.parametrize(
    "change",
    [{"prompts": {"length": 256}}, {"activations": {"batch": 8}}, {"shape": SHAPE | {"heads": 64, "kv_heads": 64}}],
)
def test_memory_grows_with_what_a_batch_holds(change):
    for rule in RUNNING:
        assert study(**change).of(rule, PAIR).memory > study().of(rule, PAIR).memory, rule


def test_half_precision_halves_the_weights():
    full, half = study(), study(dtype="bfloat16")
    shape = full.shape("own")
    saved = full.of("intervene", PAIR).memory - half.of("intervene", PAIR).memory
    assert saved >= shape.layers * shape.layer_matrices * 2 / 2**20


def test_time_and_disk_grow_with_sequences():
    few, many = study(), study(prompts={"sequences": 160})
    for rule in ("extract_activations", "compute_sinks", "compute_variance"):
        assert many.of(rule, PAIR).seconds > few.of(rule, PAIR).seconds
    assert many.of("extract_activations", PAIR).disk > 3 * few.of("extract_activations", PAIR).disk


def test_a_model_on_a_gpu_asks_for_its_memory_and_for_more_gpus_than_one_where_it_does_not_fit():
    one = study(device="cuda").of("intervene", PAIR)
    assert one.gpus == 1 and one.gpu_memory > study().shape("own").parameters * 4 / 2**20
    spread = study(device="cuda", machine={"gpu_memory": 0.2}).of("intervene", PAIR)
    assert spread.gpus > 1 and spread.gpu_memory < one.gpu_memory
    assert study().of("intervene", PAIR).gpus == study().of("intervene", PAIR).gpu_memory == 0
    assert study(device="cuda").of("compute_sinks", PAIR).gpus == 0


def test_what_is_assumed_is_said_and_what_is_there_is_not_assumed(tmp_path, llama):
    unknown = study(shape=None, results=tmp_path)
    assert unknown.shape("own") is ASSUMED_SHAPE and unknown.shape("copy") is ASSUMED_SHAPE
    assert [sentence.partition(":")[0] for sentence in unknown.assumptions()] == ["model own", "model copy", "corpus"]
    (tmp_path / "models/own").mkdir(parents=True)
    (tmp_path / "models/own/config.json").write_text(llama.config.to_json_string())
    for damage in ("", "[]", "null", '{"text_config": null}', '{"text_config": []}'):
        (tmp_path / "models/own/config.json").write_text(damage)
        assert study(shape=None, results=tmp_path).shape("own") is ASSUMED_SHAPE
    (tmp_path / "models/own/config.json").write_text(llama.config.to_json_string().replace(": 32,", ': "32",'))
    assert study(shape=None, results=tmp_path).shape("own") is ASSUMED_SHAPE
    (tmp_path / "models/own/config.json").write_text(llama.config.to_json_string())
    known = study(shape=None, results=tmp_path)
    assert known.shape("own").parameters == known.shape("copy").parameters == sum(p.numel() for p in llama.parameters())
    assert [sentence.partition(":")[0] for sentence in known.assumptions()] == ["corpus"]


def write_job(folder, memory, peak_seen):
    (folder / "job.tsv").write_text(f"s\th:m:s\tmax_rss\n9.5\t0:00:09\t{peak_seen}\n")
    (folder / "job.log").write_text(f"reading\n{Record(7.0, memory, 0.0)}\n")
    needs = study().of("measure_weights", {"model": "own"})
    return job_row(
        needs, target="all", rule="measure_weights", wildcards={"model": "own"}, threads=1,
        log=folder / "job.log", benchmark=folder / "job.tsv",
    )  # fmt: skip


def test_a_prediction_below_or_far_above_the_peak_is_named(tmp_path):
    requested = study().of("measure_weights", {"model": "own"}).memory
    for peak, verdict in ((requested / 1.2, True), (requested * 1.01, False), (requested / 1.6, False)):
        # the larger of the job's own peak and what Snakemake saw counts
        for memory, seen in ((peak, "-"), (peak / 9, peak)):
            text, wrong = comparison([write_job(tmp_path, memory, seen)])
            assert (not wrong) == verdict, (text, wrong)


def test_a_plan_sums_up_its_jobs(tmp_path):
    row = write_job(tmp_path, 500, 500)
    row |= {"hours": 3.0, "gpus": 2, "disk": 500.0}
    text = plan_text([row, row, row | {"target": "learning_rates"}], ["the moon is assumed"], "own")
    total, sweep = (line.split("|") for line in text.splitlines() if line.startswith("| in all"))
    assert [cell.strip() for cell in (total[2], total[7], total[8], total[9])] == ["2", "6.0 h", "12", "1"]
    assert sweep[2].strip() == "1" and "- the moon is assumed" in text


def test_a_new_statistic_figure_or_table_has_an_estimate_like_those_of_its_kind():
    known = [study().of(f"compute_{name}", PAIR) for name in ("variance", "norms", "disparity", "sinks", "secondary_sinks", "keys")]  # fmt: skip
    new = study().of("compute_new", PAIR)
    assert min(needs.memory for needs in known) <= new.memory <= 1.5 * max(needs.memory for needs in known)
    assert study(prompts={"sequences": 160}).of("compute_new", PAIR).seconds > new.seconds
    assert study().of("plot_new", {}) == study().of("plot_sinks_by_position", {})
    assert study().of("summarize_new", {}) == study().of("summarize_pretraining", {})


def test_measuring_all_seeds_of_a_run_takes_as_many_times_as_long_and_no_more_memory():
    several = copy.deepcopy(TINY["pretraining"])
    several["runs"][0]["seeds"] = [0, 1, 2]
    one, three = (
        study(pretraining=pretraining).of("measure_training", {"run": several["runs"][0]["name"]})
        for pretraining in (TINY["pretraining"], several)
    )
    assert three.memory == one.memory and three.seconds > one.seconds and three.disk == pytest.approx(3 * one.disk)
