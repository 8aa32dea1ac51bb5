"""From forward passes to tables of activations, in memory bounded by one batch."""
