"""Train one run with one setting of the sweep; only its history is kept, also of a training that diverges."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.errors import DivergedError
    from sinkorigin.pretraining.loop import train
    from sinkorigin.pretraining.settings import TrainingSettings, state_key
    from sinkorigin.scratch import remove_states, scratch_folder
    from sinkorigin.statistics.learning_rates import HISTORY_SCHEMA, diverged_history, swept_history
    from sinkorigin.tables import write_table

    seed = int(snakemake.wildcards.seed)
    tokens, tokenizer = snakemake.input.tokens, snakemake.input.tokenizer
    settings = TrainingSettings(**snakemake.params.run)
    option = snakemake.params.option
    tried = {"peak": settings.learning_rate, "option": option, "value": settings.options.get(option)}
    folder = Path(snakemake.output[0]).parent
    folder.mkdir(parents=True, exist_ok=True)
    state = folder.parent / f".state-seed={seed}-{state_key(settings, tokens, tokenizer)}"
    with scratch_folder(folder.with_name(f".run-{folder.name}")) as run_directory:
        try:
            train(
                settings,
                seed=seed,
                tokens_directory=Path(tokens).parent,
                tokenizer_directory=Path(tokenizer).parent,
                run_directory=run_directory,
                state_directory=state,
                threads=snakemake.params.threads,
                device=snakemake.resources.get("device", "cpu"),
                cache_directory="results/.cache/torch",
            )
            history = swept_history(run_directory / "history.parquet", **tried)
        except DivergedError as error:
            print(error)
            history = diverged_history(str(error), run=settings.name, variant=settings.variant, seed=seed, **tried)
        write_table(snakemake.output[0], history, HISTORY_SCHEMA)
    remove_states(folder.parent, seed)  # that of a training that diverged too: it would do so again
