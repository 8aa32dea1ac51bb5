"""The documentation is whole: pages made from code are as the code says, the navigation has every page, and every link leads somewhere."""

import html
import importlib
import os
import re
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from blocks import pages
from harness.table_catalogue import described, tables
from notebook_pages import markdown, pages_of
from tiny_study import ROOT

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def test_the_page_of_the_tables_is_as_the_schemas_say():
    from harness.table_catalogue import page

    written = (ROOT / "docs/tables.md").read_text()
    assert written == page((ROOT / "results/README.md").read_text()), "run make tables"
    columns = sum(len(schema) for schema in tables().values())
    assert len(re.findall(r"^\| `\w+` \| ", written, re.MULTILINE)) == columns > 1000


def test_the_page_of_the_settings_is_as_the_config_says():
    from harness.config.document import page
    from harness.config.reading import json_schema

    schema = yaml.safe_load(json_schema())
    standard = (ROOT / "workflow_scripts/harness/config/standard.yaml").read_text()
    written = (ROOT / "docs/config.md").read_text()
    assert written == page(schema, standard), "run make config"
    keys = [*schema["properties"], *(key for one in schema["$defs"].values() for key in one["properties"])]
    assert len(re.findall(r"^\| `\w+` \| ", written, re.MULTILINE)) == len(keys) > 100


def test_the_map_for_language_models_is_as_the_navigation_says():
    assert (ROOT / "docs/llms.txt").read_text() == importlib.import_module("update_llms").text(), "run make llms"
    assert [line for line in (ROOT / "docs/llms.txt").read_text().splitlines() if line.endswith(": ")] == []


def test_every_table_that_a_rule_makes_is_in_the_map_of_the_results_and_in_the_page_of_the_tables():
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    made = {place.replace("{{", "{").replace("}}", "}") for place in re.findall(r'\{STUDY\}/([^"]*\.parquet)', rules)}
    # the tables of a first look are those of the statistics; what lies in a directory that a rule makes has no pattern of its own
    made -= {"first_look/{model}/{prompts}/{table}.parquet", "{name}.parquet"}
    assert len(made) > 70 and made <= tables().keys()
    assert tables().keys() == described((ROOT / "results/README.md").read_text()).keys()


def navigation(nav) -> list[str]:
    entries = [page for entry in nav for page in entry.values()]
    return [page for entry in entries for page in ([entry] if isinstance(entry, str) else navigation(entry))]


def test_the_navigation_has_every_page_once():
    listed = navigation(SITE["nav"])
    in_docs = [path.with_suffix(".md").name for path in pages_of(ROOT / "docs")]
    assert sorted(page for page in listed if not page.startswith("project/")) == sorted(in_docs)
    assert all((ROOT / page.removeprefix("project/")).is_file() for page in listed if page.startswith("project/"))


def without_code(markdown: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE))


@cache
def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings on which a code host and the site agree: GitHub's rule, and that of Python-Markdown."""
    code = re.sub(r"^```.*?^```$", "", markdown(page), flags=re.DOTALL | re.MULTILINE)
    headings = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", text) for text in re.findall(r"^#+ (.*)$", code, re.MULTILINE)]
    hosts = [re.sub(r"[^\w -]", "", text).strip().lower().replace(" ", "-") for text in headings]
    ascii_ = [unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() for text in headings]
    sites = [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower()) for text in ascii_]
    return {one for one, other in zip(hosts, sites, strict=True) if one == other and hosts.count(one) == 1}


@pytest.mark.parametrize("name", [*pages(), "CHANGELOG.md", "docs/llms.txt"])
def test_every_link_leads_to_a_file_and_a_heading(name):
    path = ROOT / name
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", without_code(markdown(path))):
        if re.match(r"https?:", target):
            continue
        page = Path(os.path.normpath(path.parent / target)) if target else path
        assert page.is_file() and page.is_relative_to(ROOT), (name, target)
        if anchor:
            assert anchor in anchors(page), (name, target, anchor)


def broken_links(site: Path) -> list[tuple[str, str]]:
    """(page, target) of each link and figure in built pages that leads to no file of the site, or to no place in it."""
    pages = [
        page for page in site.rglob("*.html") if page.name != "404.html"
    ]  # whose links begin at the root of a server
    places = {page: {*re.findall(r'\sid="?([^"\s>]+)', page.read_text())} for page in pages}
    broken = []
    for page in pages:
        for link in re.findall(r'\s(?:href|src)="?([^"\s>]+)', page.read_text()):
            path, _, anchor = unquote(html.unescape(link)).partition("#")
            target = Path(os.path.normpath(page.parent / path)) if path else page
            if not re.match(r"\w+:", link) and not (target.is_file() and (not anchor or anchor in places[target])):
                broken.append((page.relative_to(site).as_posix(), link))
    return broken


def test_the_site_builds_and_asks_for_nothing_outside_of_it(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed (make docs installs it)")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert broken_links(tmp_path) == []
    built = list(tmp_path.rglob("*.html"))
    assert len(built) >= len(navigation(SITE["nav"]))
    for page in built:
        tags = re.findall(r"<(?:script|link|img|iframe|source)[^>]*>", page.read_text())
        assert tags and [tag for tag in tags if re.search(r'(?:src|href)="?(?:https?:)?//', tag)] == [], page
    assert "(project/results/README.md)" in (tmp_path / "llms.txt").read_text()
    listed = re.findall(r"\]\(([^)]+)\)", (tmp_path / "llms.txt").read_text())
    assert len(listed) > 20 and all((tmp_path / place).is_file() for place in listed)


def test_readme_and_the_page_of_results_are_as_the_tables_of_the_default_study_say():
    update = importlib.import_module("update_readme")
    for name, written in (("README.md", update.readme), ("docs/found.md", update.found)):
        text = (ROOT / name).read_text()
        assert written(text) == text, "run make readme"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
