"""Compute one statistic: the tables of its module, from the tables that its rule names."""

from importlib import import_module

from harness.job import job

module = f"sinkorigin.statistics.{snakemake.params.statistic}"

with job(snakemake, module):
    from sinkorigin.tables import write_table

    statistic = import_module(module)
    settings = {name: value for name, value in snakemake.params.items() if name not in ("statistic", "code")}
    no_intervals = None
    if "replicates" in settings:
        from sinkorigin.corpora.prompts import read_documents
        from sinkorigin.statistics.bootstrap import Resampling

        documents = read_documents(snakemake.input.prompts)
        resampling = Resampling.over(settings.pop("replicates"), settings.pop("seed"), documents)
        settings["resampling"], no_intervals = resampling, resampling.too_few
    found = statistic.compute(dict(snakemake.input.items()), **dict(snakemake.wildcards.items()), **settings)
    for name, schema in statistic.TABLES.items():
        write_table(snakemake.output[name], found[name], schema, no_intervals=no_intervals)
