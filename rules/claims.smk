# Claims: every claim of the paper that the study tests, as a predicate over the tables.


rule judge_claims:
    input:
        tables=[
            table
            for name in (
                "variance",
                "variance_trend",
                "norm_ratio",
                "norm_surge",
                "disparity_by_layer",
                "sink_mass",
                "sink_rate",
                "sink_onset",
                "norm_changes",
                "sink_changes",
                "variance_through_output",
                "super_neurons",
                "massive_activations",
                "key_collapse",
                "alignment_correlation",
                "secondary_sinks",
                "secondary_sinks_by_layer",
                "effective_rank_mean",
            )
            for table in per_model(name)
        ],
        interventions=(
            per_model("interventions", [pair for pair in STUDIED if EDITED[pair]])
            if any(EDITED.values())
            else []
        ),
        # paths, not rules.compare_pretraining.output: with that, Snakemake's time grows with the square of `tables`
        by_seed=f"{STUDY}/statistics/pretraining_by_seed.parquet" if RUNS else [],
        comparison=f"{STUDY}/statistics/pretraining_comparison.parquet" if RUNS else [],
        provenance=provenance_of([*MODELS, *STUDY_CONFIG.studied]),  # in the order of params.models
    output:
        table=f"{STUDY}/claims.parquet",
        page=report(
            f"{STUDY}/claims.html",
            caption="../captions/claims.rst",
            category="Claims",
            labels={"table": "claims"},
        ),
    params:
        models=judged_models(),
        prompts=list(PROMPTS),
        interventions=[edit.model_dump() for edit in INTERVENTIONS.values()],
        code=code("judge_claims.py", *kind_modules(INTERVENTIONS.values())),
    message:
        "Judging the claims"
    script:
        "../workflow_scripts/judge_claims.py"
