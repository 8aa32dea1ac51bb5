"""Shapes of decoders by their config.json, which limits prompts and layers, and from which memory and time follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sinkorigin.errors import SinkoriginError

# names that configurations of transformers give to one number, the usual one first
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads", "n_head_kv"),
    "head_width": ("head_dim",),
    "ffn_width": ("intermediate_size", "n_inner", "ffn_dim"),
    "expert_width": ("moe_intermediate_size",),
    "experts": ("num_local_experts", "num_experts"),
    "vocabulary": ("vocab_size",),
}
# more than any decoder has of them; a class of transformers makes an object of each layer, and of each expert, as it reads the config
_MOST = {"layers": 10_000, "experts": 100_000}
_MOST_OTHERWISE = 2**31 - 1
# families whose FFN has two matrices, not the three of a gated one
_UNGATED = ("gpt2", "gpt_neox", "opt", "gpt_bigcode", "bloom", "gptj", "gpt_neo", "phi", "starcoder2")
# transformers leaves defaults out of config.json, and these classes tie the language-model head to the embedding by default
_TIED = ("gpt2", "opt", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt_bigcode", "gpt_neo", "bloom")
# families of decoders that learn a vector for each position, so that there is a last one, and their default number of
# positions; RoPE and its like work beyond the length that they were trained at
_POSITIONS = {"gpt2": 1024, "gpt_bigcode": 1024, "opt": 2048, "ctrl": 256}


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Part of a config.json that describes the decoder: all of it, or one section where a model has other parts."""
    section = config.get("text_config")
    return section if isinstance(section, Mapping) else config


def stated(config: Mapping[str, Any], name: str) -> Any:
    """Value of a number in the decoder's part of a config.json under any of its names, a key of ``_NAMES``; None without."""
    return next((config[key] for key in _NAMES[name] if config.get(key) is not None), None)


def check_numbers(config: Mapping[str, Any], what: str, file: str = "config.json") -> None:
    """Refuse a config in which a number of layers, heads, dims or tokens is none that a decoder has.

    Lists, which some families have with an entry for each layer, and values of other types are left to the class of the model.

    Args:
        config: the dictionary in config.json, or what a GGUF header says under the same names.
        what: what messages call the model.
        file: the file that it is from, for messages.

    Raises:
        SinkoriginError: a number is negative, or beyond what any decoder has; or the section on text is none.
    """
    if (section := config.get("text_config")) is not None and not isinstance(section, Mapping):
        raise SinkoriginError(
            f"{what}: text_config in its {file} is no section, but of type {type(section).__name__}; take an intact copy"
        )
    text = text_config(config)
    for name in _NAMES:
        most = _MOST.get(name, _MOST_OTHERWISE)
        for key in _NAMES[name]:
            value = text.get(key)
            if isinstance(value, int | float) and not 0 <= value <= most:
                raise SinkoriginError(
                    f"{what}: {key} in its {file} is {value!s:.40}, which no decoder has; take an intact copy"
                )


def _learned_positions(config: Mapping[str, Any]) -> int | None:
    """Number of positions that a model with learned positions has, by its config.json; None for any other model."""
    default = _POSITIONS.get(str(config.get("model_type")))
    named = (config.get(name) for name in ("n_positions", "max_position_embeddings"))
    return default and next((number for number in named if isinstance(number, int)), default)


def check_prompt_length(config: Mapping[str, Any], length: int, *, model: str, prompts: str) -> None:
    """Check the length of a prompt set against the number of positions that a model has learned.

    Args:
        config: the model's config.json.
        model, prompts: names of the model and the prompt set, for messages.

    Raises:
        SinkoriginError: the prompts are longer.
    """
    limit = _learned_positions(config)
    if limit is not None and length > limit:
        raise SinkoriginError(
            f"model {model}: prompts {prompts} have length {length}, but a {config['model_type']} has learned positions and "
            f"this one {limit} of them; lower length to {limit}, or leave the model or the prompt set out"
        )


def check_layers(layers: Sequence[int], count: int, model: str, key: str = "layers") -> None:
    """Raise a SinkoriginError when a layer is not one of 0 … count − 1."""
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong:
        raise SinkoriginError(
            f"{key} has layer {wrong[0]}, but model {model} has {count} layers, 0 to {count - 1}; "
            "choose layers in that range"
        )


@dataclass(frozen=True)
class Shape:
    """Shape of a decoder.

    Attributes:
        width: width of the residual stream.
        head_width: width of one head; usually width / heads.
        gated: whether the FFN has a gate, hence three matrices.
        experts: number of FFNs in a layer, of which a token uses some; 1 in a dense model.
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
        """Shape by layers, width, heads, kv_heads, head_width, ffn_width and tied_embeddings, as a run of the config has them, or
        the ``shape`` of a model.
        """
        names = ("layers", "width", "heads", "kv_heads", "ffn_width", "tied_embeddings")
        sizes = {name: size[name] for name in names}
        head_width = size.get("head_width") or size["width"] // size["heads"]
        return cls(**sizes, vocabulary=vocabulary, head_width=head_width)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Shape":
        """Shape by the config.json of a model directory.

        Raises:
            KeyError: it lacks a number that a decoder has.
            ValueError: it is no dictionary of such numbers.
        """
        if not isinstance(config, Mapping) or not isinstance(config.get("text_config", {}), Mapping | None):
            raise ValueError("no dictionary")
        text = text_config(config)
        kind = str(text.get("model_type", ""))

        def number(name: str, default: int | None = None, least: int = 1) -> int:
            found = stated(text, name)
            value = default if found is None else found
            if value is None:
                raise KeyError(name)
            if type(value) is not int or not least <= value <= _MOST.get(name, _MOST_OTHERWISE):
                raise ValueError(f"{name} is {value!r}")
            return value

        width, heads = number("width"), number("heads")
        return cls(
            layers=number("layers"),
            width=width,
            heads=heads,
            kv_heads=number("kv_heads", heads),
            ffn_width=(kind.endswith("_moe") and number("expert_width", 0, 0)) or number("ffn_width", 4 * width, 0),
            vocabulary=number("vocabulary"),
            head_width=number("head_width", max(width // heads, 1)),
            gated=kind not in _UNGATED,
            experts=number("experts", 1, 0) or 1,  # some families write 0 in the config of a dense model
            tied_embeddings=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", kind in _TIED))),
        )

    @property
    def attention_width(self) -> int:
        """Width of the value aggregation, which is that of all heads together."""
        return self.heads * self.head_width

    @property
    def layer_matrices(self) -> int:
        """Number of weights in the matrices of one layer: query and output, key and value, and the FFN."""
        kv_width = self.kv_heads * self.head_width
        ffn = self.experts * (3 if self.gated else 2) * self.width * self.ffn_width
        return 2 * self.width * self.attention_width + 2 * self.width * kv_width + ffn

    @property
    def parameters(self) -> int:
        """Number of weights in matrices, embeddings and RMSNorms; biases, which are few, are left out."""
        embeddings = self.vocabulary * self.width * (1 if self.tied_embeddings else 2)
        return embeddings + self.layers * self.layer_matrices + (2 * self.layers + 1) * self.width
