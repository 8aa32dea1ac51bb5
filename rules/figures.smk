# Figures: one rule each, from the table in workflow_scripts/harness/figures.py.

from harness.figures import FIGURES, check_figures
from harness.snakemake_internals import output_patterns

if not internals.is_module(workflow):  # which may be imported in part
    with checks.ending_with_a_sentence():
        check_figures(
            FIGURES,
            {file.removeprefix(f"{STUDY}/") for one in workflow.rules for file in output_patterns(one)},
        )


for figure in FIGURES:

    rule:
        name:
            f"plot_{figure.name}"
        input:
            **figure.inputs(study),
        output:
            report(
                figure.outputs(study),
                caption=figure.caption,
                category="Figures",
                labels={"figure": figure.label or figure.name.replace("_", " ")},
            ),
        params:
            figure=figure.name,
            keywords=figure.keywords(study),
            sample=figure.sample(study),
            lacks=figure.lacks(study),
            code=code("plot.py", *figure.modules(study)),
        message:
            f"Drawing {figure.name}"
        script:
            "../workflow_scripts/plot.py"
