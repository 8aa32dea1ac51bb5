"""The section ``publish``: what `snakemake publish` says of who publishes a study, and what it takes in."""

from typing import Literal

from pydantic import Field

from harness.config.values import Strict

LargeFiles = Literal["activations", "texts", "weights"]


class Creator(Strict):
    """One of those who publish a study."""

    name: str = Field(min_length=1, description="Family name, given names: as Zenodo wants it.")
    affiliation: str | None = Field(None, min_length=1, description="Institution.")
    orcid: str | None = Field(
        None, pattern=r"^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$", description="ORCID, its sixteen digits with hyphens."
    )


class Publish(Strict):
    """What `snakemake publish` says of who publishes a study, and what it takes in; no result depends on it."""

    title: str | None = Field(
        None, min_length=1, description="Title of the record; null makes one of the study's name."
    )
    creators: list[Creator] = Field([], description="Who publishes the study; Zenodo demands at least one.")
    licence: str = Field(
        "Apache-2.0",
        pattern=r"^[A-Za-z0-9.+-]+$",
        description="SPDX identifier of the licence of the results; the workflow's own is Apache-2.0 whatever this says.",
    )
    large_files: list[LargeFiles] = Field(
        [],
        description="What is taken in beside tables and figures: activations (with attention scores and the tables of single edits), texts "
        "(documents, token ids and prompts, which may not be yours to publish), weights (of models trained here). What is left out "
        "is listed with size and sha256.",
    )
