"""Run one intervention in one model, at every position and strength that is missing, and measure what it does."""

from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.interventions.folders import file_hash, fill, key_of
    from sinkorigin.interventions.points import facts_of, points_of
    from sinkorigin.models import check_model_layers, load_model
    from sinkorigin.prompts import read_token_ids

    entry, name = dict(snakemake.params.edit), snakemake.wildcards.intervention
    check_model_layers(Path(snakemake.input.model).parent, entry["layers"] or [0], f"interventions.{name}.layers")
    tables = {key: str(path) for key, path in snakemake.input.items() if key not in ("model", "prompts")}
    facts = facts_of(entry, name, **tables)
    groups = {f"strength={strength:g}": points_of(entry, strength, facts) for strength in entry["strengths"]}
    common = [
        snakemake.params.code, file_hash(snakemake.input.model), file_hash(snakemake.input.prompts),
        snakemake.params.sequences, entry["calibration"], snakemake.params.losses, snakemake.params.batch,
        snakemake.params.dtype,
    ]  # fmt: skip
    keys = {group: key_of(points, name, *common) for group, points in groups.items()}

    def run(folders):
        from sinkorigin.architecture import read_architecture
        from sinkorigin.interventions.sweep import sweep

        model = load_model(
            Path(snakemake.input.model).parent,
            device=snakemake.resources.device,
            dtype=snakemake.params.dtype,
            threads=snakemake.threads,
            trust_remote_code=snakemake.params.trust_remote_code,
        )
        token_ids = read_token_ids(snakemake.input.prompts)
        sweep(
            read_architecture(model, snakemake.wildcards.model),
            token_ids[: snakemake.params.sequences],
            folders,
            model=snakemake.wildcards.model,
            intervention=name,
            batch=snakemake.params.batch,
            losses=snakemake.params.losses,
            calibration=token_ids[-entry["calibration"] :] if entry["calibration"] else None,
        )

    made = fill(Path(snakemake.output[0]).parent, groups, keys, run)
    print(f"made {', '.join(made) or 'nothing'} of {', '.join(groups)}")
