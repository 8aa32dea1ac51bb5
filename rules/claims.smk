# Claims: every claim of the paper that the study tests, as a predicate over the tables.

from harness.config.interventions import kind_modules


rule judge_claims:
    input:
        **{
            name: study.tables(name)
            for name in (
                "variance_trend",
                "norm_surge",
                "norm_changes",
                "disparity_by_layer",
                "massive_activations",
                "sink_mass",
                "sink_rate",
                "sink_onset",
                "sink_changes",
                "first_positions",
                "secondary_sinks",
                "secondary_sinks_by_layer",
                "variance_through_output",
                "super_neurons",
                "key_collapse",
                "alignment_correlation",
            )
        },
        **{
            name: study.tables(name, study.edits)
            for name in (
                "resolved_interventions",
                "interventions",
                "intervention_contrasts",
                "dose_response",
                "dispersion_grid",
            )
        },
        provenance=study.provenances(study.models),
        # paths, not rules.compare_pretraining.output: with that, Snakemake's time grows with the square of the inputs
        pretraining_by_seed=study.comparisons("pretraining_by_seed"),
        pretraining_comparison=study.comparisons("pretraining_comparison"),
    output:
        table=f"{STUDY}/claims.parquet",
        evidence=f"{STUDY}/evidence.parquet",
        evidence_summary=f"{STUDY}/evidence_summary.parquet",
        page=report(
            f"{STUDY}/claims.html",
            caption="../captions/claims.rst",
            category="Claims",
            labels={"table": "claims"},
        ),
    params:
        models=study.judged_models(),
        prompts=study.conditions(),
        first_tokens=study.first_tokens(),
        missing=study.missing.parts(STUDY),
        undrawn=study.missing.undrawn(STUDY),
        code=code("judge_claims.py", *kind_modules(STUDY_CONFIG.interventions)),
    message:
        "Judging the claims"
    script:
        "../workflow_scripts/judge_claims.py"
