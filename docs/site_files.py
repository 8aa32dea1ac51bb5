"""Hooks of mkdocs: files of the project that pages link are part of the site, below ``project/``, and links lead there. A notebook is a page.

So a page has the same links in the repository, where an editor or a code host follows them, and in the site, which needs no
address of a repository.
"""

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))

from notebook_pages import markdown, pages_of, source_of, with_outputs

_LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")
ALSO = ("CHANGELOG.md", "CONTRIBUTING.md", "results/README.md")  # of the navigation


def _place(path: Path) -> str:
    """Place of a file of the project in the site. Names that begin with a dot would be left out of it."""
    if path.is_relative_to(DOCS):
        page = path.with_suffix(".md") if path.suffix == ".ipynb" else path
        return page.relative_to(DOCS).as_posix()
    return "/".join(["project", *(part.lstrip(".") for part in path.relative_to(ROOT).parts)])


def _source(place: str) -> Path:
    """File of the project that a page of the site was made from."""
    return ROOT / place.removeprefix("project/") if place.startswith("project/") else source_of(DOCS / place)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link outside of ``docs``, and what pages among that link."""
    for notebook in DOCS.glob("*.ipynb"):
        page, figures = with_outputs(notebook)
        for name, content in [(_place(notebook), page), *figures.items()]:
            files.append(File.generated(config, name, content=content))
    waiting = [*pages_of(DOCS), *(ROOT / name for name in ALSO)]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        place = _place(path)
        if place.startswith("project/"):
            files.append(File.generated(config, place, abs_src_path=str(path)))
        if path.suffix in (".md", ".ipynb"):
            targets = (Path(os.path.normpath(path.parent / target)) for _, target in _LINK.findall(markdown(path)))
            waiting += [target for target in targets if target.is_file()]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to where the files are in the site; mkdocs says which are not there."""
    source = _source(page.file.src_uri)

    def moved(link: re.Match) -> str:
        target = Path(os.path.normpath(source.parent / link[2]))
        if not target.is_relative_to(ROOT):
            return link[0]
        return link[1] + os.path.relpath(_place(target), start=os.path.dirname(page.file.src_uri) or ".")

    return _LINK.sub(moved, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Put the pages' sources beside them: llms.txt lists these, for readers that want no HTML."""
    site = Path(config.site_dir)
    for path in [*pages_of(DOCS), *(ROOT / name for name in ALSO)]:
        (site / _place(path)).write_text(markdown(path))
    listed = (DOCS / "llms.txt").read_text().replace("](../", "](project/")
    (site / "llms.txt").write_text(re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", listed))
