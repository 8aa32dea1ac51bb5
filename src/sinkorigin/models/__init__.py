"""Causal language models: fetched, checked, and loaded."""
