# Activations: one pass of every model over each of its prompt sets.


rule extract_activations:
    """Run a model once over a prompt set: kept activations, and the summaries that statistics read."""
    input:
        model_files=ancient(directory_of(study.model_of)),
        model=study.model_of,
        prompts=study.prompts_of,
    output:
        **study.site_outputs(),
        magnitudes=f"{STUDY}/activations/{{model}}/{{prompts}}/magnitudes.parquet",
        neuron_moments=f"{STUDY}/activations/{{model}}/{{prompts}}/neuron_moments.parquet",
        gate_cosines=f"{STUDY}/activations/{{model}}/{{prompts}}/gate_cosines.parquet",
        residual_gram=f"{STUDY}/activations/{{model}}/{{prompts}}/residual_gram.parquet",
        query_gram=f"{STUDY}/activations/{{model}}/{{prompts}}/query_gram.parquet",
        first_token_neurons=f"{STUDY}/activations/{{model}}/{{prompts}}/first_token_neurons.parquet",
        first_token_keys=f"{STUDY}/activations/{{model}}/{{prompts}}/first_token_keys.parquet",
        first_token_attention=f"{STUDY}/activations/{{model}}/{{prompts}}/first_token_attention.parquet",
        down_projection_spikes=f"{STUDY}/activations/{{model}}/{{prompts}}/down_projection_spikes.parquet",
        value_magnitudes=f"{STUDY}/activations/{{model}}/{{prompts}}/value_magnitudes.parquet",
        token_gram=f"{STUDY}/activations/{{model}}/{{prompts}}/token_gram.parquet",
        architecture=f"{STUDY}/activations/{{model}}/{{prompts}}/architecture.parquet",
        scores=f"{STUDY}/attention/{{model}}/{{prompts}}/scores.parquet",
    threads: lambda wildcards: study.estimates.extraction_threads(wildcards.model)
    resources:
        device=DEVICE,
    params:
        sites=[kept.model_dump() for kept in STUDY_CONFIG.activations.sites],
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=study.trusts_remote_code,
        wildcards=all_wildcards,
        code=code_by("extract_activations.py", study.site_modules, study.variant_modules),
    message:
        "Extracting the activations of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/extract_activations.py"
