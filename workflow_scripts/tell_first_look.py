"""Write what the first look found, in lines of text."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.claims.first_look import lines
    from sinkorigin.errors import SinkoriginError
    from sinkorigin.models.labels import complete_labels
    from sinkorigin.tables import read_table, write_text

    if not snakemake.params.labels:
        raise SinkoriginError(
            "this study has no fetched model with a mask, a variance_amplification and a norm_control on one prompt set, which a "
            "first look shows; add the interventions, or run all"
        )
    given = dict(snakemake.input.items())
    [label] = complete_labels(snakemake.params.labels, given.pop("provenance")).values()
    tables = {name: pl.DataFrame(read_table(path)) for name, [path] in given.items()}
    write_text(snakemake.output[0], "".join(f"{line}\n" for line in lines(label, **tables)))
