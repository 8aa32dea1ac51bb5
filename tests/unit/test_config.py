"""A wrong config ends with one sentence that names file, key, value and remedy."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml

from harness.config.merging import Layer, merge
from harness.config.reading import json_schema, read_config
from harness.config.standard import with_standard
from harness.config.study import Config
from harness.config.yaml_checks import check_written
from sinkorigin.errors import SinkoriginError

ROOT = Path(__file__).parents[2]
DELETED = object()
PART = {"source": "pypi:a==1", "member": "a/part", "sha256": "0" * 64}
DEFAULT = with_standard(yaml.safe_load((ROOT / "config.yaml").read_text()))
del DEFAULT["mechanism"]  # it names interventions, which tests change


def put(raw, path: str, value) -> None:
    *parents, last = path.split(".")
    here = raw
    for part in parents:
        here = here[int(part) if part.isdigit() else part]
    if value is DELETED:
        del here[last]
    else:
        here[int(last) if last.isdigit() else last] = value


def changed(path: str, value):
    raw = copy.deepcopy(DEFAULT)
    put(raw, path, value)
    return raw


def test_the_default_study_is_valid():
    config = read_config(DEFAULT)
    assert list(config.studied) == [f"{run.name}-seed0" for run in config.pretraining.runs]
    assert len(config.trained) == 4 * 3 + 4 * 8  # three seeds on text, eight on the copies
    readings = {
        (run.options["scale"], run.options["bias"]) for run in config.pretraining.runs if "scale" in run.options
    }
    assert readings == {("per_head", True), ("shared", False)}
    assert {len(config.pretraining.trials(run)) for run in config.pretraining.runs} == {6}
    assert config.pretraining.prompts == ["random_tokens", "natural_text"]


def test_the_default_study_names_no_layer_by_number_and_can_be_read_in_one_sitting():
    assert not any(isinstance(edit.layers, list) for edit in read_config(DEFAULT).interventions)
    assert len((ROOT / "config.yaml").read_text().splitlines()) < 200


def test_the_schema_in_the_repository_is_the_one_of_the_models():
    assert (ROOT / "schemas" / "config.schema.json").read_text() == json_schema()


def test_every_field_has_a_description():
    def check(schema):
        for name, model in {"Config": schema, **schema["$defs"]}.items():
            for field, facts in model.get("properties", {}).items():
                # pydantic leaves out a description that equals the one of the model it refers to
                referred = schema["$defs"].get(facts.get("$ref", "").rpartition("/")[2], {})
                assert facts.get("description") or referred.get("description"), f"{name}.{field}"

    check(Config.model_json_schema())


def test_every_key_of_the_default_config_stands_under_a_comment_or_is_described():
    """A list entry's keys are described where the list's first entry shows them."""
    lines = (ROOT / "config.yaml").read_text().splitlines()
    top = [i for i, line in enumerate(lines) if line and line[0].isalpha()]
    assert all(any(lines[j].lstrip().startswith("#") for j in range(i - 1, i + 3)) for i in top)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("studdy", "x", "config.yaml: studdy is not a key of the config; correct its spelling or delete it"),
        ("interventions.1.strenghts", [1], "config.yaml: interventions.variance_amplification.strenghts is not a key"),
        (
            "activations.batch",
            "16",
            'config.yaml: activations.batch is "16": input should be a valid integer, but YAML reads this as text; write 16, '
            "without quotes",
        ),
        ("interventions.1.strengths", [2, 0], "strengths.1 is 0: input should be greater than 0; change it"),
        ("interventions.1.strengths", [-1.5], "strengths.0 is -1.5: input should be greater than 0; change it"),
        ("interventions.1.strengths", [2, 2.0], "strengths has 2 twice; keep one"),
        (
            "interventions.0.positions",
            [5, 63],
            "interventions.mask.positions: 63 needs a later query, but prompt set random_tokens has 64 tokens; choose",
        ),
        (
            "interventions.0.positions",
            [0, 5],
            "position 0 attends to itself only anyway, a mask changes nothing; choose",
        ),
        ("interventions.0.positions", [5, [7, 6]], "positions edited at once must rise and not repeat; write [6, 7]"),
        ("interventions.0.positions", [5, [5]], "positions has 5 twice; keep one"),
        ("interventions.1.strengths", [2, 2.0000001], "strengths has 2 twice; keep one"),
        ("interventions.9.mean_factors", [1, 1], "mean_factors has 1 twice; keep one"),
        (
            "interventions.1.sequences",
            16,
            "it runs 16 sequences of prompt set random_tokens, but mask runs 64, and the two",
        ),
        ("interventions.1.sequences", 4, "sequences is 4: input should be greater than or equal to 8; change it"),
        ("interventions.0.strengths", [2], "interventions.mask: mask has no strength; leave strengths out"),
        ("interventions.0.calibration", 8, "mask takes no mean over sequences; leave calibration out"),
        ("interventions.0.to", "zero", "to is for dominating_dims, not for mask; delete it"),
        ("interventions.0.site", "attention_output", "mask has no other site; leave site out"),
        (
            "interventions.1.layers",
            "early",
            "interventions.variance_amplification.layers is \"early\": input should be 'until_onset'",
        ),
        (
            "interventions.1.positions",
            [[5, "x"]],
            'interventions.variance_amplification.positions.0.1 is "x": input should be a',
        ),
        ("prompts.3.bos", True, "prompts.natural_text: bos is no key of prompts; write first_token: bos, or"),
        ("interventions.1.calibration", 41, "64 sequences to run and 41 set apart are more than the 64 of prompt set"),
        ("interventions.1.calibration", 1, "calibration is 1, but a mean over sequences needs at least 2; raise it"),
        (
            "interventions.1.strengths",
            [float("inf")],
            "strengths.0 is Infinity: input should be a finite number; change it",
        ),
        (
            "interventions.1.mean_factors",
            [1],
            "mean_factors is for mean_and_deviation, which needs it; add or delete it",
        ),
        (
            "interventions.22.strengths",
            [16],
            "value_averaging mixes 16 sequences of a batch, but batches have 8; raise",
        ),
        ("interventions.22.strengths", [2.5], "numbers of vectors, not 2.5; write whole numbers from 2"),
        (
            "interventions.21.positions",
            [0, 5],
            "variance_matching edits one position; write one, and an intervention for",
        ),
        (
            "interventions.0.layers",
            [-1],
            "interventions.mask.layers.0 is -1: input should be greater than or equal to 0",
        ),
        (
            "interventions.0.models",
            ["gpt5"],
            "interventions.mask.models: gpt5 is no model of this study; known ones are",
        ),
        (
            "interventions.0.prompts",
            ["p"],
            "interventions.mask.prompts: p is no prompt set; known ones are natural_text",
        ),
        ("activations.sites.1.site", "resid", "activations.sites.resid.site is \"resid\": input should be 'residual'"),
        ("models.0.sha256", "abc", 'models.smollm2-135m.sha256 is "abc": string should match pattern'),
        ("models.0.source", [PART], "models.smollm2-135m.source is [{"),
        (
            "models.0.source",
            [PART, PART | {"source": "hub:a/b"}],
            'models.smollm2-135m.source.1.source is "hub:a/b": string',
        ),
        (
            "models.0.source",
            [PART, {**PART, "sha": "0"}],
            "models.smollm2-135m.source.1.sha is not a key of the config",
        ),
        (
            "models.0.source",
            [PART, PART],
            "models.smollm2-135m: a source in parts needs file (name of the whole) and sha256",
        ),
        (
            "models.0.file",
            "a.gguf",
            "models.smollm2-135m: file is the name of a source in parts (a list of packages); delete it",
        ),
        ("models.0.source", 3, "models.smollm2-135m.source is 3: input should be a valid string"),
        ("models.0.source", "ftp://x", 'models.smollm2-135m.source is "ftp://x": string should match pattern'),
        ("models.0.member", None, "models.smollm2-135m: a pypi: source needs sha256 (of the package file) and member"),
        (
            "models.1",
            {"name": "smollm2-135m-random", "source": "path:src"},
            "models.smollm2-135m: its random-weight control would be called smollm2-135m-random, as",
        ),
        ("models.0.source", "path:no/such/folder", "models.smollm2-135m.source: there is no no/such/folder; correct"),
        ("prompts.0.sequences", 1, "prompts.random_tokens.sequences is 1: input should be greater than or equal to 2"),
        ("pretraining.runs.0.heads", 3, "width 128 must be an even multiple of heads 3; change one of them"),
        ("pretraining.runs.1.name", "softmax", "the name softmax"),
        (
            "pretraining.runs.0.variant",
            "linear",
            "pretraining.runs.softmax: variant linear is unknown; choose one of softmax, headwise_rmsnorm, gated, sigmoid",
        ),
        (
            "pretraining.runs.0.sigmoid",
            {},
            "pretraining.runs.softmax: sigmoid is for variant sigmoid, but this run's is softmax; delete sigmoid",
        ),
        (
            "pretraining.runs.1.variant",
            "gated",
            "headwise_norm is for variant headwise_rmsnorm, but this run's is gated; delete headwise_norm",
        ),
        (
            "pretraining.runs.0.muon_learning_rate",
            0.01,
            "pretraining.runs.softmax: muon_learning_rate is for optimizer muon, but this run's is adamw; delete it, or set",
        ),
        (
            "pretraining.runs.0.initialisation",
            {"embedding_std": 0},
            "pretraining.runs.softmax.initialisation.embedding_std is 0: input should be",
        ),
        ("corpus", None, "corpus is null: input should be"),
        ("corpus.source", "hub:owner/name", 'corpus.source is "hub:owner/name": string should match pattern'),
        (
            "corpus.source",
            "hub:owner/name@commit",
            "corpus: sha256 is of one file, a hub: source is pinned by its commit; set sha256 to null",
        ),
        (
            "pretraining.runs.0.data",
            "plays",
            "pretraining.runs.softmax.data: plays is no data of this study; known ones",
        ),
        (
            "pretraining.data.0.kind",
            "words",
            "pretraining.data.shakespeare.kind is \"words\": input should be 'text', 'b",
        ),
        (
            "pretraining.data.0.vocabulary",
            100,
            "pretraining.data.shakespeare.vocabulary is 100: input should be greater",
        ),
        ("pretraining.data.0.triggers", 3, "pretraining.data.shakespeare.triggers is not a key of the config; correct"),
        (
            "pretraining.data.0.tokenizer",
            "hub:a/b@c",
            "vocabulary is of a tokenizer that is trained, but tokenizer takes",
        ),
        (
            "pretraining.data.0",
            {"name": "shakespeare", "kind": "text", "tokenizer": "path:no/such"},
            "pretraining.data.shakespeare.tokenizer: there is no no/such; correct the path",
        ),
        (
            "pretraining.data.0",
            {"name": "shakespeare", "kind": "text", "corpus": {"source": "path:no/such"}},
            "pretraining.data.shakespeare.corpus.source: there is no no/such; correct the path",
        ),
        (
            "pretraining.data.0",
            {"name": "shakespeare", "kind": "bigram_backcopy", "vocabulary": 8, "triggers": 6},
            "pretraining.data.shakespeare: triggers 6 leave fewer than 2 other characters of vocabulary 8; lower triggers to 5 or",
        ),
        (
            "pretraining.data.0",
            {"name": "shakespeare", "kind": "bigram_backcopy", "tokens": 10_000, "vocabulary": "8"},
            'pretraining.data.shakespeare.vocabulary is "8": input should be a valid integer, but YAML reads this as text',
        ),
        (
            "pretraining.learning_rates.seeds",
            [100, 2],
            "pretraining: learning_rates.seeds: seed 2 is a seed of runs too (softmax, headwise_rmsnorm, headwise_rmsnorm_shared, sigmoid, ",
        ),
        (
            "pretraining.runs.1.tuning.rates",
            [0.001, 0.002],
            "pretraining: runs.headwise_rmsnorm.tuning: the sweep tries 4 settings for it, but 6 for softmax, with which it is compared",
        ),
        (
            "pretraining.runs.1.tuning.option",
            "bias",
            "pretraining.runs.headwise_rmsnorm: tuning.option: bias is no number among the options of variant headwise_rmsnorm; choose",
        ),
        (
            "pretraining.runs.1.tuning.values",
            [0.1000000001, 0.1000000002],
            "pretraining.runs.headwise_rmsnorm.tuning: values has 0.1 twice to six digits; keep one",
        ),
        (
            "pretraining.data.0",
            {"name": "shakespeare", "vocabulary": 300},
            "pretraining.data.shakespeare.kind is missing; add it",
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_file_key_value_and_remedy(path, value, sentence):
    with pytest.raises(SinkoriginError) as caught:
        read_config(changed(path, value), base=ROOT)
    message = str(caught.value)
    assert all(line.startswith("config.yaml: ") for line in message.splitlines())
    assert sentence in message


@pytest.mark.parametrize(
    ("path", "wrong", "followed"),
    [
        ("studdy", "x", [{"studdy": DELETED}]),
        ("interventions.0.strengths", [2], [{"interventions.0.strengths": DELETED}]),
        ("interventions.0.calibration", 8, [{"interventions.0.calibration": DELETED}]),
        ("interventions.0.to", "zero", [{"interventions.0.to": DELETED}]),
        ("interventions.0.site", "attention_output", [{"interventions.0.site": DELETED}]),
        ("interventions.0.positions", [5, 63], [{"interventions.0.positions": [5, 62]}]),
        ("interventions.0.positions", [0, 5], [{"interventions.0.positions": [1, 5]}]),
        ("interventions.0.positions", [5, [7, 6]], [{"interventions.0.positions": [5, [6, 7]]}]),
        ("interventions.1.calibration", 1, [{"interventions.1.calibration": 0}]),
        ("interventions.1.mean_factors", [1], [{"interventions.1.mean_factors": DELETED}]),
        ("interventions.22.strengths", [16], [{"activations.batch": 24}, {"interventions.22.strengths": [8]}]),
        ("interventions.22.strengths", [2.5], [{"interventions.22.strengths": [2, 3]}]),
        ("corpus.source", "hub:owner/name@commit", [{"corpus.sha256": None}]),
        ("pretraining.runs.0.sigmoid", {}, [{"pretraining.runs.0.sigmoid": DELETED}]),
        ("pretraining.runs.1.variant", "gated", [{"pretraining.runs.1.headwise_norm": DELETED, "pretraining.runs.1.tuning": DELETED}]),
        ("pretraining.learning_rates.seeds", [0], [{"pretraining.learning_rates.seeds": [50]}]),
        ("pretraining.runs.1.tuning.values", DELETED, [{f"pretraining.runs.{i}.tuning": DELETED for i in (1, 2)}]),
        ("pretraining.runs.1.tuning.rates", [0.1], [{f"pretraining.runs.{i}.tuning": DELETED for i in (1, 2)}]),
        ("pretraining.runs.1.tuning.rates", [0.1], [{"pretraining.runs.1.tuning.rates": [0.1, 0.2, 0.3]}]),
        ("pretraining.data.0.tokenizer", "hub:a/b@c", [{f"pretraining.data.0.{key}": DELETED} for key in ("vocabulary", "tokenizer")]),
        ("pretraining.runs.0.warmup", 100_000, [{"pretraining.runs.0.warmup": 10}]),
    ],
)  # fmt: skip
def test_what_a_sentence_says_to_do_makes_the_config_valid(path, wrong, followed):
    with pytest.raises(SinkoriginError):
        read_config(changed(path, wrong), base=ROOT)
    for edits in followed:
        raw = changed(path, wrong)
        for place, value in edits.items():
            put(raw, place, value)
        read_config(raw, base=ROOT)


def test_several_models_are_studied_side_by_side_and_one_is_joined_from_parts():
    layers = (Layer(name, yaml.safe_load((ROOT / name).read_text())) for name in ("config.yaml", "config.models.yaml"))
    config = read_config(merge(next(layers), [*layers], ROOT).values, "config.models.yaml")
    models = {model.name: model for model in config.models}
    gemma = models["gemma-3-270m"]
    assert [part.source.rpartition("-")[2] for part in gemma.source] == [f"part{i}==1.0.0" for i in range(1, 5)]
    assert (gemma.kind, gemma.place, gemma.licence.split(" (")[0]) == ("pypi", "", "Gemma Terms of Use")
    assert list(models) == [name + end for name in ("smollm2-135m", "gemma-3-270m") for end in ("", "-random")]
    assert not config.trained


@pytest.mark.parametrize("folder", ["a folder with spaces", "braces {model} [0]"])
def test_a_path_may_have_spaces_or_begin_at_home(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (f"path:~/{folder}", f"path:{tmp_path / folder}"):
        read_config(changed("models.0", {"name": "smollm2-135m", "source": source}), base=ROOT)
    with pytest.raises(SinkoriginError, match="there is no ~/nowhere; correct the path"):
        read_config(changed("models.0", {"name": "smollm2-135m", "source": "path:~/nowhere"}), base=ROOT)


def test_a_run_has_the_options_of_its_variant_with_their_defaults():
    softmax, headwise = read_config(DEFAULT).pretraining.runs[:2]
    assert softmax.options == {}
    assert headwise.options == {"scale": "per_head", "bias": True, "scale_init": 0.1}
    raw = changed("pretraining.runs.0.variant", "sigmoid")
    assert read_config(raw).pretraining.runs[0].options == {"bias": "log_length"}
    raw["pretraining"]["runs"][0]["sigmoid"] = {"bias": "log_visible"}
    assert read_config(raw).pretraining.runs[0].options == {"bias": "log_visible"}


def test_runs_are_compared_with_a_softmax_run_of_the_same_optimizer():
    runs = [run | {"optimizer": "muon"} if run["name"] == "sigmoid" else run for run in DEFAULT["pretraining"]["runs"]]
    own = {"name": "softmax_muon", "optimizer": "muon"}

    def baselines(*further):
        return read_config(
            DEFAULT | {"pretraining": DEFAULT["pretraining"] | {"runs": [*runs, *further]}}
        ).pretraining.baselines

    assert baselines()["sigmoid"] is None and baselines()["headwise_rmsnorm"] == "softmax"
    assert baselines(runs[0] | own)["sigmoid"] == "softmax_muon"


def test_a_missing_key_is_named():
    raw = copy.deepcopy(DEFAULT)
    del raw["models"]
    with pytest.raises(SinkoriginError, match=r"mine.yaml: models is missing; add it"):
        read_config(raw, "mine.yaml")


def on_backcopy(**run):
    """The default study with its first run on a short synthetic stream."""
    raw = copy.deepcopy(DEFAULT)
    raw["pretraining"]["data"].append({"name": "stream", "kind": "bigram_backcopy", "tokens": 10_000})
    raw["pretraining"]["runs"][0].update({"data": "stream", "length": 64, **run})
    return raw


def test_a_stream_shorter_than_a_batch_or_a_sequence_is_told_before_it_is_made():
    read_config(on_backcopy(batch=16, length=64))
    with pytest.raises(
        SinkoriginError, match=r"runs.softmax: a batch of 256 × 64 tokens is no smaller than the 10000 of"
    ):
        read_config(on_backcopy(batch=256))
    with pytest.raises(
        SinkoriginError, match=r"runs.softmax.length: 1000 tokens are no fewer than the 1000 of data stream"
    ):
        read_config(on_backcopy(batch=1, length=1000))


def test_an_edit_of_a_first_token_that_never_varies_is_no_mistake_of_the_config():
    """It is not applicable there, and may be on other prompt sets of the entry."""
    raw = on_backcopy(first_token=True)
    edit = next(edit for edit in raw["interventions"] if edit["kind"] == "variance_matching")
    read_config(
        raw | {"interventions": [edit | {"models": ["softmax-seed0"], "layers": [0], "prompts": ["natural_text"]}]}
    )


def test_a_position_may_lie_beyond_some_prompts_but_not_beyond_all():
    raw = copy.deepcopy(DEFAULT)
    next(prompts for prompts in raw["prompts"] if prompts["name"] == "natural_text")["length"] = 128
    edit = raw["interventions"][0] | {"positions": [100]}
    read_config(raw | {"interventions": [edit | {"prompts": ["random_tokens", "natural_text"]}]})
    with pytest.raises(
        SinkoriginError, match="positions: 100 needs a later query, but prompt set random_tokens has 64"
    ):
        read_config(raw | {"interventions": [edit | {"prompts": ["random_tokens"]}]})


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("study: 2024-06-01", "study is 2024-06-01: input should be a valid string, but YAML reads this as a date; put it in"),
        ("study: 2024-06-01 10:00:00", "study is 2024-06-01 10:00:00: input should be a valid string, but YAML reads this as"),
        ("study: 1.10", "study is 1.1: input should be a valid string, but YAML reads this as a number; put it in quotes"),
        ("study: 20240601", "study is 20240601: input should be a valid string, but YAML reads this as a number; put it"),
        ("study: no", "study is false: input should be a valid string, but YAML reads this as true or false; put it in"),
        ("2024-06-01: x", "2024-06-01 is not a key of the config; correct its spelling or delete it"),
        ("on: x", "True is not a key of the config; correct its spelling or delete it"),
        ("statistics: {seed: 1e3}", 'seed is "1e3": input should be a valid integer, but YAML reads this as text; write 1000, w'),
        ("statistics: {seed: 2024-06-01}", "statistics.seed is 2024-06-01: input should be a valid integer; change it"),
        ("statistics: {onset_mass: 1e-}", 'statistics.onset_mass is "1e-": input should be a valid number; change it'),
        ("statistics: {onset_mass: nan}", 'statistics.onset_mass is "nan": input should be a valid number; change it'),
        ("statistics: {seed: '1.5'}", 'statistics.seed is "1.5": input should be a valid integer; change it'),
        ("statistics: {seed: ten}", 'statistics.seed is "ten": input should be a valid integer; change it'),
    ],
)  # fmt: skip
def test_what_yaml_reads_as_another_type_is_told_with_the_way_to_write_it(line, sentence):
    with pytest.raises(SinkoriginError) as caught:
        read_config({**DEFAULT, **yaml.safe_load(line)}, "mine.yaml")
    assert f"mine.yaml: {sentence}" in str(caught.value) or sentence in str(caught.value)


def test_a_flag_in_a_word_that_yaml_does_not_know_is_told():
    raw = changed("models.0.control", yaml.safe_load("y"))
    with pytest.raises(SinkoriginError, match='control is "y": input should be a valid boolean; write true or false'):
        read_config(raw)


def test_what_the_messages_say_to_write_is_accepted():
    raw = {**DEFAULT, **yaml.safe_load("{study: '2024-06-01', statistics: {seed: 1000, onset_mass: 1.0e-07}}")}
    assert read_config(raw).statistics.onset_mass == 1e-7


def test_a_number_that_yaml_takes_for_text_is_a_number_where_one_is_wanted():
    raw = {**DEFAULT, **yaml.safe_load("statistics: {onset_mass: 1e-3, epsilons: [2e-1, 3.e-1]}")}
    assert raw["statistics"]["onset_mass"] == "1e-3"
    statistics = read_config(raw).statistics
    assert (statistics.onset_mass, statistics.epsilons) == (0.001, [0.2, 0.3])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models:\n- {name: a, seed: 010}", "mine.yaml, line 2: seed has 010, which YAML reads as a number of base 8, 8; write"),
        ("prompts:\n  - length: 1:30", "line 2: length has 1:30, which YAML reads as a number of base 60, 90; write the number"),
        ("a:\n  b: [1, 2:3.5]", "line 2: b has 2:3.5, which YAML reads as a number of base 60, 123.5; write the number that"),
        ("revision: 0123456", "revision has 0123456, which YAML reads as a number of base 8, 42798; write the number that you mean"),
        ("study: a\nmodels: []\nstudy: b", "line 3: study stands in line 1 too, and only the last would count; delete one"),
        ("a:\n- b: 1\n  b: 2", "mine.yaml, line 3: b stands in line 2 too, and only the last would count; delete one of them"),
        ('{"study": "a", "study": "b"}', "mine.yaml: study stands twice in one dictionary, and only the last would count"),
        ("a: [", "mine.yaml is no YAML in UTF-8 (while parsing"),
        ("a: \udcff", "mine.yaml is no YAML in UTF-8 ('utf-8' codec can't decode byte 0xff"),
    ],
)  # fmt: skip
def test_what_yaml_would_read_as_something_else_without_a_word_is_refused(text, sentence, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SinkoriginError) as caught:
        check_written(tmp_path / "mine.yaml")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("file", ["config.yaml", "config.paper.yaml"])
def test_a_config_that_means_what_it_says_is_accepted(file, tmp_path):
    check_written(ROOT / file)
    for text in (
        "a: &x {b: 0, c: -1, d: 0.5, e: 1_000, f: 0x1f, g: '010', h: '1:30'}\nb: [*x, *x]\n",
        '{"a": {"b": 0}, "c": {"b": 0}}',
        json.dumps({"label": "\N{MATHEMATICAL ITALIC SMALL LAMDA}"}),  # a surrogate pair, which is no YAML
        "# only a comment\n",
    ):
        (tmp_path / "mine.yaml").write_text(text)
        check_written(tmp_path / "mine.yaml")


@pytest.mark.parametrize("name", ["results", "models", "logs"])
def test_a_study_is_not_called_as_a_folder_of_all_studies(name):
    with pytest.raises(
        SinkoriginError, match=f"study: the name {name} is taken by a folder of all studies; choose anoth"
    ):
        read_config(changed("study", name))


def test_no_model_is_called_as_the_folder_of_all_results():
    with pytest.raises(SinkoriginError, match="models: the name results is taken by the folder of all results; choose"):
        read_config(changed("models.1.name", "results"))


def test_a_model_reads_the_prompt_sets_that_it_names_and_its_control_the_same():
    raw = copy.deepcopy(DEFAULT)
    raw["models"] = [raw["models"][0] | {"prompts": ["natural_text"]}]
    config = read_config(raw)
    assert [model.reads("natural_text") and not model.reads("random_tokens") for model in config.models] == [True, True]
    raw["models"][0]["prompts"] = ["texts"]
    with pytest.raises(SinkoriginError, match="models.smollm2-135m.prompts: texts is no prompt set"):
        read_config(raw)
    raw["models"] = [
        raw["models"][0] | {"prompts": ["natural_text"]},
        DEFAULT["models"][1] | {"prompts": ["random_tokens"]},
    ]
    with pytest.raises(
        SinkoriginError, match="it reads random_tokens, which smollm2-135m does not, whose layers its edits take"
    ):
        read_config(raw)


@pytest.mark.parametrize(
    ("mechanism", "sentence"),
    [
        ({"causes": ["masks"]}, "mechanism.causes: masks is no intervention of this study"),
        (
            {"causes": ["norm_control"]},
            "mechanism.causes: norm_control is a control, and causes are edits that make a sink",
        ),
        (
            {"position": 11},
            "mechanism.position: mask does not edit position 11 by itself; choose one of its positions, 5, 10, 20, 40",
        ),
        ({"position": 1}, "position is 1, but it is to be later than positions 0 and 1"),
        ({"prompts": ["texts"]}, "mechanism.prompts: texts is no prompt set"),
        (
            {"prompts": ["random_tokens"], "sequences": 65},
            "mechanism.sequences: 65 are more than the 64 of prompt set random_tokens",
        ),
    ],
)
def test_a_mistake_in_what_is_followed_is_one_sentence(mechanism, sentence):
    raw = copy.deepcopy(DEFAULT) | {"mechanism": {"causes": ["mask"]} | mechanism}
    with pytest.raises(SinkoriginError, match=re.escape(sentence)):
        read_config(raw)
