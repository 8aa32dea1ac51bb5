# Figures: one rule, one script and one library module a figure.


rule plot_variance_by_position:
    input:
        variance=first_prompts("variance"),
        variance_trend=first_prompts("variance_trend"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("variance_by_position"),
            caption="../captions/variance_by_position.rst",
            category="Figures",
            labels={"figure": "variance by position"},
        ),
    log:
        f"{STUDY}/logs/plot_variance_by_position.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_variance_by_position.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
        gpu=0,
    params:
        layers=STUDY_CONFIG.figures.variance_layers,
        code=code("plot_variance_by_position.py"),
    message:
        "Drawing variance_by_position"
    script:
        "../workflow_scripts/plot_variance_by_position.py"


rule plot_norm_and_sink_by_layer:
    input:
        norm_ratio=first_prompts("norm_ratio"),
        norm_surge=first_prompts("norm_surge"),
        sink_mass=first_prompts("sink_mass"),
        sink_onset=first_prompts("sink_onset"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("norm_and_sink_by_layer"),
            caption="../captions/norm_and_sink_by_layer.rst",
            category="Figures",
            labels={"figure": "norm and sink by layer"},
        ),
    log:
        f"{STUDY}/logs/plot_norm_and_sink_by_layer.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_norm_and_sink_by_layer.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
        gpu=0,
    params:
        code=code("plot_norm_and_sink_by_layer.py"),
    message:
        "Drawing norm_and_sink_by_layer"
    script:
        "../workflow_scripts/plot_norm_and_sink_by_layer.py"


rule plot_dominance_ratio_by_layer:
    input:
        disparity_by_layer=first_prompts("disparity_by_layer"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("dominance_ratio_by_layer"),
            caption="../captions/dominance_ratio_by_layer.rst",
            category="Figures",
            labels={"figure": "dominance ratio by layer"},
        ),
    log:
        f"{STUDY}/logs/plot_dominance_ratio_by_layer.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_dominance_ratio_by_layer.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
        gpu=0,
    params:
        code=code("plot_dominance_ratio_by_layer.py"),
    message:
        "Drawing dominance_ratio_by_layer"
    script:
        "../workflow_scripts/plot_dominance_ratio_by_layer.py"


rule plot_sink_by_intervention:
    input:
        interventions=per_model("interventions", [pair for pair in STUDIED if EDITED[pair]]),
        provenance=provenance_of(model for model, prompts in STUDIED if EDITED[model, prompts]),
    output:
        report(
            figure_files("sink_by_intervention"),
            caption="../captions/sink_by_intervention.rst",
            category="Figures",
            labels={"figure": "sink by intervention"},
        ),
    log:
        f"{STUDY}/logs/plot_sink_by_intervention.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_sink_by_intervention.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
        gpu=0,
    params:
        code=code("plot_sink_by_intervention.py"),
    message:
        "Drawing sink_by_intervention"
    script:
        "../workflow_scripts/plot_sink_by_intervention.py"


rule plot_loss_curves:
    input:
        history=rules.summarize_pretraining.input.history,
    output:
        report(
            figure_files("loss_curves"),
            caption="../captions/loss_curves.rst",
            category="Figures",
            labels={"figure": "loss curves"},
        ),
    log:
        f"{STUDY}/logs/plot_loss_curves.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_loss_curves.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
        gpu=0,
    params:
        code=code("plot_loss_curves.py"),
    message:
        "Drawing loss_curves"
    script:
        "../workflow_scripts/plot_loss_curves.py"
