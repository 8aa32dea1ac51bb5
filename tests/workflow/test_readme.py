"""The README's commands are real: its make targets, its snakemake lines and its notebook lines."""

import re
import subprocess
import tomllib

import yaml

from tiny_study import ROOT

README = (ROOT / "README.md").read_text()


def shell_lines():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_make_reproduce_and_make_test_run_what_the_readme_says():
    lines = shell_lines()
    assert "make reproduce" in lines and "make test" in lines
    plan = {target: dry_make(target) for target in ("reproduce", "first-look", "test")}
    assert "reproduce.py --cores all" in plan["reproduce"]
    assert "reproduce.py --cores all first_look" in plan["first-look"]
    assert "-m pytest" in plan["test"]
    assert all("pip install" in said and "requirements.lock" in said for said in plan.values())


def dry_make(target):
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_ci_calls_the_test_command():
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_command_for_your_model_plans_a_study(fresh, tmp_path):
    assert "snakemake --cores all --configfile mine.yaml" in shell_lines()
    project = fresh.copy(tmp_path / "project")
    (project.folder / "tiny.yaml").rename(project.folder / "mine.yaml")
    done = subprocess.run(
        ["snakemake", "--cores", "all", "--configfile", "mine.yaml", "--dry-run"],
        cwd=project.folder, env=project.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_plain_snakemake_plans_the_embedded_study(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    done = subprocess.run(
        ["snakemake", "--cores", "all", "--dry-run"],
        cwd=project.folder, env=project.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pretrain" in done.stdout + done.stderr


def test_every_page_and_file_that_the_readme_links_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_every_path_that_the_readme_names_is_there():
    """Paths in backticks that have a folder; `interventions/registry.py` is below the library."""
    paths = re.findall(r"`([\w.]+/[\w./]*)`", README)
    assert len(paths) >= 10
    for path in paths:
        if not path.startswith("results/"):
            assert (ROOT / path).exists() or (ROOT / "src" / "sinkorigin" / path).exists(), path


def test_conda_environments_have_the_pins_of_the_lock():
    lock = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    lock = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    for path in (ROOT / "envs").glob("*.yaml"):
        pip = next(
            entry["pip"] for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, dict)
        )
        for pin in pip:
            name, _, version = pin.partition("==")
            assert lock[name.lower().replace("_", "-")] == version, (path.name, pin)


def test_every_direct_dependency_is_in_the_lock():
    names = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "requirements.lock").read_text().splitlines()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *extras["figures"],
        *extras["page"],
        *extras["workflow"],
        *project["dependency-groups"]["test"],
    ]
    for requirement in set(wanted) - {"sinkorigin[figures]", "sinkorigin[page]"}:
        name = re.split(r"[<>=!~ ]", requirement)[0].lower().replace("_", "-")
        assert name in names, requirement
