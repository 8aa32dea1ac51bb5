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
        # by name too, so that statistics without intervals do not depend on it
        of_prompts = import_module("sinkorigin.statistics.bootstrap").Resampling.of_prompts
        resampling = of_prompts(snakemake.input.prompts, settings.pop("replicates"), settings.pop("seed"))
        settings["resampling"], no_intervals = resampling, resampling.too_few
    found = statistic.compute(dict(snakemake.input.items()), **dict(snakemake.wildcards.items()), **settings)
    for name, schema in statistic.TABLES.items():
        write_table(snakemake.output[name], found[name], schema, no_intervals=no_intervals)
