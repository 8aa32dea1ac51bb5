"""What is installed or set around a run does not change what its jobs do."""

import os


def test_jobs_run_this_checkouts_library_and_draw_without_a_screen(study, monkeypatch):
    other = study.folder.parent / "other/sinkorigin"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the library of another checkout')\n")
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(other.parent), before])))
    monkeypatch.setenv("MPLBACKEND", "module://a_notebooks.backend")  # of a package that is not there
    figure = study.results / "figures/variance_by_position.svg"
    drawn = figure.read_bytes()
    figure.unlink()
    study.run_by_command(figure.relative_to(study.folder))
    assert figure.read_bytes() == drawn
    log = (study.results / "logs/plot_variance_by_position.log").read_text()
    assert log.startswith("code in workflow_scripts, version ")
