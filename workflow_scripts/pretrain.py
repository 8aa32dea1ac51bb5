"""Train one run with one seed from scratch, and export it as a model like any other."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    import json

    from sinkorigin.pretraining.processes import train_in_processes
    from sinkorigin.pretraining.settings import TrainingSettings, state_key
    from sinkorigin.scratch import remove_states
    from sinkorigin.tables import write_json

    seed = int(snakemake.wildcards.seed)
    tokens, tokenizer = snakemake.input.tokens, snakemake.input.tokenizer
    settings = TrainingSettings(**snakemake.params.run)
    run_directory = Path(snakemake.output.history).parent
    device = snakemake.resources.get("device", "cpu")
    train_in_processes(
        max(1, snakemake.resources.gpu) if device == "cuda" else 1,
        settings,
        seed=seed,
        tokens_directory=Path(tokens).parent,
        tokenizer_directory=Path(tokenizer).parent,
        run_directory=run_directory,
        # beside the outputs, which Snakemake deletes when a job fails: what was trained so far survives
        state_directory=run_directory.parent / f".state-seed={seed}-{state_key(settings, tokens, tokenizer)}",
        threads=snakemake.params.threads,
        device=device,
        # beside the studies: the seeds and variants of one share compiled code, and so do studies
        cache_directory="results/.cache/torch",
    )
    # beside the model, so that figures need not read its directory
    provenance = json.loads(Path(snakemake.output.model_files, "provenance.json").read_text())
    write_json(snakemake.output.provenance, provenance)
    remove_states(run_directory.parent, seed)
