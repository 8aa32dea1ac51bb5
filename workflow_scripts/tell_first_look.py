"""Write what the first look found, in lines of text."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.claims.first_look import lines
    from sinkorigin.errors import SinkoriginError
    from sinkorigin.tables import read_table, write_text

    if not snakemake.params.label:
        raise SinkoriginError(
            "this study has no fetched model with a mask, a variance_amplification and a norm_control on one prompt set, which a "
            "first look shows; add the interventions, or run all"
        )
    [label] = snakemake.params.label
    tables = {
        name: pl.DataFrame(read_table(path)) for name, [path] in ((k, list(v)) for k, v in snakemake.input.items())
    }
    write_text(snakemake.output[0], "".join(f"{line}\n" for line in lines(label, **tables)))
