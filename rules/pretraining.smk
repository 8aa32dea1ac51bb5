# Pretraining: tokenizer and tokens once for all runs on the same data, then one training for every run and seed.


use rule fetch_corpus as fetch_own_corpus with:
    """Fetch the corpus of one entry of pretraining.data."""
    input:
        local_files=study.local_corpus,
    output:
        f"{STUDY}/pretraining/data/{{data}}/documents.parquet",
    params:
        corpus=lambda wildcards: study.data[wildcards.data].corpus.model_dump(exclude={"megabytes"}),
        wildcards=all_wildcards,
        code=code("fetch_corpus.py"),
    message:
        "Fetching the corpus of data {wildcards.data}"


rule train_tokenizer:
    """Train a byte-pair tokenizer on the training split of some data."""
    input:
        corpus=study.documents_of,
    output:
        files=directory(f"{STUDY}/pretraining/data/{{data}}/tokenizer"),
        manifest=f"{STUDY}/pretraining/data/{{data}}/tokenizer/manifest.json",
    wildcard_constraints:
        data=study.data_named("text", tokenizer="trained"),
    threads: 2
    params:
        vocabulary=lambda wildcards: study.data[wildcards.data].vocabulary,
        wildcards=all_wildcards,
        code=code("train_tokenizer.py"),
    message:
        "Training the tokenizer of data {wildcards.data}"
    script:
        "../workflow_scripts/train_tokenizer.py"


rule take_tokenizer:
    """Take an existing tokenizer for some data."""
    input:
        local_files=study.local_tokenizer,
    output:
        files=directory(f"{STUDY}/pretraining/data/{{data}}/tokenizer"),
        manifest=f"{STUDY}/pretraining/data/{{data}}/tokenizer/manifest.json",
    wildcard_constraints:
        data=study.data_named("text", tokenizer="taken"),
    params:
        tokenizer=lambda wildcards: study.data[wildcards.data].tokenizer,
        wildcards=all_wildcards,
        code=code("take_tokenizer.py"),
    message:
        "Taking the tokenizer of data {wildcards.data}"
    script:
        "../workflow_scripts/take_tokenizer.py"


rule tokenize_corpus:
    """Write both splits of a corpus as token ids."""
    input:
        corpus=study.documents_of,
        tokenizer_files=ancient(directory_of(study.tokenizer_of)),
        tokenizer=study.tokenizer_of,
    output:
        files=directory(f"{STUDY}/pretraining/data/{{data}}/tokens"),
        manifest=f"{STUDY}/pretraining/data/{{data}}/tokens/manifest.json",
    wildcard_constraints:
        data=study.data_named("text"),
    threads: 2
    params:
        wildcards=all_wildcards,
        code=code("tokenize_corpus.py"),
    message:
        "Tokenizing the corpus of data {wildcards.data}"
    script:
        "../workflow_scripts/tokenize_corpus.py"


rule make_bigram_backcopy:
    """Make the synthetic bigram-backcopy task: its tokenizer and tokens."""
    input:
        corpus=study.documents_of,
    output:
        tokenizer_files=directory(f"{STUDY}/pretraining/data/{{data}}/tokenizer"),
        tokenizer=f"{STUDY}/pretraining/data/{{data}}/tokenizer/manifest.json",
        token_files=directory(f"{STUDY}/pretraining/data/{{data}}/tokens"),
        tokens=f"{STUDY}/pretraining/data/{{data}}/tokens/manifest.json",
    wildcard_constraints:
        data=study.data_named("bigram_backcopy"),
    params:
        task=study.task_parameters,
        wildcards=all_wildcards,
        code=code("make_bigram_backcopy.py"),
    message:
        "Making the bigram-backcopy stream {wildcards.data}"
    script:
        "../workflow_scripts/make_bigram_backcopy.py"


rule pretrain:
    """Train one run with one seed."""
    input:
        token_files=ancient(directory_of(study.tokens_of)),
        tokens=study.tokens_of,
        tokenizer_files=ancient(directory_of(study.tokenizer_of)),
        tokenizer=study.tokenizer_of,
    output:
        model_files=directory(f"{STUDY}/pretraining/{{run}}/seed={{seed}}/model"),
        model=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/model/manifest.json",
        provenance=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/provenance.json",
        history=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/history.parquet",
        timing=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/timing.parquet",
    wildcard_constraints:
        run=one_of(run for run in study.runs if run not in study.keeping),
    threads: STUDY_CONFIG.pretraining.threads
    resources:
        device=TRAINING_DEVICE,
    params:
        run=study.training_parameters,
        # not Snakemake's number, which --cores may lower: the last bits of a training depend on it
        threads=STUDY_CONFIG.pretraining.threads,
        wildcards=all_wildcards,
        code=code_by("pretrain.py", study.variant_modules),
    message:
        "Pretraining {wildcards.run}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/pretrain.py"


use rule pretrain as pretrain_with_checkpoints with:
    """Train one run with one seed and keep the model after the steps of `keep`."""
    output:
        model_files=directory(f"{STUDY}/pretraining/{{run}}/seed={{seed}}/model"),
        model=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/model/manifest.json",
        provenance=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/provenance.json",
        history=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/history.parquet",
        timing=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/timing.parquet",
        checkpoint_files=directory(f"{STUDY}/pretraining/{{run}}/seed={{seed}}/checkpoints"),
        checkpoints=f"{STUDY}/pretraining/{{run}}/seed={{seed}}/checkpoints/manifest.json",
    wildcard_constraints:
        run=one_of(study.keeping),


rule pretrain_learning_rate:
    """Train one run at one rate of the sweep and keep its losses."""
    input:
        token_files=ancient(directory_of(study.tokens_of)),
        tokens=study.tokens_of,
        tokenizer_files=ancient(directory_of(study.tokenizer_of)),
        tokenizer=study.tokenizer_of,
    output:
        f"{STUDY}/learning_rates/{{run}}/learning_rate={{learning_rate}}/seed={{seed}}/history.parquet",
    threads: STUDY_CONFIG.pretraining.threads
    resources:
        device=TRAINING_DEVICE,
    params:
        run=study.swept_parameters,
        option=study.swept_option,
        threads=STUDY_CONFIG.pretraining.threads,
        wildcards=all_wildcards,
        code=code_by("pretrain_learning_rate.py", study.variant_modules),
    message:
        "Pretraining {wildcards.run} at learning rate {wildcards.learning_rate}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/pretrain_learning_rate.py"


rule compare_learning_rates:
    """Last validation loss of every rate of the sweep, and the best rate of each run."""
    input:
        history=study.swept_histories(),
    output:
        learning_rates=f"{STUDY}/statistics/learning_rates.parquet",
    params:
        **statistic("learning_rates"),
        configured=study.tuned(),
    message:
        "Comparing the learning rates"
    script:
        "../workflow_scripts/compute.py"
