"""Interventions: kinds of edits of a running model, and sweeps over many of them."""
