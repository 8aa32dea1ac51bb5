# What a finished study has: the outputs of all its jobs, which `rule all` demands.
#
# Snakemake runs a job whose output is missing only if that output is demanded. With figures and claims alone, a job that failed after
# an edit, and whose outputs Snakemake removed then, would never run again: what was made from its old outputs is still there.


def data_jobs():
    """Rule → the wildcards of each of its jobs, for the rules that make the data of trainings."""
    data = [DATA[name] for name in dict.fromkeys(run.data for run in RUNS.values())]
    texts = [own for own in data if own.kind == "text"]

    def named(chosen):
        return [{"data": own.name} for own in chosen]

    return {
        "fetch_corpus": [] if all(map(own_corpus, data)) else [{}],
        "fetch_own_corpus": named(filter(own_corpus, data)),
        "train_tokenizer": named(own for own in texts if own.tokenizer is None),
        "take_tokenizer": named(own for own in texts if own.tokenizer is not None),
        "tokenize_corpus": named(texts),
        "make_bigram_backcopy": named(own for own in data if own.kind == "bigram_backcopy"),
    }


def study_jobs():
    """Rule → the wildcards of each of its jobs, for all rules but those of the figures and the claims."""
    trainings = [{"run": run.name, "seed": str(seed)} for run, seed in TRAINED.values()]
    studied = [{"model": model, "prompts": prompts} for model, prompts in STUDIED]
    edited = [{"model": model, "prompts": prompts} for (model, prompts), edits in EDITED.items() if edits]
    fetched = [job for job in studied if job["model"] in MODELS]
    starts = {
        (run.data, "first_token" if run.first_token else "no_first_token"): None for run in RUNS.values()
    }
    names = [one.name for one in workflow.rules if one.name.startswith("compute_")]
    statistics = [name for name in names if name != "compute_intervention_effects"]
    jobs = data_jobs()
    if any(PROMPTS[job["prompts"]].kind == "natural_text" for job in fetched):
        jobs["fetch_corpus"] = [{}]
    return jobs | {
        **dict.fromkeys(["fetch_model", "label_model"], [{"model": model} for model in MODELS]),
        "tokenize_prompts": fetched,
        "measure_weights": [{"model": model} for model in dict.fromkeys(model for model, _ in STUDIED)],
        **dict.fromkeys(["extract_activations", *statistics], studied),
        **dict.fromkeys(["measure_baseline", "intervene", "compute_intervention_effects"], edited),
        "draw_data_prompts": [
            {"data": name, "start": start, "prompts": prompts}
            for name, start in starts
            for prompts in STUDY_CONFIG.pretraining.prompts
        ],
        "pretrain": [job for job in trainings if job["run"] not in KEEPING],
        "pretrain_with_checkpoints": [job for job in trainings if job["run"] in KEEPING],
        "measure_training": trainings,
        "summarize_pretraining": [{}] if RUNS else [],
        "compare_pretraining": [{}] if RUNS else [],
    }


def output_files(jobs):
    """Every output file of these jobs; a directory is stood for by its manifest.

    Args:
        jobs: rule → the wildcards of each of its jobs.
    """
    return [
        str(file.apply_wildcards(wildcards))
        for name, own in jobs.items()
        for file in workflow.get_rule(name).output
        if not file.is_directory
        for wildcards in own
    ]


def written_files():
    """Every file that `all` demands, and every file that is there of the sweep of learning rates, with the log of its job."""
    if workflow.storage_settings.default_storage_provider:
        sys.exit(
            "sinkorigin: verify compares the files in results/ on this machine, but the results of this run lie in a storage; "
            "copy results/ from it and run verify without --default-storage-provider"
        )
    plotted = [one for one in workflow.rules if one.name.startswith("plot_")]
    jobs = study_jobs() | {"judge_claims": [{}]} | {one.name: [{}] for one in plotted}
    demanded = {*STUDY_FILES, *rules.judge_claims.output}
    demanded |= {file for file in rules.learning_rates.input if Path(file).is_file()}
    logs = {
        file: str(getattr(rules, name).log[0]).format(**wildcards)
        for name, own in jobs.items()
        for wildcards in own
        for file in output_files({name: [wildcards]})
    }
    return {file: logs.get(file) for file in sorted(map(str, demanded))}


STUDY_FILES = output_files(study_jobs()) + [
    file for figure in FIGURES if figure.when(SEEN) for file in figure.outputs(SEEN)
]

if workflow.is_main_process:  # before Snakemake looks for the files, which ends in a traceback there
    with checks.ending_with_a_sentence():
        checks.check_folders(STUDY_FILES)
