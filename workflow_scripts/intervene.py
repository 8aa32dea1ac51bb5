"""Run the interventions that one model allows, at every position and strength that is missing, and measure what they do.

A folder of tables is made again where its edits changed, or ``params.kinds[kind]``, the version of the code that makes it: that
of its kind, and what all kinds share. What the first look made, or a first look finds made, is taken over.
"""

import os
import shutil
from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.corpora.prompts import read_token_ids
    from sinkorigin.interventions.entries import applicable, edits_of, table_facts
    from sinkorigin.interventions.folders import fill, key_of
    from sinkorigin.models.loading import load_model
    from sinkorigin.tables import LIST, file_hash, read_table, write_manifest

    params = snakemake.params
    made_so_far = Path(snakemake.output.files).with_name(".edited")
    entries = applicable(params.edits, read_table(snakemake.input.resolved).to_pylist())
    edits = {}
    for name, entry in entries.items():
        facts = table_facts(entry, snakemake.input)
        edits[name] = {f"strength={strength:g}": edits_of(entry, strength, facts) for strength in entry["strengths"]}
    hashes = file_hash(snakemake.input.model), file_hash(snakemake.input.prompts)
    common = [*hashes, params.sequences, params.losses, params.batch, params.dtype]
    keys = {
        name: {
            strength: key_of(some, name, entries[name]["calibration"], params.kinds[entries[name]["kind"]], *common)
            for strength, some in by_strength.items()
        }
        for name, by_strength in edits.items()
    }

    def run(folders, making):
        from sinkorigin.interventions.sweep import Sweep, run_sweeps
        from sinkorigin.scratch import scratch_folder
        from sinkorigin.sites.architecture import read_architecture

        model = load_model(
            Path(snakemake.input.model).parent,
            device=snakemake.resources.device,
            dtype=params.dtype,
            threads=snakemake.threads,
            trust_remote_code=params.trust_remote_code,
            gpus=snakemake.resources.gpu,
        )
        sweeps = {
            folder: Sweep(name, edits[name][folder.name], entries[name]["calibration"])
            for folder in folders
            for name in [folder.parent.name]
        }
        # beside the tables, not in /tmp, which may be memory
        with scratch_folder(made_so_far.with_name(".unedited")) as scratch:
            run_sweeps(
                read_architecture(model, snakemake.wildcards.model),
                read_token_ids(snakemake.input.prompts),
                sweeps,
                sequences=params.sequences,
                model=snakemake.wildcards.model,
                batch=params.batch,
                losses=params.losses,
                workers=1 if snakemake.resources.device == "mps" else snakemake.threads,
                scratch=scratch,
                folder_of=making,
            )

    made = fill(made_so_far, keys, run, made_elsewhere=params.made_elsewhere)
    # links: Snakemake empties the output before each job, and folders that were made before are kept
    shutil.copytree(made_so_far, snakemake.output.files, copy_function=os.link, dirs_exist_ok=True)
    # the tables alone: what else is there holds the version of the code, of which they are to be independent
    write_manifest(Path(snakemake.output.files), snakemake.threads, name=LIST, pattern="*.parquet")
    print(
        f"made {', '.join(made) or 'nothing'} of {', '.join(f'{name}/{group}' for name in keys for group in keys[name])}"
    )
