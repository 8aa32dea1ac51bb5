"""What a user lays over the default study is merged as it is meant."""

import json
from pathlib import Path

import pytest
import yaml

from harness.config.merging import Layer, merge, source_named
from harness.config.pretraining import Run
from harness.config.reading import read_config, read_study
from sinkorigin.errors import SinkoriginError
from tiny_study import ROOT

OWN = Layer("config.yaml", yaml.safe_load((ROOT / "config.yaml").read_text()))


def laid_over(*texts: str, folder: Path = ROOT, **options):
    """The default study with files of these texts over it, and options of the command line."""
    files = [Layer(f"{number}.yaml", yaml.safe_load(text)) for number, text in enumerate(texts)]
    return merge(OWN, [*files, *([Layer.of_options("--config", options)] if options else [])], folder)


def read(*texts: str, **options):
    return read_config(laid_over(*texts, **options).values, base=ROOT)


def test_three_lines_study_that_model_with_everything_standard():
    config = read("study: mine\nmodels:\n- source: hub:Owner/Some-Model@abc")
    assert config.study == "mine"
    assert [(model.name, model.source) for model in config.models] == [
        ("some-model", "hub:Owner/Some-Model@abc"),
        ("some-model-random", "random:some-model"),
    ]
    assert config.models[1].label == "some-model architecture, random weights"
    assert not config.pretraining.runs
    default = read()
    assert [edit.name for edit in config.interventions] == [edit.name for edit in default.interventions]
    for edit in config.interventions:
        assert edit.models == (["some-model", "some-model-random"] if edit.controls else ["some-model"])
    same = ("prompts", "activations", "statistics", "corpus", "figures")
    assert all(getattr(config, section) == getattr(default, section) for section in same)


def test_a_model_on_the_command_line_is_studied_under_its_name():
    assert read(model="openai-community/gpt2").study == "gpt2"
    assert read(model="openai-community/gpt2", study="other").study == "other"
    assert [m.name for m in read("study: mine", model="a/B@c").models] == ["b", "b-random"]


def test_models_with_pretraining_keep_what_the_overlay_does_not_say():
    config = read("study: mine\nmodels: [{source: 'hub:a/b'}]\npretraining: {prompts: [natural_text]}")
    assert [run.name for run in config.pretraining.runs] == [run.name for run in read().pretraining.runs]
    assert config.pretraining.prompts == ["natural_text"]


def test_an_overlay_without_models_keeps_the_default_study():
    config = read("statistics: {seed: 3}")
    assert config.study == "default" and config.pretraining == read().pretraining
    assert (config.statistics.seed, config.statistics.replicates) == (3, 200)


def test_a_study_of_pretraining_alone_has_no_models():
    config = read("study: mine\nmodels: []\npretraining: {threads: 2}")
    assert not config.models and not config.interventions and config.pretraining.runs
    with pytest.raises(SinkoriginError, match="models is empty, and pretraining has no runs; name a model, or a run"):
        read("study: mine\nmodels: []")
    with pytest.raises(
        SinkoriginError, match="0.yaml: study is missing, and there is no model to name it after; add it"
    ):
        read("models: []\npretraining: {threads: 2}")


def test_another_corpus_has_none_of_the_settings_of_the_one_before():
    corpus = read("corpus: {source: 'path:docs'}").corpus
    assert (corpus.sha256, corpus.members, corpus.megabytes) == (None, None, None)
    assert corpus.validation_share == read().corpus.validation_share
    assert read("corpus: {documents: 20}").corpus.sha256 == read().corpus.sha256
    assert read("corpus: {source: 'path:docs', column: body}", "corpus: {documents: 9}").corpus.column == "body"


def test_later_files_and_options_count_more():
    config = read("statistics: {seed: 1, replicates: 30}", "statistics: {seed: 2}", statistics={"replicates": "40"})
    assert (config.statistics.seed, config.statistics.replicates) == (2, 40)
    assert [p.name for p in read("prompts: [{name: a, kind: random_tokens, sequences: 64, length: 64}]").prompts] == [
        "a"
    ]


def test_numbers_inside_an_option_are_numbers():
    given = {"statistics": {"replicates": "50", "onset_mass": "1e-1", "epsilons": ["0.2", "3e-1"]}}
    statistics = read(corpus={"documents": "null"}, **given).statistics
    assert (statistics.replicates, statistics.onset_mass, statistics.epsilons) == (50, 0.1, [0.2, 0.3])


def test_a_standard_study_fits_prompt_sets_of_another_size():
    config = read("study: s\nprompts: [{name: random_tokens, kind: random_tokens, sequences: 12, length: 16}]")
    assert {position for edit in config.interventions for position in edit.targets} == {0, 5, 10}
    assert {edit.sequences for edit in config.interventions} == {12}
    assert {name for edit in config.interventions for name in edit.prompts} == {"random_tokens"}
    assert not any(edit.calibration for edit in config.interventions)
    assert [kept.positions for kept in config.activations.sites] == [None, *[[0, 1, 2, 4, 8]] * 4]


