"""The page of a study, from the tables of its claims, its figures, and what the logs of its jobs record."""

from harness.job import job

with job(snakemake):
    from harness.run_record import read_run_record
    from harness.verification import verify_figures
    from sinkorigin.page.assembly import page_of_study
    from sinkorigin.tables import write_text

    params = snakemake.params
    files = {
        name: [paths] if isinstance(paths, str) else list(paths)
        for name, paths in snakemake.input.items()
        if name != "baseline" and not name.endswith("_files")
    }
    verify_figures(files["figures"], {rule: jobs[0][0] for rule, jobs in params.logs.items()})
    page = page_of_study(files, dict(params.items()), read_run_record(params.logs))
    write_text(snakemake.output[0], page)
    print(f"{len(page.encode()) / 2**20:.2f} MiB")
