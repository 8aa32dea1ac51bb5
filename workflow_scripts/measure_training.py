"""Sink, disparity, norms and rank of every kept checkpoint of all trainings of one run, and of their final models."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.corpora.prompts import read_token_ids
    from sinkorigin.models.loading import load_model
    from sinkorigin.pretraining.layer_statistics import SITES, layer_statistics
    from sinkorigin.sites.architecture import read_architecture
    from sinkorigin.statistics.training import SCHEMA, training_table
    from sinkorigin.tables import atomic_directory, checked_directory, write_table

    run = snakemake.params.run
    over_training, first_tokens = snakemake.params.over_training, snakemake.params.first_tokens
    token_ids = {Path(path).stem: read_token_ids(path) for path in snakemake.input.prompts}
    models = [Path(path).parent for path in snakemake.input.model]
    kept = [Path(path).parent for path in snakemake.input.get("checkpoints", [])]

    def measured(number, seed):
        """Step, prompt set and statistics of each checkpoint of one training; further prompts are read by the final model only."""
        checkpoints = checked_directory(kept[number]) if kept else None
        directories = {step: checkpoints / f"step={step}" for step in run["keep"]} | {run["steps"]: models[number]}
        for step, directory in directories.items():
            model = load_model(
                directory, device=snakemake.resources.device, dtype=snakemake.params.dtype, threads=snakemake.threads
            )
            name = f"{run['name']}-seed{seed}, step {step}"
            architecture = read_architecture(model, name, SITES)
            for prompts, ids in token_ids.items():
                if step < run["steps"] and prompts not in over_training:
                    continue
                print(f"{name} on {prompts}")
                found = layer_statistics(
                    architecture, ids, model=name, batch=snakemake.params.batch, epsilons=snakemake.params.epsilons
                )
                yield step, prompts, found

    with atomic_directory(snakemake.output.files) as folder:
        for number, seed in enumerate(run["seeds"]):
            facts = {"run": run["name"], "variant": run["variant"], "seed": seed, "first_tokens": first_tokens}
            table = training_table(measured(number, seed), **facts, step_tokens=run["batch"] * run["length"])
            write_table(folder / f"seed={seed}.parquet", table, SCHEMA)
