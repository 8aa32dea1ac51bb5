"""What `snakemake publish` makes of a finished study: a folder that can be uploaded, and is not."""
