"""Sources of models, corpora and tokenizers: the package index, its archives, and the Hugging Face hub."""
