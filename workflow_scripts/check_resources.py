"""Predicted memory of every job that has run beside its measured peak; ends with an error where it is off."""

from harness.job import job

with job(snakemake):
    import sys

    from harness.plan import WITHIN, comparison
    from sinkorigin.errors import SinkoriginError
    from sinkorigin.tables import read_table

    text, wrong = comparison(read_table(snakemake.input[0]).to_pylist())
    print(text, file=sys.__stdout__)
    if wrong:
        raise SinkoriginError(
            f"predicted memory is not within 1 to {WITHIN:g} times the measured peaks: {'; '.join(wrong)}"
        )