def test_what_a_user_calls_a_model(tmp_path, monkeypatch):
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, source in [
        ("a folder", "path:a folder"),
        (str(folder), f"path:{folder}"),
        ("~/a folder", "path:~/a folder"),
        ("path:elsewhere", "path:elsewhere"),
        ("hub:a/b@c", "hub:a/b@c"),
        ("a/b", "hub:a/b"),
        ("a/b@main", "hub:a/b@main"),
    ]:
        assert source_named(given, "--config", tmp_path) == source


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("gpt5", "--config: model is gpt5, but there is no {folder}/gpt5, and it is no owner/repository of the Hugging Face"),
        ("./a/b", "--config: model is ./a/b, but there is no {folder}/a/b; correct it"),
        ("a/b.gguf", "--config: model is a/b.gguf, but there is no {folder}/a/b.gguf; correct it"),
        ("", "--config: model is one path or hub name; write model=PATH, or models for several"),
        (["a/b"], "--config: model is one path or hub name; write model=PATH, or models for several"),
    ],
)  # fmt: skip
def test_a_model_that_names_nothing_is_told_with_what_was_tried(given, sentence, tmp_path):
    with pytest.raises(SinkoriginError) as caught:
        laid_over(model=given, folder=tmp_path)
    assert sentence.format(folder=tmp_path) in str(caught.value)


def test_a_model_beside_models_is_refused():
    with pytest.raises(SinkoriginError, match="--config: model is a/b, but 0.yaml has models; delete one of the two"):
        laid_over("models: [{source: 'hub:c/d'}]", model="a/b")
    with pytest.raises(SinkoriginError, match="--config: it has both model and models; delete one of the two"):
        laid_over(model="a/b", models=[{"source": "hub:c/d"}])
    with pytest.raises(SinkoriginError, match="0.yaml: model is for the command line; write models: "):
        laid_over("model: a/b")


def test_two_models_of_one_name_are_told_with_their_sources():
    with pytest.raises(SinkoriginError, match="the name x is given twice .to hub:a/x@1 and hub:b/X@2.; rename one"):
        read("study: s\nmodels: [{source: 'hub:a/x@1'}, {source: 'hub:b/X@2'}]")


def test_two_models_of_one_label_are_refused():
    """Findings, tables and charts tell models apart by their labels."""
    with pytest.raises(SinkoriginError, match="models: the label 'X' is given twice, so that nobody could tell"):
        read("study: s\nmodels: [{source: 'hub:a/x@1', label: X}, {source: 'hub:b/y@2', label: X}]")


def test_every_mistake_is_told_at_once_with_the_file_that_it_is_in():
    merged = laid_over(
        "statistics: {replicates: 3, sede: 1}\ninterventions:\n"
        "- {name: a, kind: mask, positions: [0], strengths: [2]}\n- {name: b, kind: mask, models: [x], positions: [63]}",
        "study: mine\nprompts: [{name: p, kind: random_tokens, sequences: 64, length: 64, bos: true}]",
        dtype="float8",
    )
    with pytest.raises(SinkoriginError) as caught:
        read_study(merged, first=False)
    lines = str(caught.value).splitlines()
    for line in [
        '--config: dtype is "float8": input should be',
        "1.yaml: prompts.p: bos is no key of prompts; write first_token: bos",
        "0.yaml: statistics.replicates is 3: input should be greater than or equal to 20; change it",
        "0.yaml: statistics.sede is not a key of the config; correct its spelling or delete it",
        "0.yaml: interventions.a: mask has no strength; leave strengths out",
        "0.yaml: interventions.a: position 0 attends to itself only anyway, a mask changes nothing",
    ]:
        assert sum(told.startswith(line) for told in lines) == 1, (line, lines)
    assert len(lines) == 6


def test_a_model_without_a_name_is_told_by_the_one_that_it_gets():
    with pytest.raises(
        SinkoriginError, match="^config.yaml: models.some-model.sha256 is 5: input should be a valid string"
    ):
        read("study: s\nmodels: [{source: 'hub:a/Some-Model', sha256: 5}]")


def test_what_sections_demand_of_each_other_is_told_beside_mistakes_inside_them():
    merged = laid_over(
        "statistics: {replicates: 3}\ninterventions:\n- {name: a, kind: mask, positions: [5], strengths: [2]}\n"
        "- {name: b, kind: mask, models: [x], positions: [63]}\n- {name: c, kind: mask, prompts: [q], positions: [5]}"
    )
    with pytest.raises(SinkoriginError) as caught:
        read_study(merged, first=False)
    assert [line.partition(":")[2].split()[0] for line in str(caught.value).splitlines()] == [
        "statistics.replicates", "interventions.a:", "interventions.b.models:", "interventions.b.positions:",
        "interventions.c.prompts:",
    ]  # fmt: skip


def test_a_job_elsewhere_reads_the_study_that_its_run_merged():
    merged = laid_over("corpus: {source: 'path:docs', members: ['*.md']}", model="a/B", statistics={"replicates": "50"})
    snapshot = json.loads(json.dumps({"snapshot": True, **merged.values}))
    again = merge(OWN, [Layer("snapshot.json", snapshot)], ROOT)
    assert read_config(again.values) == read_config(merged.values)
    assert again.values == merged.values


def test_a_config_that_was_filled_in_reads_the_same():
    config = read("study: mine\nmodels: [{source: 'hub:a/b'}]\npretraining: {prompts: [natural_text]}")
    raw = config.model_dump(mode="json")
    for data in raw["pretraining"]["data"]:
        data.pop("tokenizer", None)
    assert read_config(raw) == config


def test_the_robustness_study_trains_its_baseline_as_the_default_study_does():
    """A list of an overlay replaces the one below it, so the run is written in both files."""
    studies = (yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", "config.robustness.yaml"))
    one, other = (
        Run.model_validate(run).model_dump(exclude={"tuning", "keep", "evaluate_every"})  # what changes no result
        for study in studies
        for run in study["pretraining"]["runs"]
        if run["name"] == "copies_softmax"
    )
    assert one == other
