# Claims: the primary claims of the paper, judged by the tables.


from harness.config.interventions import kind_modules


rule judge_claims:
    """Judge every claim: the ledger, its settings and checks, and other accounts."""
    input:
        **{
            name: study.tables(name)
            for name in (
                "variance_trend",
                "norm_changes",
                "sink_mass",
                "sink_changes",
                "first_position_sinks",
                "variance_through_output",
                "variance_through_output_mean",
                "super_neuron_surge",
                "key_collapse",
                "aligned_heads",
                "value_drain_and_sink",
                "entropy_valley",
                "matrix_entropy",
                "super_weight",
            )
        },
        **{
            name: study.tables(name, study.edits)
            for name in (
                "interventions",
                "intervention_contrasts",
                "conversions",
                "curve_contrasts",
            )
        },
        **{name: study.tables(name, study.followed) for name in ("mediation", "removals")},
        provenance=study.provenances(study.models),
        # paths, not rules.compare_pretraining.output: with that, Snakemake's time grows with the square of the inputs
        pretraining_by_seed=study.comparisons("pretraining_by_seed"),
    output:
        claims=f"{STUDY}/claims.parquet",
        robustness=f"{STUDY}/robustness.parquet",
        checks=f"{STUDY}/checks.parquet",
        accounts=f"{STUDY}/accounts.parquet",
        claims_over_models=f"{STUDY}/claims_over_models.parquet",
    params:
        models=study.judged_models(),
        places=study.judged_places(),
        runs=study.judged_runs(),
        prompts_of_runs=study.prompts_of_trainings(),
        missing=study.missing.parts(STUDY),
        code=code("judge_claims.py", *kind_modules(STUDY_CONFIG.interventions)),
    message:
        "Judging the claims"
    script:
        "../workflow_scripts/judge_claims.py"
