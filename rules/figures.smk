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
        mem_mb=memory("plot_variance_by_position"),
        runtime=minutes("plot_variance_by_position"),
        disk_mb=disk("plot_variance_by_position"),
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
        mem_mb=memory("plot_norm_and_sink_by_layer"),
        runtime=minutes("plot_norm_and_sink_by_layer"),
        disk_mb=disk("plot_norm_and_sink_by_layer"),
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
        mem_mb=memory("plot_dominance_ratio_by_layer"),
        runtime=minutes("plot_dominance_ratio_by_layer"),
        disk_mb=disk("plot_dominance_ratio_by_layer"),
        gpu=0,
    params:
        code=code("plot_dominance_ratio_by_layer.py"),
    message:
        "Drawing dominance_ratio_by_layer"
    script:
        "../workflow_scripts/plot_dominance_ratio_by_layer.py"


rule plot_variance_through_output:
    input:
        variance_through_output=first_prompts("variance_through_output"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("variance_through_output"),
            caption="../captions/variance_through_output.rst",
            category="Figures",
            labels={"figure": "variance through the output projection"},
        ),
    log:
        f"{STUDY}/logs/plot_variance_through_output.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_variance_through_output.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_variance_through_output"),
        runtime=minutes("plot_variance_through_output"),
        disk_mb=disk("plot_variance_through_output"),
        gpu=0,
    params:
        code=code("plot_variance_through_output.py"),
    message:
        "Drawing variance_through_output"
    script:
        "../workflow_scripts/plot_variance_through_output.py"


rule plot_super_neurons:
    input:
        super_neurons=first_prompts("super_neurons"),
        super_neuron_surge=first_prompts("super_neuron_surge"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("super_neurons"),
            caption="../captions/super_neurons.rst",
            category="Figures",
            labels={"figure": "super neurons"},
        ),
    log:
        f"{STUDY}/logs/plot_super_neurons.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_super_neurons.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_super_neurons"),
        runtime=minutes("plot_super_neurons"),
        disk_mb=disk("plot_super_neurons"),
        gpu=0,
    params:
        code=code("plot_super_neurons.py"),
    message:
        "Drawing super_neurons"
    script:
        "../workflow_scripts/plot_super_neurons.py"


rule plot_channel_sparsity:
    input:
        super_neurons=first_prompts("super_neurons"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("channel_sparsity"),
            caption="../captions/channel_sparsity.rst",
            category="Figures",
            labels={"figure": "channel sparsity"},
        ),
    log:
        f"{STUDY}/logs/plot_channel_sparsity.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_channel_sparsity.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_channel_sparsity"),
        runtime=minutes("plot_channel_sparsity"),
        disk_mb=disk("plot_channel_sparsity"),
        gpu=0,
    params:
        code=code("plot_channel_sparsity.py"),
    message:
        "Drawing channel_sparsity"
    script:
        "../workflow_scripts/plot_channel_sparsity.py"


rule plot_massive_activations:
    input:
        massive_activations=first_prompts("massive_activations"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("massive_activations"),
            caption="../captions/massive_activations.rst",
            category="Figures",
            labels={"figure": "massive activations"},
        ),
    log:
        f"{STUDY}/logs/plot_massive_activations.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_massive_activations.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_massive_activations"),
        runtime=minutes("plot_massive_activations"),
        disk_mb=disk("plot_massive_activations"),
        gpu=0,
    params:
        code=code("plot_massive_activations.py"),
    message:
        "Drawing massive_activations"
    script:
        "../workflow_scripts/plot_massive_activations.py"


rule plot_key_collapse:
    input:
        key_collapse=first_prompts("key_collapse"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("key_collapse"),
            caption="../captions/key_collapse.rst",
            category="Figures",
            labels={"figure": "key collapse"},
        ),
    log:
        f"{STUDY}/logs/plot_key_collapse.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_key_collapse.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_key_collapse"),
        runtime=minutes("plot_key_collapse"),
        disk_mb=disk("plot_key_collapse"),
        gpu=0,
    params:
        code=code("plot_key_collapse.py"),
    message:
        "Drawing key_collapse"
    script:
        "../workflow_scripts/plot_key_collapse.py"


rule plot_query_alignment:
    input:
        query_alignment=first_prompts("query_alignment"),
        alignment_correlation=first_prompts("alignment_correlation"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("query_alignment"),
            caption="../captions/query_alignment.rst",
            category="Figures",
            labels={"figure": "query alignment"},
        ),
    log:
        f"{STUDY}/logs/plot_query_alignment.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_query_alignment.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_query_alignment"),
        runtime=minutes("plot_query_alignment"),
        disk_mb=disk("plot_query_alignment"),
        gpu=0,
    params:
        code=code("plot_query_alignment.py"),
    message:
        "Drawing query_alignment"
    script:
        "../workflow_scripts/plot_query_alignment.py"


