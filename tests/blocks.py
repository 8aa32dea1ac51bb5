"""The code blocks of README and documentation, and which test runs each. A comment above a block, which no reader sees, says it:

    <!-- run by tests/unit/test_notebook_doc.py -->                  the test takes the text of the block from the page and runs it
    <!-- run on the tiny study by tests/workflow/test_plan.py -->    the test gives such a command for the study of the tests
    <!-- planned by tests/workflow/test_one_line.py::test_… -->      the test asks which jobs such a command would run
    <!-- read by tests/unit/test_blocks.py::test_… -->               the test reads the block as the config that it is
    <!-- not run: it needs a cluster -->

``<!-- all run by … -->``, directly below a page's title, is about all of its blocks that have no comment of their own. `make tested`
writes docs/tested.md, the table of all blocks.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from notebook_pages import markdown, pages_of

ROOT = Path(__file__).parents[1]
HOW = ("run", "run on the tiny study", "planned", "read")
_MARK = rf"<!-- (?P<all>all )?(?:(?P<how>{'|'.join(HOW)}) by (?P<test>\S+)|not run: (?P<reason>[^>]+?)) -->"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: path of the page in the project.
        section: the heading above it.
        language: what follows the fence.
        text: what it holds.
        how: what a test does with it, see ``HOW``; None where none does.
        test: the file of tests, or the test, that does.
        reason: why none does.
    """

    page: str
    section: str
    language: str
    text: str
    how: str | None
    test: str | None
    reason: str | None

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0].strip()


def pages() -> list[str]:
    """Every page that a user reads."""
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "config" / "README.md",
        ROOT / "results" / "README.md",
    ]
    return [path.relative_to(ROOT).as_posix() for path in (*found, *sorted(pages_of(ROOT / "docs")))]


@cache
def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    found, section, language, of_all, above = [], "", "", None, None
    inside: list[str] | None = None
    for line in markdown(ROOT / page).splitlines():
        if inside is not None:
            if line == "```":
                mark = above or of_all
                said = mark.group("how", "test", "reason") if mark else (None, None, None)
                found.append(Block(page, section, language, "\n".join(inside) + "\n", *said))
                inside = above = None
            else:
                inside.append(line)
        elif fence := re.fullmatch(r"```(\w*)", line):
            inside, language = [], fence[1]
        elif heading := re.match(r"#+ (.*)", line):
            section = heading[1]
        elif line:
            above = re.fullmatch(_MARK, line)
            if above and above["all"]:
                of_all, above = above, None
    assert inside is None, f"{page}: a fence is left open"
    return found


def blocks() -> list[Block]:
    """The blocks of all pages."""
    return [block for page in pages() for block in blocks_of(page)]


def run_by(test: str) -> list[Block]:
    """The blocks that name a test, or a file of tests: ``tests/unit/test_notebook_doc.py``."""
    found = [block for block in blocks() if block.test == test]
    assert found, f"no block says that {test} runs it"
    return found
