# The page of a study: what was found, in one file that a browser opens.

from harness import page


rule make_page:
    """Make the page of the study: what was found, with every claim, figure and table, in one file."""
    input:
        **{name: study.missing.without([f"{STUDY}/{name}.parquet"]) for name in page.JUDGEMENTS},
        **dict(rules.judge_claims.input.items()),
        **{name: study.tables(name) for name in page.TOLD},
        **{name: study.tables(name, study.edits) for name in page.TOLD_OF_EDITS},
        **page.edited_tables(study),
        pretraining_comparison=study.comparisons("pretraining_comparison"),
        attention_map=page.attention_maps(study),
        figures=page.figure_files(study),
    output:
        report(
            f"{STUDY}/index.html",
            caption="../captions/page.rst",
            category="Page",
            labels={"page": "what was found"},
        ),
    params:
        study=STUDY_CONFIG.study,
        models=page.model_facts(study),
        prompts=page.prompt_facts(study),
        trainings=page.trainings_text(study),
        charts=[(chart.name, chart.table) for chart in page.CHARTS],
        figures=page.figure_facts(study, ROOT),
        missing=study.missing.parts(STUDY),
        undrawn=study.missing.undrawn(page.demanded_figures(study)),
        repository=page.REPOSITORY,
        # functions: all rules and jobs of the study are known after this file
        makers=lambda wildcards: page.table_makers(RULES),
        logs=lambda wildcards: page.job_logs(RULES, JOBS_OF_PAGE),
        templates=page.templates_version(),
        unread="scores.parquet",
        code=code("make_page.py", *page.chart_modules(), *kind_modules(STUDY_CONFIG.interventions)),
    message:
        "Making the page of the study"
    script:
        "../workflow_scripts/make_page.py"