rule plot_effective_rank_by_layer:
    input:
        effective_rank=first_prompts("effective_rank"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("effective_rank_by_layer"),
            caption="../captions/effective_rank_by_layer.rst",
            category="Figures",
            labels={"figure": "effective rank by layer"},
        ),
    log:
        f"{STUDY}/logs/plot_effective_rank_by_layer.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_effective_rank_by_layer.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_effective_rank_by_layer"),
        runtime=minutes("plot_effective_rank_by_layer"),
        disk_mb=disk("plot_effective_rank_by_layer"),
        gpu=0,
    params:
        code=code("plot_effective_rank_by_layer.py"),
    message:
        "Drawing effective_rank_by_layer"
    script:
        "../workflow_scripts/plot_effective_rank_by_layer.py"


rule plot_sinks_by_position:
    input:
        sink_rate=per_model("sink_rate"),
        secondary_sinks=per_model("secondary_sinks"),
        provenance=provenance_of(model for model, _ in STUDIED),
    output:
        report(
            figure_files("sinks_by_position"),
            caption="../captions/sinks_by_position.rst",
            category="Figures",
            labels={"figure": "sinks by position"},
        ),
    log:
        f"{STUDY}/logs/plot_sinks_by_position.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_sinks_by_position.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_sinks_by_position"),
        runtime=minutes("plot_sinks_by_position"),
        disk_mb=disk("plot_sinks_by_position"),
        gpu=0,
    params:
        code=code("plot_sinks_by_position.py"),
    message:
        "Drawing sinks_by_position"
    script:
        "../workflow_scripts/plot_sinks_by_position.py"


rule plot_sink_by_intervention:
    input:
        interventions=of_edited("interventions"),
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
        mem_mb=memory("plot_sink_by_intervention"),
        runtime=minutes("plot_sink_by_intervention"),
        disk_mb=disk("plot_sink_by_intervention"),
        gpu=0,
    params:
        kinds=kinds_of(EDITS),
        code=code("plot_sink_by_intervention.py", *kind_modules(EDITS)),
    message:
        "Drawing sink_by_intervention"
    script:
        "../workflow_scripts/plot_sink_by_intervention.py"


rule plot_intervention_contrasts:
    input:
        intervention_contrasts=of_edited("intervention_contrasts"),
        provenance=provenance_of(model for model, prompts in STUDIED if EDITED[model, prompts]),
    output:
        report(
            figure_files("intervention_contrasts"),
            caption="../captions/intervention_contrasts.rst",
            category="Figures",
            labels={"figure": "intervention contrasts"},
        ),
    log:
        f"{STUDY}/logs/plot_intervention_contrasts.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_intervention_contrasts.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_intervention_contrasts"),
        runtime=minutes("plot_intervention_contrasts"),
        disk_mb=disk("plot_intervention_contrasts"),
        gpu=0,
    params:
        kinds=kinds_of(EDITS),
        code=code("plot_intervention_contrasts.py", *kind_modules(EDITS)),
    message:
        "Drawing intervention_contrasts"
    script:
        "../workflow_scripts/plot_intervention_contrasts.py"


rule plot_mask_by_layers_and_position:
    input:
        interventions=of_edited("interventions"),
        provenance=provenance_of(model for model, prompts in STUDIED if EDITED[model, prompts]),
    output:
        report(
            figure_files("mask_by_layers_and_position"),
            caption="../captions/mask_by_layers_and_position.rst",
            category="Figures",
            labels={"figure": "mask by layers and position"},
        ),
    log:
        f"{STUDY}/logs/plot_mask_by_layers_and_position.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_mask_by_layers_and_position.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_mask_by_layers_and_position"),
        runtime=minutes("plot_mask_by_layers_and_position"),
        disk_mb=disk("plot_mask_by_layers_and_position"),
        gpu=0,
    params:
        code=code("plot_mask_by_layers_and_position.py", *kind_modules(EDITS)),
    message:
        "Drawing mask_by_layers_and_position"
    script:
        "../workflow_scripts/plot_mask_by_layers_and_position.py"


rule plot_edited_layers:
    input:
        intervention_layers=of_edited("intervention_layers"),
        provenance=provenance_of(model for model, prompts in STUDIED if EDITED[model, prompts]),
    output:
        report(
            figure_files("edited_layers"),
            caption="../captions/edited_layers.rst",
            category="Figures",
            labels={"figure": "edited layers"},
        ),
    log:
        f"{STUDY}/logs/plot_edited_layers.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_edited_layers.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_edited_layers"),
        runtime=minutes("plot_edited_layers"),
        disk_mb=disk("plot_edited_layers"),
        gpu=0,
    params:
        kinds=kinds_of(EDITS),
        code=code("plot_edited_layers.py", *kind_modules(EDITS)),
    message:
        "Drawing edited_layers"
    script:
        "../workflow_scripts/plot_edited_layers.py"


