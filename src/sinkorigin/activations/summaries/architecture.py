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
    """Write the table: every site, matrix and norm of every layer, and whether its neurons write to the residual stream.

    Args:
        sites: the sites that were watched.
    """
    names = {id(module): name for name, module in architecture.model.named_modules()}
    in_attention = {*AttentionCall._fields, *(site for site in sites if isinstance(load_site(site), AttentionSite))}
    rows: dict[str, list] = {"layer": [], "part": [], "found": [], "reason": []}
    for layer in range(architecture.layers):
        missing = architecture.missing[layer]
        places, projections = architecture.places[layer], architecture.projections[layer]
        found = (
            dict.fromkeys(missing)
            | {site: f"{place.end} of {names[id(place.module)]}" for site, place in places.items()}
            | dict.fromkeys(in_attention, f"attention function of {names[id(architecture.attention[layer])]}")
            | {role: names[id(matrix.module)] for role, matrix in projections.items()}
        )
        if architecture.norms[layer] is not None:
            found["norm"] = architecture.norms[layer]
        found.setdefault("contribution", "added to the residual stream as it is")
        for part in sorted(found):
            rows["layer"].append(layer)
            rows["part"].append(part)
            rows["found"].append(found[part])
            rows["reason"].append(missing.get(part))
    tables.write_table(path, rows, SCHEMA)
