"""Pretraining from scratch, to compare attention variants: tokenizer, token files, models, and the loop."""
