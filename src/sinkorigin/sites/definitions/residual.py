"""Residual stream leaving a block, ``residual`` (N, T, d); at layer -1 the embedding, which enters the first block."""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("residual", lambda block: block.stream.place("output"), before_blocks=True)
