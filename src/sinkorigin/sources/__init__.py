"""Where models, corpora and tokenizers are fetched from: the package index, its archives, and the Hugging Face hub."""
