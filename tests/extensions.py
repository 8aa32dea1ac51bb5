"""The worked examples of docs/extending.md, as edits of a checkout."""

import re

from edits import Apply
from tiny_study import ROOT, Project

_STEP = re.compile(
    r"^(New file|One more line in|At the end of) `([^`]+)`[^\n]*\n\n```\w+\n(.*?)```", re.DOTALL | re.MULTILINE
)


def steps(section: str) -> list[tuple[str, str, str]]:
    """What to do, with which file, and the text, of each step in a section of the page."""
    page = (ROOT / "docs" / "extending.md").read_text()
    [text] = [part for part in re.split(r"^## ", page, flags=re.MULTILINE) if part.startswith(f"{section}\n")]
    return _STEP.findall(text)


def extended(*sections: str) -> Apply:
    """Follow the steps of these sections."""

    def apply(study: Project) -> None:
        for section in sections:
            assert steps(section), section
            for what, name, text in steps(section):
                file = study.folder / name
                if what == "New file":
                    assert not file.exists(), name
                    file.write_text(text)
                elif what == "At the end of":
                    file.write_text(file.read_text() + text)
                else:  # the registry is the last thing in its file
                    before = file.read_text()
                    assert before.endswith("\n)\n"), name
                    file.write_text(before.removesuffix(")\n") + text + ")\n")

    return apply
