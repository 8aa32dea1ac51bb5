"""The shape of a decoder: what its memory and time follow from, known before its weights are there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# names that configurations of transformers give to one thing, the usual one first
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads", "n_head_kv"),
    "head_width": ("head_dim",),
    "ffn_width": ("intermediate_size", "n_inner", "ffn_dim"),
    "experts": ("num_local_experts", "num_experts"),
    "vocabulary": ("vocab_size",),
}
# families whose FFN has two matrices, not the three of a gated one
_UNGATED = ("gpt2", "gpt_neox", "opt", "gpt_bigcode", "bloom", "gptj", "gpt_neo", "phi", "starcoder2")
# transformers leaves out of config.json what is as in the class, and these classes tie or untie by default
_TIED = ("gpt2", "opt", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt_bigcode", "gpt_neo", "bloom")


@dataclass(frozen=True)
class Shape:
    """Of a decoder.

    Attributes:
        head_width: of one head; usually width / heads.
        gated: whether the FFN has a gate, hence three matrices.
        experts: FFNs in a layer, of which a token uses some; 1 in a dense model.
        tied_embeddings: whether the language-model head is the embedding.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn_width: int
    vocabulary: int
    head_width: int
    gated: bool = True
    experts: int = 1
    tied_embeddings: bool = False

    @classmethod
    def of_size(cls, size: Mapping[str, Any], vocabulary: int) -> "Shape":
        """From layers, width, heads, kv_heads, ffn_width and tied_embeddings: a run's, or a model's ``shape`` in the config."""
        names = ("layers", "width", "heads", "kv_heads", "ffn_width", "tied_embeddings")
        own = {name: size[name] for name in names}
        return cls(**own, vocabulary=vocabulary, head_width=size["width"] // size["heads"])

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Shape":
        """From the config.json of a model directory.

        Raises:
            KeyError: it lacks a number that a decoder has.
            TypeError: what should be a number is none.
        """
        text = config.get("text_config", config)
        kind = text.get("model_type", "")

        def number(name: str, default: int | None = None) -> int:
            found = [text[key] for key in _NAMES[name] if text.get(key) is not None]
            if not found and default is None:
                raise KeyError(name)
            value = found[0] if found else default
            if not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}")
            return value

        width, heads = number("width"), number("heads")
        return cls(
            layers=number("layers"),
            width=width,
            heads=heads,
            kv_heads=number("kv_heads", heads),
            ffn_width=(kind.endswith("_moe") and text.get("moe_intermediate_size")) or number("ffn_width", 4 * width),
            vocabulary=number("vocabulary"),
            head_width=number("head_width", width // heads),
            gated=kind not in _UNGATED,
            experts=number("experts", 1),
            tied_embeddings=config.get("tie_word_embeddings", text.get("tie_word_embeddings", kind in _TIED)),
        )

    @property
    def attention_width(self) -> int:
        """Width of the value aggregation: that of all heads."""
        return self.heads * self.head_width

    @property
    def layer_matrices(self) -> int:
        """Numbers in the matrices of one layer: query and output, key and value, and the FFN."""
        kv_width = self.kv_heads * self.head_width
        ffn = self.experts * (3 if self.gated else 2) * self.width * self.ffn_width
        return 2 * self.width * self.attention_width + 2 * self.width * kv_width + ffn

    @property
    def parameters(self) -> int:
        """Stored numbers: matrices, embeddings and RMSNorms; biases are left out, which are few."""
        embeddings = self.vocabulary * self.width * (1 if self.tied_embeddings else 2)
        return embeddings + self.layers * self.layer_matrices + (2 * self.layers + 1) * self.width
