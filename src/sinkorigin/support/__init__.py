"""Which decoder classes of transformers can be measured, tried on a tiny random instance of each."""
