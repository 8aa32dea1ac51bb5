"""Settings that are laid over others are merged key by key, whatever they are."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from harness.config.merging import Layer, _merged, _typed, merge
from tiny_study import ROOT

keys = st.sampled_from(["a", "b", "c", "corpus"])
leaves = st.one_of(st.none(), st.integers(-3, 3), st.text("xyz", max_size=2), st.lists(st.integers(0, 3), max_size=3))
settings_of_a_layer = st.dictionaries(
    keys, st.recursive(leaves, lambda inside: st.dictionaries(keys, inside, max_size=3), max_leaves=8), max_size=4
)


def leaves_of(values, path=()):
    """Path → value of everything that is no dictionary with entries."""
    if not isinstance(values, dict) or not values:
        return {path: values}
    return {place: leaf for key, value in values.items() for place, leaf in leaves_of(value, (*path, key)).items()}


def leads_to(path, other):
    return other[: len(path)] == path


@given(settings_of_a_layer, settings_of_a_layer)
def test_of_what_lies_below_only_what_the_layer_above_replaces_goes(below, above):
    """What stays: leaves below that are at or under no leaf above, and above no leaf above; an empty dictionary replaces what is none."""
    before, over = leaves_of(below) if below else {}, leaves_of(above) if above else {}
    expected = {}
    for path, leaf in before.items():
        covered = [other for other in over if leads_to(other, path) and over[other] != {}]
        hidden = [other for other in over if leads_to(path, other)]
        if not covered and not hidden:
            expected[path] = leaf
    for path, leaf in over.items():
        under = [other for other in before if leads_to(path, other) and len(other) > len(path)]
        if leaf == {} and under:
            continue  # it adds nothing to the dictionary there
        expected[path] = leaf
    found = _merged(below, above)
    assert (leaves_of(found) if found else {}) == expected


@given(settings_of_a_layer, settings_of_a_layer, settings_of_a_layer)
def test_layers_can_be_laid_over_each_other_first_and_twice(first, second, third):
    before = copy.deepcopy((first, second, third))
    assert _merged(_merged(first, second), third) == _merged(first, _merged(second, third))
    assert _merged(_merged(first, second), second) == _merged(first, second)
    assert _merged(first, {}) == first == _merged({}, first) == _merged(first, first)
    assert (first, second, third) == before


@given(st.lists(settings_of_a_layer, min_size=1, max_size=3))
def test_what_a_key_has_is_from_the_layer_that_is_named_as_its_origin(several):
    layers = [Layer(f"{number}.yaml", values) for number, values in enumerate(several)]
    merged = merge(layers[0], layers[1:], ROOT)
    for path, leaf in (leaves_of(merged.values) if merged.values else {}).items():
        name = merged.origin(path)
        [origin] = [layer for layer in layers if layer.name == name]
        here = origin.values
        for key in path:
            here = here[key]
        assert here == leaf or leaf == {}
        later = layers[layers.index(origin) + 1 :]
        assert not any(path in leaves_of(layer.values) for layer in later if layer.values)


@given(st.sampled_from(["x", "y"]), st.sampled_from(["x", "y"]), settings_of_a_layer, settings_of_a_layer)
def test_settings_of_a_corpus_go_with_its_source_but_for_the_split(source, other, below, above):
    below = {"corpus": {**below, "source": source, "validation_share": 0.1, "seed": 3, "members": ["*"]}}
    found = _merged(below, {"corpus": {**above, "source": other}})["corpus"]
    assert (found["source"], found["validation_share"], found["seed"]) == (other, 0.1, 3)
    assert ("members" in found) == (source == other)
    if source != other:
        assert found.keys() == {"source", "validation_share", "seed"} | above.keys()


@given(st.recursive(leaves, lambda inside: st.dictionaries(keys, inside, max_size=3), max_leaves=8))
def test_options_of_the_command_line_that_are_typed_stay_as_they_are(value):
    assert _typed(value) == value
    assert _typed({"a": "3", "b": ["true", "~", "x", "010", ""]}) == {"a": 3, "b": [True, None, "x", "010", ""]}
