"""What strangers and their tools look for in a repository: licence, citation, changelog, catalogue, checks. It agrees with itself."""

import re
import subprocess
import tomllib

import pytest
import yaml

from harness.code_version import Code
from harness.figures import FIGURES
from harness.page import chart_modules
from harness.shared_directives import _ENVIRONMENTS
from sinkorigin.statistics.registry import STATISTICS
from tiny_study import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
MAKEFILE = (ROOT / "Makefile").read_text()
CONDA = sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))


def read(name: str):
    return yaml.safe_load((ROOT / name).read_text())


def test_version_and_licence_are_the_same_wherever_they_stand():
    citation = read("CITATION.cff")
    [changes, *_] = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] == citation["version"] == changes
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text and len(text.split()) > 1500


def test_the_citation_names_the_paper_and_invents_nobody():
    citation = read("CITATION.cff")
    assert {"cff-version", "message", "title", "authors", "type"} <= citation.keys()
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    [paper] = citation["references"]
    page = " ".join((ROOT / "docs/paper.md").read_text().split())
    assert f'"{paper["title"]}" ({", ".join(author["family-names"] for author in paper["authors"])};' in page
    assert paper["url"] in page and "doi" not in citation


def test_the_workflow_catalogue_finds_what_it_looks_for():
    """https://github.com/snakemake/snakemake-workflow-catalog, "standardized usage"."""
    assert (ROOT / "workflow/Snakefile").is_file() and (ROOT / "config/README.md").is_file()
    assert {"snakemake", "workflow"} <= set(re.findall(r"\w+", (ROOT / "README.md").read_text().lower()))
    usage = read(".snakemake-workflow-catalog.yml")["usage"]
    assert usage["mandatory-flags"].keys() == {"desc", "flags"} and usage["report"] is True
    assert usage["software-stack-deployment"].keys() == {"conda", "apptainer", "apptainer+conda", "report"}


def test_a_commit_runs_the_checks_of_make_lint_and_github_what_the_makefile_has():
    hooks = [hook["entry"] for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert hooks == ["make lint"]
    steps = {
        name: [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
        for name, workflow in WORKFLOWS.items()
    }
    assert {"lint", "test", "docs"} == steps.keys()
    for name, commands in steps.items():
        assert f"make {name}" in commands
        targets = {target for command in commands for target in re.findall(r"^make (\S+)$", command, re.MULTILINE)}
        assert targets <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert any("snakemake --cores all --directory .test --snakefile workflow/Snakefile" in run for run in steps["test"])


def test_every_python_of_checks_and_environments_is_the_oldest_that_is_supported():
    [oldest] = re.findall(r">=(3\.\d+)", PROJECT["requires-python"])
    used = [
        step["with"]["python-version"]
        for workflow in WORKFLOWS.values()
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "setup-python" in step.get("uses", "")
    ]
    conda = [read(f"envs/{name}.yaml")["dependencies"][0] for name in CONDA]
    assert set(used) == {oldest} and set(conda) == {f"python={oldest}"}
    assert f"FROM python:{oldest}-" in (ROOT / "Dockerfile").read_text()


# script → what it loads by name; and what its code can import and its jobs do not
BY_NAME = {
    "compute.py": [f"sinkorigin.statistics.{name}" for name in STATISTICS],
    "plot.py": [f"sinkorigin.figures.{figure.name}" for figure in FIGURES],
    "make_page.py": chart_modules(),
}
MODULES = {"Jinja2": "jinja2", "vl_convert_python": "vl_convert"}  # package → module, where they differ
NOT_IN_JOBS = {"compute.py": {"transformers"}}  # of the module that reads prompts, for those who tokenize them
# of Python packages that others bring: urllib3 with requests, triton with PyTorch where that can use it
BROUGHT = {"urllib3", "triton"}


@pytest.mark.parametrize("name", CONDA)
def test_a_conda_environment_has_its_name_and_all_that_its_scripts_import(name):
    environment = read(f"envs/{name}.yaml")
    assert environment["name"] == f"sinkorigin-{name}" and environment["channels"] == ["conda-forge", "nodefaults"]
    [pins] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    held = {MODULES.get(package, package) for pin in pins for package in [pin.split("==")[0].replace("-", "_")]}
    code = Code(ROOT, ROOT / "requirements.lock")
    declared = {
        re.split(r"[<>=\[]", line)[0]
        for line in [*PROJECT["dependencies"], "matplotlib", "seaborn", "altair", "jinja2", "vl_convert"]
    }
    # what scripts import by way of the harness
    of_workflow = {re.split(r"[<>=\[]", line)[0] for line in PROJECT["optional-dependencies"]["workflow"]}
    scripts = [path.name for path in (ROOT / "workflow_scripts").glob("*.py")]
    for script in [one for one in scripts if _ENVIRONMENTS.get(one, "models") == name]:
        files = code.closure(script, *BY_NAME.get(script, []))
        imported = {module.split(".")[0] for path in files for module in code.parsed(path)[1]}
        needed = imported & declared - NOT_IN_JOBS.get(script, set()) - BROUGHT
        assert needed <= held, (script, needed - held)
    assert held <= {name.replace("-", "_") for name in declared | of_workflow}


@pytest.mark.parametrize(("group", "lock"), [("docs", "docs/requirements.lock"), ("tutorial", "docs/tutorial.lock")])
def test_site_and_tutorial_have_pins_of_their_own_that_the_environment_has_not(group, lock):
    """Tests, studies and the image need none of them."""
    locks = [(ROOT / name).read_text().splitlines() for name in ("requirements.lock", lock)]
    pinned, of_group = (
        {line.split("==")[0].lower().replace("_", "-") for line in lock if "==" in line} for lock in locks
    )
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][group]
    assert of_group.issuperset(wanted) and not pinned & of_group


def test_git_holds_no_results_and_the_archive_no_secrets():
    """What a run leaves is ignored, in the project's folder and in that of its test study."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout of git")
    left = ["results/default/index.html", ".test/results/test/index.html", ".test/.snakemake/log", "site/index.html"]
    done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == left
