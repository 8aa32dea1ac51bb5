"""Where the sites of a decoder are, and the attention function through which the attention is seen and edited."""
