"""Write docs/tested.md: which code block of README and documentation is run by which test, or why by none: ``make tested``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from blocks import HOW, Block, blocks

_HEAD = """# Which command is tested

Every code block of [README](../README.md) and of these pages is run by a test or says why not; `make tested` writes this table from
comments above the blocks. *run*: a test takes the block from the page and runs it. *run on the tiny study*: a test gives such a command
for a study of minutes. *planned*: a test asks which jobs such a command would run. *read*: a test reads the block as the config that it
is. All options, targets and files of commands are checked, whether they are run or not (`tests/unit/test_blocks.py`).
"""


def _row(block: Block) -> list[str]:
    line = block.first_line.replace("|", "\\|")
    what = f"`{line if len(line) < 70 else line[:69] + '…'}`"
    return [block.section, what, f"{block.how}: `{block.test}`" if block.how else f"not run: {block.reason}"]


def page() -> str:
    """The page, in Markdown."""
    found = blocks()
    counts = [f"{sum(block.how == how for block in found)} {how}" for how in HOW]
    lines = [
        _HEAD,
        f"Of {len(found)} blocks: {', '.join(counts)}, {sum(block.how is None for block in found)} not run.",
    ]
    for name in dict.fromkeys(block.page for block in found):
        lines += [f"\n## {name}\n", "| section | block begins | |", "|---|---|---|"]
        lines += ["| " + " | ".join(_row(block)) + " |" for block in found if block.page == name]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "tested.md").write_text(page())
