# Figures: one rule each, from the table in workflow_scripts/harness/figures.py.

from harness.figures import FIGURES, check_figures
from harness.snakemake_internals import output_patterns
from harness.study import Study

SEEN = Study(STUDY_CONFIG, DEVICE)

try:
    check_figures(
        FIGURES,
        {file.removeprefix(f"{STUDY}/") for one in workflow.rules for file in output_patterns(one)},
    )
except SinkoriginError as error:
    sys.exit(f"sinkorigin: {error}")


for figure in FIGURES:

    rule:
        name:
            f"plot_{figure.name}"
        input:
            **figure.inputs(SEEN),
        output:
            report(
                figure.outputs(SEEN),
                caption=figure.caption,
                category="Figures",
                labels={"figure": figure.label or figure.name.replace("_", " ")},
            ),
        params:
            figure=figure.name,
            keywords=figure.keywords(SEEN),
            code=code("plot.py", *figure.modules(SEEN)),
        message:
            f"Drawing {figure.name}"
        script:
            "../workflow_scripts/plot.py"
