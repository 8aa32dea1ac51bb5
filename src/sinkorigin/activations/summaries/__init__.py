"""Tables that an extraction writes besides raw vectors, one module a table.

Their memory depends on the model and the length of the prompts, not on the number of sequences. Each takes (n, T, ...)
float32 tensors of whole sequences, in order, from one thread at a time.
"""
