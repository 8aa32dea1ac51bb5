"""Compare every file of the study with the hash that it was written with; ends with an error where one differs."""

from harness.job import job

with job(snakemake):
    import sys

    from harness.verification import verify_study
    from sinkorigin.errors import SinkoriginError

    files = snakemake.params.files
    wrong = verify_study(files, snakemake.threads)
    if wrong:
        print(*wrong, sep="\n", file=sys.__stdout__)
        raise SinkoriginError(
            f"{len(wrong)} of the {len(files)} files of study {snakemake.params.study} are missing, damaged or changed, as the "
            "lines above say; do what they say, and verify again"
        )
    print(f"The {len(files)} files of study {snakemake.params.study} are as they were written.", file=sys.__stdout__)
