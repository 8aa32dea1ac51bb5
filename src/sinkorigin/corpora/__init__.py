"""Text corpora, and the prompts that are drawn from them."""
