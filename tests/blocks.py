"""The code blocks of README and documentation, and which test runs each.

A comment above a block, which no reader of the page sees, says it:

    <!-- run by tests/unit/test_notebook_doc.py -->
    <!-- not run: it needs a cluster -->

``<!-- all run by … -->`` and ``<!-- none run: … -->`` are about every block from there to the end of the page that has no comment
of its own.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
_MARK = r"<!-- (?:run by (?P<test>\S+)|not run: (?P<reason>[^>]+?)) -->"
_MARK_OF_ALL = r"<!-- (?:all run by (?P<test>\S+)|none run: (?P<reason>[^>]+?)) -->"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: path of the page in the project.
        section: the heading above it.
        language: what follows the fence.
        text: what it holds.
        test: the file of tests, or the test, that runs it.
        reason: why no test runs it.
    """

    page: str
    section: str
    language: str
    text: str
    test: str | None
    reason: str | None


def pages() -> list[str]:
    """Every page that a user reads."""
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "config" / "README.md",
        ROOT / "results" / "README.md",
    ]
    return [path.relative_to(ROOT).as_posix() for path in (*found, *sorted((ROOT / "docs").glob("*.md")))]


@cache
def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    found, section, language, of_all, above = [], "", "", None, None
    inside: list[str] | None = None
    for line in (ROOT / page).read_text().splitlines():
        if inside is not None:
            if line == "```":
                marks = above or of_all
                test, reason = marks.group("test", "reason") if marks else (None, None)
                found.append(Block(page, section, language, "\n".join(inside) + "\n", test, reason))
                inside = above = None
            else:
                inside.append(line)
        elif fence := re.fullmatch(r"```(\w*)", line):
            inside, language = [], fence[1]
        elif heading := re.match(r"#+ (.*)", line):
            section = heading[1]
        elif mark := re.fullmatch(_MARK_OF_ALL, line):
            of_all = mark
        elif line:
            above = re.fullmatch(_MARK, line)
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
