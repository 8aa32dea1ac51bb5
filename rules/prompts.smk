# The corpus and the prompts.


rule fetch_corpus:
    input:
        local_files=local_corpus(STUDY_CONFIG.corpus),
    output:
        f"{STUDY}/corpus/documents.parquet",
    log:
        f"{STUDY}/logs/fetch_corpus.log",
    benchmark:
        f"{STUDY}/benchmarks/fetch_corpus.tsv"
    conda:
        "../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=memory("fetch_corpus"),
        runtime=minutes("fetch_corpus"),
        disk_mb=disk("fetch_corpus"),
        gpu=0,
    params:
        corpus=STUDY_CONFIG.corpus.model_dump(exclude={"megabytes"}),
        wildcards=all_wildcards,
        code=code("fetch_corpus.py"),
    message:
        "Fetching the corpus"
    script:
        "../workflow_scripts/fetch_corpus.py"


rule tokenize_prompts:
    input:
        unpack(corpus_for_text),
        model_files=ancient(model_files),
        model=model_of,
    output:
        f"{STUDY}/prompts/{{model}}/{{prompts}}.parquet",
    log:
        f"{STUDY}/logs/tokenize_prompts/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/tokenize_prompts/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=memory("tokenize_prompts"),
        runtime=minutes("tokenize_prompts"),
        disk_mb=disk("tokenize_prompts"),
        gpu=0,
    params:
        prompts=lambda wildcards: PROMPTS[wildcards.prompts].model_dump(),
        trust_remote_code=trusts_remote_code,
        wildcards=all_wildcards,
        code=code("tokenize_prompts.py"),
    message:
        "Making the {wildcards.prompts} prompts of {wildcards.model}"
    script:
        "../workflow_scripts/tokenize_prompts.py"


# models that were trained here read text that their own training left out
ruleorder: take_held_out_prompts > tokenize_prompts


rule take_held_out_prompts:
    input:
        model_files=ancient(model_files),
        model=model_of,
        token_files=ancient(directory_of(tokens_of_model)),
        tokens=tokens_of_model,
    output:
        f"{STUDY}/prompts/{{model}}/{{prompts}}.parquet",
    log:
        f"{STUDY}/logs/take_held_out_prompts/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/take_held_out_prompts/{{model}}/{{prompts}}.tsv"
    wildcard_constraints:
        model=one_of(TRAINED),
        prompts=prompts_of_text(),
    conda:
        "../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=memory("take_held_out_prompts"),
        runtime=minutes("take_held_out_prompts"),
        disk_mb=disk("take_held_out_prompts"),
        gpu=0,
    params:
        prompts=lambda wildcards: PROMPTS[wildcards.prompts].model_dump(exclude={"bos"}),
        first_token=lambda wildcards: TRAINED[wildcards.model][0].first_token,
        wildcards=all_wildcards,
        code=code("take_held_out_prompts.py"),
    message:
        "Taking the {wildcards.prompts} prompts of {wildcards.model}"
    script:
        "../workflow_scripts/take_held_out_prompts.py"
