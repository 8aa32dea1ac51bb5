# The corpus and the prompts.


rule fetch_corpus:
    """Fetch the study's corpus as a table of documents, split into training and validation."""
    input:
        local_files=study.local_corpus,
    output:
        f"{STUDY}/corpus/documents.parquet",
    params:
        corpus=STUDY_CONFIG.corpus.model_dump(exclude={"megabytes"}),
        wildcards=all_wildcards,
        code=code("fetch_corpus.py"),
    message:
        "Fetching the corpus"
    script:
        "../workflow_scripts/fetch_corpus.py"


rule tokenize_prompts:
    """Make a prompt set of a fetched model: random tokens, or windows of held-out text."""
    input:
        unpack(study.corpus_for_text),
        model_files=ancient(directory_of(study.model_of)),
        model=study.model_of,
    output:
        f"{STUDY}/prompts/{{model}}/{{prompts}}.parquet",
    params:
        prompts=lambda wildcards: study.prompts[wildcards.prompts].model_dump(),
        unread="*.safetensors",  # weights, gigabytes that a tokenizer does not need
        trust_remote_code=study.trusts_remote_code,
        wildcards=all_wildcards,
        code=code("tokenize_prompts.py"),
    message:
        "Making the {wildcards.prompts} prompts of {wildcards.model}"
    script:
        "../workflow_scripts/tokenize_prompts.py"


# models that were trained here read what their data hold: text that the training left out, or random tokens of its vocabulary
rule draw_data_prompts:
    """Make a prompt set for the models trained on some data, from its tokens."""
    input:
        tokenizer_files=ancient(directory_of(study.tokenizer_of)),
        tokenizer=study.tokenizer_of,
        token_files=ancient(directory_of(study.tokens_of)),
        tokens=study.tokens_of,
    output:
        f"{STUDY}/pretraining/data/{{data}}/prompts/{{start}}/{{prompts}}.parquet",
    wildcard_constraints:
        start=one_of(["first_token", "no_first_token"]),
    params:
        prompts=lambda wildcards: study.prompts[wildcards.prompts].model_dump(),
        wildcards=all_wildcards,
        code=code("draw_data_prompts.py"),
    message:
        "Drawing the {wildcards.prompts} prompts of data {wildcards.data}"
    script:
        "../workflow_scripts/draw_data_prompts.py"
