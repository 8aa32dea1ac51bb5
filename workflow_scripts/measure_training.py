"""Sink, disparity, norms and rank of every kept checkpoint of one training, and of its final model."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.corpora.prompts import read_token_ids
    from sinkorigin.models.loading import load_model
    from sinkorigin.pretraining.layer_statistics import layer_statistics
    from sinkorigin.sites.architecture import read_architecture
    from sinkorigin.statistics.training import SCHEMA, training_table
    from sinkorigin.tables import checked_directory, write_table

    run = snakemake.params.run
    directories = {}
    if run["keep"]:
        kept = checked_directory(Path(snakemake.input.checkpoints).parent)
        directories = {step: kept / f"step={step}" for step in run["keep"]}
    directories[run["steps"]] = Path(snakemake.input.model).parent
    token_ids = {Path(path).stem: read_token_ids(path) for path in snakemake.input.prompts}
    seed = int(snakemake.wildcards.seed)

    def measured():
        for step, directory in directories.items():
            model = load_model(
                directory,
                device=snakemake.resources.device,
                dtype=snakemake.params.dtype,
                threads=snakemake.threads,
            )
            name = f"{run['name']}-seed{seed}, step {step}"
            architecture = read_architecture(model, name)
            for prompts, ids in token_ids.items():
                print(f"{name} on {prompts}")
                yield (
                    step,
                    prompts,
                    layer_statistics(
                        architecture,
                        ids,
                        model=name,
                        batch=snakemake.params.batch,
                        epsilons=snakemake.params.epsilons,
                    ),
                )

    table = training_table(
        measured(),
        run=run["name"],
        variant=run["variant"],
        seed=seed,
        step_tokens=run["batch"] * run["length"],
    )
    write_table(snakemake.output[0], table, SCHEMA)
