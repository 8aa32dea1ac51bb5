# Pretraining: tokenizer and tokens once, then one training for every run and seed.


rule train_tokenizer:
    input:
        corpus=rules.fetch_corpus.output[0],
    output:
        f"{STUDY}/pretraining/tokenizer/manifest.json",
    log:
        f"{STUDY}/logs/train_tokenizer.log",
    benchmark:
        f"{STUDY}/benchmarks/train_tokenizer.tsv"
    conda:
        "../envs/models.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
        gpu=0,
    params:
        vocabulary=STUDY_CONFIG.pretraining.vocabulary,
        code=code("train_tokenizer.py"),
    message:
        "Training the tokenizer"
    script:
        "../workflow_scripts/train_tokenizer.py"


rule tokenize_corpus:
    input:
        corpus=rules.fetch_corpus.output[0],
        tokenizer=rules.train_tokenizer.output[0],
    output:
        f"{STUDY}/pretraining/tokens/manifest.json",
    log:
        f"{STUDY}/logs/tokenize_corpus.log",
    benchmark:
        f"{STUDY}/benchmarks/tokenize_corpus.tsv"
    conda:
        "../envs/models.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
        gpu=0,
    params:
        code=code("tokenize_corpus.py"),
    message:
        "Tokenizing the corpus"
    script:
        "../workflow_scripts/tokenize_corpus.py"


rule pretrain:
    input:
        tokens=rules.tokenize_corpus.output[0],
        tokenizer=rules.train_tokenizer.output[0],
    output:
        model=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/model/manifest.json",
        history=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/history.parquet",
        timing=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/timing.parquet",
    log:
        f"{STUDY}/logs/pretrain/{{run}}/seed={{seed}}.log",
    benchmark:
        f"{STUDY}/benchmarks/pretrain/{{run}}/seed={{seed}}.tsv"
    wildcard_constraints:
        run=one_of(run for run in RUNS if run not in KEEPING),
    conda:
        "../envs/models.yaml"
    threads: STUDY_CONFIG.pretraining.threads
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        gpu=GPUS * STUDY_CONFIG.pretraining.gpus,
        device=DEVICE,
    params:
        run=training_parameters,
        # not Snakemake's number, which --cores may lower: the last bits of a training depend on it
        threads=STUDY_CONFIG.pretraining.threads,
        code=code("pretrain.py"),
    message:
        "Pretraining {wildcards.run}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/pretrain.py"


use rule pretrain as pretrain_with_checkpoints with:
    output:
        model=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/model/manifest.json",
        history=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/history.parquet",
        timing=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/timing.parquet",
        checkpoints=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/checkpoints/manifest.json",
    wildcard_constraints:
        run=one_of(KEEPING),
