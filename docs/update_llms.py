"""Write docs/llms.txt, the map of the documentation for language models (https://llmstxt.org), from mkdocs.yml: ``make llms``."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))

from notebook_pages import markdown, source_of


def first_paragraph(markdown: str) -> str:
    """The first paragraph of a page's prose, without links and marks."""
    prose = re.sub(r"^```.*?^```$|<!--.*?-->", "", markdown, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^[#|>!].*$", "", prose, flags=re.MULTILINE)
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(prose.strip().split("\n\n")[0].split()))


def first_sentence(markdown: str) -> str:
    """The first sentence of it."""
    return re.split(r"(?<=[.?])\s+(?=[A-Z`])", first_paragraph(markdown))[0].rstrip(":")


def entries(nav: list) -> Iterator[tuple[str, str]]:
    """Title and page of the navigation's entries."""
    for entry in nav:
        for title, page in entry.items():
            if isinstance(page, str):
                yield title, page
            else:
                yield from entries(page)


def listed(title: str, page: str) -> str:
    """Line of one page. A file that is not in docs lies in ``project/`` of the site, see site_files.py."""
    source = source_of(ROOT / "docs" / page.replace("project/", "../"))
    place = os.path.relpath(source, ROOT / "docs")
    return f"- [{title}]({place}): {first_sentence(markdown(source))}"


def text() -> str:
    """The file."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    single = [entry for entry in site["nav"] if isinstance(next(iter(entry.values())), str)]
    sections = [("Use it", single), *((title, pages) for entry in site["nav"] for title, pages in entry.items())]
    start = (ROOT / "docs" / "index.md").read_text()
    parts = [f"# {site['site_name']}", f"> {site['site_description']}", first_paragraph(start)]
    for title, pages in sections:
        if isinstance(pages, list):
            parts.append("\n".join([f"## {title}\n", *(listed(*entry) for entry in entries(pages))]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "llms.txt").write_text(text())