rule plot_dispersion_grid:
    input:
        interventions=of_edited("interventions"),
        dispersion_grid=of_edited("dispersion_grid"),
        provenance=provenance_of(model for model, prompts in STUDIED if EDITED[model, prompts]),
    output:
        report(
            figure_files("dispersion_grid"),
            caption="../captions/dispersion_grid.rst",
            category="Figures",
            labels={"figure": "dispersion grid"},
        ),
    log:
        f"{STUDY}/logs/plot_dispersion_grid.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_dispersion_grid.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_dispersion_grid"),
        runtime=minutes("plot_dispersion_grid"),
        disk_mb=disk("plot_dispersion_grid"),
        gpu=0,
    params:
        code=code("plot_dispersion_grid.py", *kind_modules(EDITS)),
    message:
        "Drawing dispersion_grid"
    script:
        "../workflow_scripts/plot_dispersion_grid.py"


rule plot_necessity:
    input:
        interventions=of_edited("interventions"),
        provenance=provenance_of(model for model, prompts in STUDIED if EDITED[model, prompts]),
    output:
        report(
            figure_files("necessity"),
            caption="../captions/necessity.rst",
            category="Figures",
            labels={"figure": "necessity"},
        ),
    log:
        f"{STUDY}/logs/plot_necessity.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_necessity.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_necessity"),
        runtime=minutes("plot_necessity"),
        disk_mb=disk("plot_necessity"),
        gpu=0,
    params:
        code=code("plot_necessity.py", *kind_modules(EDITS)),
    message:
        "Drawing necessity"
    script:
        "../workflow_scripts/plot_necessity.py"


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
        mem_mb=memory("plot_loss_curves"),
        runtime=minutes("plot_loss_curves"),
        disk_mb=disk("plot_loss_curves"),
        gpu=0,
    params:
        code=code("plot_loss_curves.py"),
    message:
        "Drawing loss_curves"
    script:
        "../workflow_scripts/plot_loss_curves.py"


rule plot_training_dynamics:
    input:
        history=rules.compare_pretraining.input.history,
        training=rules.compare_pretraining.input.training,
    output:
        report(
            figure_files("training_dynamics"),
            caption="../captions/training_dynamics.rst",
            category="Figures",
            labels={"figure": "training dynamics"},
        ),
    log:
        f"{STUDY}/logs/plot_training_dynamics.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_training_dynamics.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_training_dynamics"),
        runtime=minutes("plot_training_dynamics"),
        disk_mb=disk("plot_training_dynamics"),
        gpu=0,
    params:
        groups=comparison_groups(),
        prompts=prompts_of_figures(),
        code=code("plot_training_dynamics.py"),
    message:
        "Drawing training_dynamics"
    script:
        "../workflow_scripts/plot_training_dynamics.py"


rule plot_pretraining_comparison:
    input:
        by_seed=rules.compare_pretraining.output.by_seed,
        comparison=rules.compare_pretraining.output.comparison,
    output:
        report(
            figure_files("pretraining_comparison"),
            caption="../captions/pretraining_comparison.rst",
            category="Figures",
            labels={"figure": "pretraining comparison"},
        ),
    log:
        f"{STUDY}/logs/plot_pretraining_comparison.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_pretraining_comparison.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_pretraining_comparison"),
        runtime=minutes("plot_pretraining_comparison"),
        disk_mb=disk("plot_pretraining_comparison"),
        gpu=0,
    params:
        groups=comparison_groups(),
        prompts=prompts_of_figures(),
        code=code("plot_pretraining_comparison.py"),
    message:
        "Drawing pretraining_comparison"
    script:
        "../workflow_scripts/plot_pretraining_comparison.py"


rule plot_learning_rates:
    input:
        rules.compare_learning_rates.output[0],
    output:
        report(
            figure_files("learning_rates"),
            caption="../captions/learning_rates.rst",
            category="Figures",
            labels={"figure": "learning rates"},
        ),
    log:
        f"{STUDY}/logs/plot_learning_rates.log",
    benchmark:
        f"{STUDY}/benchmarks/plot_learning_rates.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("plot_learning_rates"),
        runtime=minutes("plot_learning_rates"),
        disk_mb=disk("plot_learning_rates"),
        gpu=0,
    params:
        groups=comparison_groups(),
        code=code("plot_learning_rates.py"),
    message:
        "Drawing learning_rates"
    script:
        "../workflow_scripts/plot_learning_rates.py"
