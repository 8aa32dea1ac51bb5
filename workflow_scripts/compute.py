"""Compute one statistic: the tables of its module, from the tables that its rule names."""

from importlib import import_module

from harness.job import job

module = f"sinkorigin.statistics.{snakemake.params.statistic}"

with job(snakemake, module):
    from sinkorigin.tables import write_table

    statistic = import_module(module)
    settings = {name: value for name, value in snakemake.params.items() if name not in ("statistic", "code")}
    found = statistic.compute(dict(snakemake.input.items()), **dict(snakemake.wildcards.items()), **settings)
    for name, schema in statistic.TABLES.items():
        write_table(snakemake.output[name], found[name], schema)
