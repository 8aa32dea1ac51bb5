"""Where the sites, matrices and norm of every layer were found, or why there are none: ``architecture.parquet``."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER
from sinkorigin.sites.architecture import Architecture
from sinkorigin.sites.site import AttentionCall, AttentionSite, load_site

SCHEMA = tables.schema(
    layer=LAYER,
    part=(
        pa.string(),
        "a site; output, gate, up, down: matrices; norm: before the attention; contribution: of FFN neurons to the residual",
    ),
    found=(pa.string(), "the module where it is, or the kind of norm; null where the layer has none"),
    reason=(pa.string(), "why it has none"),
)


def write_architecture(path: Path, architecture: Architecture, sites: Sequence[str]) -> None:
    """Write a row for every watched site, matrix and norm of every layer, and for what its neurons write."""
    names = {id(module): name for name, module in architecture.model.named_modules()}
    in_attention = {*AttentionCall._fields, *(site for site in sites if isinstance(load_site(site), AttentionSite))}
    rows: list[tuple] = []
    for layer in range(architecture.layers):
        missing = architecture.missing[layer]
        places, projections = architecture.places[layer], architecture.projections[layer]
        attention = architecture.attention.get(layer)
        found = (
            dict.fromkeys(missing)
            | {site: f"{place.end} of {names[id(place.module)]}" for site, place in places.items()}
            | (
                {}
                if attention is None
                else dict.fromkeys(in_attention, f"attention function of {names[id(attention)]}")
            )
            | {role: names[id(matrix.module)] for role, matrix in projections.items()}
        )
        if architecture.norms[layer] is not None:
            found["norm"] = architecture.norms[layer]
        found.setdefault("contribution", "added to the residual stream as it is")
        for part in sorted(found):
            rows.append((layer, part, found[part], missing.get(part)))
    tables.write_table(path, dict(zip(SCHEMA.names, zip(*rows, strict=True), strict=True)), SCHEMA)
