"""A registry that names something twice, or something that is not there, is refused in one sentence at start."""

import pytest

from harness.registries import check_registries
from sinkorigin.errors import SinkoriginError
from tiny_study import ROOT


@pytest.fixture
def library(tmp_path):
    """A library with two variants, and two kinds of intervention in a folder of their own."""
    for file, text in {
        "variants/registry.py": 'VARIANTS = (\n    "softmax",\n    "gated",\n)\n',
        "variants/softmax.py": "VARIANT = 1\n",
        "variants/gated.py": "from sinkorigin.variants.softmax import VARIANT\n",
        "interventions/registry.py": 'KINDS: dict[str, int] = {\n    "mask": 1,\n    "mean_shift": 2,\n}\n',
        "interventions/kinds/mask.py": "class Mask:\n    pass\n",
        "interventions/kinds/mean_shift.py": "class MeanShift:\n    pass\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


def test_registries_whose_names_are_modules_pass(library):
    check_registries(library)
    check_registries(ROOT / "src/sinkorigin")


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("variants/registry.py", '"gated"', '"softmax"', "variants/registry.py, line 3: softmax is registered twice; delete one of its lines"),
        ("interventions/registry.py", '"mean_shift"', '"mask"', "interventions/registry.py, line 3: mask is registered twice; delete one of its lines"),
        ("variants/registry.py", '"gated"', '"gate"', "variants/registry.py, line 3: gate is registered, but there is no module gate.py in {library}/variants or a folder in it; add the module, or delete the line"),
        ("variants/softmax.py", "VARIANT", "Variant", "variants/registry.py, line 2: softmax is registered, but {library}/variants/softmax.py does not define VARIANT; define it"),
        ("interventions/kinds/mean_shift.py", "MeanShift", "Shift", "interventions/registry.py, line 3: mean_shift is registered, but {library}/interventions/kinds/mean_shift.py does not define MeanShift; define it"),
    ],
)  # fmt: skip
def test_a_wrong_registry_is_named_with_its_line(library, file, old, new, sentence):
    text = (library / file).read_text()
    assert old in text
    (library / file).write_text(text.replace(old, new))
    with pytest.raises(SinkoriginError) as refused:
        check_registries(library)
    assert str(refused.value) == f"{library}/{sentence.format(library=library)}"


def test_modules_are_not_imported(library):
    (library / "variants/gated.py").write_text("VARIANT = 1\nraise SystemExit\n")
    check_registries(library)
