# Verify: whether what a study holds is as it was written. Nothing of the study depends on it.


def written_files():
    """Every file that `all` demands, and every file that is there of the sweep of learning rates, with the log of its job."""
    if workflow.storage_settings.default_storage_provider:
        sys.exit(
            "sinkorigin: verify compares the files in results/ on this machine, but the results of this run lie in a storage; "
            "copy results/ from it and run verify without --default-storage-provider"
        )
    plotted = [one for one in workflow.rules if one.name.startswith("plot_")]
    jobs = study_jobs() | {"judge_claims": [{}]} | {one.name: [{}] for one in plotted}
    demanded = {*output_files(study_jobs()), *figure_files(), *rules.judge_claims.output}
    demanded |= {file for file in rules.learning_rates.input if Path(file).is_file()}
    logs = {
        file: str(getattr(rules, name).log[0]).format(**wildcards)
        for name, own in jobs.items()
        for wildcards in own
        for file in output_files({name: [wildcards]})
    }
    return {file: logs.get(file) for file in sorted(map(str, demanded))}


rule verify:
    log:
        f"{STUDY}/logs/verify.log",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    threads: 2
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        study=STUDY_CONFIG.study,
        files=lambda wildcards: written_files(),
    message:
        "Verifying the study"
    script:
        "../workflow_scripts/verify.py"
