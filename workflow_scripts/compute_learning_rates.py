"""The last losses of every learning rate of the sweep, and which rate is best for each run."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.learning_rates import SCHEMA, sweep_table
    from sinkorigin.tables import read_table, write_table

    table = sweep_table([read_table(path) for path in snakemake.input.history], snakemake.params.configured)
    write_table(snakemake.output[0], table, SCHEMA)
    for row in table.to_pylist():
        if row["best"] and row["advice"]:
            print(row["advice"])
