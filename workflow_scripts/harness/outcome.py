"""What a run tells of its study when it ends: the findings in ten lines, and where the page is."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from textwrap import wrap

PAGES = ("index.html",)  # in the folder of a study; the first that is there is its page
PAGE_RULE = "make_page"  # what makes it
LEDGER, LEDGER_RULE = "claims.parquet", "judge_claims"  # in the same folder, and what makes it
LINES, WIDTH = 10, 100  # of the findings at the terminal


def outcome(folder: str | Path, *, with_page: bool = True) -> list[str]:
    """Findings and page of the study whose results lie in a folder, as lines; without the page where it may be of an earlier run."""
    found, page = findings_told(Path(folder, LEDGER)), page_of(folder)
    return [
        *([f"What study {Path(folder).name} found:", *found] if found else []),
        *([f"The page of the study: {page}"] if page and with_page else []),
    ]


def page_of(folder: str | Path) -> Path | None:
    """Page of the study whose results lie in a folder; None where there is none."""
    return next((page for name in PAGES if (page := Path(folder, name)).is_file()), None)


def findings_told(ledger: Path) -> list[str]:
    """Findings of a ledger, as lines; none where it is not on this machine, but in a storage."""
    if not ledger.is_file():
        return []
    # here, because they import pyarrow, for which no run should wait as it begins
    from sinkorigin.claims.findings import findings
    from sinkorigin.claims.judging import LEDGER_SCHEMA
    from sinkorigin.tables import read_table

    rows = read_table(ledger)
    if not rows.schema.equals(LEDGER_SCHEMA):  # with --touch, for instance
        return [f"{ledger} is of another version of this project; remove it and run the same command again"]
    return fitted([f"{found.heading}: {found.brief}" for found in findings(rows.to_pylist())])


def fitted(texts: Sequence[str], lines: int = LINES, width: int = WIDTH) -> list[str]:
    """Texts as so many lines at most: of one that is too long for its share of them, the sentences or else words that fit."""
    wrapped = [_wrapped(text, width) for text in texts[:lines]]
    shares = [0] * len(wrapped)
    for _ in range(lines):  # rounds, in each of which the texts that are longer get one line more, the first ones first
        longer = (place for place, own in enumerate(wrapped) if shares[place] < len(own))
        for place in list(islice(longer, lines - sum(shares))):
            shares[place] += 1
    return [line for own, share in zip(wrapped, shares, strict=True) for line in _cut(own, share, width)]


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _cut(text: Sequence[str], lines: int, width: int) -> list[str]:
    """The first lines of a text, which say so where they are not all."""
    if lines >= len(text):
        return list(text)
    fits = " ".join(line[2:] for line in text[:lines])
    whole = fits[: max(fits.rfind(". "), fits.rfind("; ")) + 1]
    return _wrapped(f"{whole or fits.rpartition(' ')[0]} …", width)
