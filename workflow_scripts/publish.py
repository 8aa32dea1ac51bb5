"""Make a folder of a finished study that can be uploaded: its tables and figures, a Provenance Run Crate, cards, records, a checklist."""

from harness.job import job

with job(snakemake):
    from pathlib import Path

    from harness.publish.crate import Rule
    from harness.publish.description import describe
    from harness.publish.folder import write_folder
    from harness.publish.record import read_record
    from harness.verification import verify_study
    from sinkorigin.errors import SinkoriginError
    from sinkorigin.tables import written_whole

    told, root = snakemake.params, Path(snakemake.params.root)
    published = Path(snakemake.output[0]).parent
    # the seals of tables were verified before; figures and pages have their hashes in the logs
    if wrong := verify_study(told.files, snakemake.threads):
        more = f" ({len(wrong) - 1} more files are wrong; snakemake verify lists them)" if len(wrong) > 1 else ""
        raise SinkoriginError(f"{wrong[0]}{more}")
    inputs = {name: rule["inputs"] for name, rule in told.rules.items()}
    record = read_record(told.files, inputs, snakemake.threads)
    study = describe(
        published.parent, root, record, config=told.config, models=told.models, provenances=told.provenances
    )
    with written_whole(published) as folder:
        folder.mkdir()
        write_folder(
            folder,
            root,
            study,
            record,
            settings=told.settings,
            rules={name: Rule(rule["script"], rule["description"]) for name, rule in told.rules.items()},
            engine=told.engine,
        )
    print(f"{published} has the study as it can be published; docs/publishing.md says how.")
    if not told.config["publish"]["creators"]:
        print("publish.creators is empty: Zenodo will ask who publishes it.")
