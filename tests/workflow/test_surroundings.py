"""What is installed or set around a run does not change what its jobs do."""

import os


def test_jobs_run_this_checkouts_library_and_draw_without_a_screen(study, monkeypatch):
    other = study.folder.parent / "other/sinkorigin"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the library of another checkout')\n")
    path = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(other.parent), path])))
    monkeypatch.setenv("MPLBACKEND", "module://a_notebooks.backend")  # of a package that is not there
    made = [study.results / name for name in ("figures/variance_by_position.svg", "claims.parquet")]
    before = [file.read_bytes() for file in made]
    for file in made:
        file.unlink()
    study.run_by_command(*(file.relative_to(study.folder) for file in made))
    assert [file.read_bytes() for file in made] == before
    log = (study.results / "logs/plot_variance_by_position.log").read_text()
    assert log.startswith("code in workflow_scripts, version ")
