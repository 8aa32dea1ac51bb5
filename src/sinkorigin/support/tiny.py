"""Tiny random instances of any decoder class that transformers registers, made by shrinking its default config.

Nothing here knows a class: fields of configs are recognised by the words in their names, which transformers keeps alike, and
all widths of one config are divided by the same factor, so that products such as heads · head width still fit.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from sinkorigin.errors import SinkoriginError, listed

WIDTH, HEADS, LAYERS, VOCABULARY, POSITIONS = 64, 8, 4, 512, 64
_HEAD_WIDTH = WIDTH // HEADS
_MOST_PARAMETERS = 100_000_000

# words in the names of fields
_TOKEN = re.compile(r"(token_id|token_index|_idx|(mask|pad|bos|eos|unk)_index)$")
_LAYERS = re.compile(r"^(num_hidden_layers|n_layers?|num_layers|num_blocks|(num_)?(en|de)coder_layers|depth)$")
_SOME_LAYERS = re.compile(r"(_layers|_layer|_dense_replace)$")
_WIDTH = re.compile(r"^(hidden_size|n_embd|d_model|dim|emb_dim|embed_dim|hidden_dim|model_dim)$")
_HEADS = re.compile(r"^(num_attention_heads|n_heads?|num_heads|(num_)?(en|de)coder_attention_heads|attention_heads)$")
_KV_HEADS = re.compile(r"(kv_heads|key_value_heads|kv_n_heads|n_head_kv)$")
_HEAD_WIDTHS = re.compile(r"(head_?dim|d_head|dim_head|d_kv|head_size|kv_channels)")
_EXPERTS = re.compile(r"^(num_(local_|zero_)?experts|n_(routed_)?experts|moe_num_experts|zero_expert_num)$")
_CHOSEN_EXPERTS = re.compile(r"(experts_per_tok|top_?k|moe_k|top_k_experts)$")
_GROUPS = re.compile(r"^(n_group|num_expert_group)$")
_CHOSEN_GROUPS = re.compile(r"^topk_group$")
_ATTENDING = re.compile(r"attn.*(indices|idxs|ids)$")

# sizes that are cut to a number, by names; the first pattern that is in a name counts
_AT_MOST = (
    (re.compile(r"vocab|n_words"), VOCABULARY),
    (
        re.compile(r"^(max_(position_embeddings|seq_len|(target|source)_positions|length)|n_positions|n_ctx)$"),
        POSITIONS,
    ),
    (_LAYERS, LAYERS),
    (re.compile(r"^rotary_dim$"), _HEAD_WIDTH // 2),
    (_HEAD_WIDTHS, _HEAD_WIDTH),
    (_EXPERTS, 4),
    (_CHOSEN_EXPERTS, 2),
    (_GROUPS, 2),
    (_CHOSEN_GROUPS, 1),
    (re.compile(r"(period|interval|pattern|group_size|sparse_step|every_n_layers|_step|_freq)$"), 2),
    (re.compile(r"(offset|start_index)$"), 1),
    (re.compile(r"(window|window_size|local_attention|chunk_size|chunk_length|window_len|block_size)$"), 4),
)
# sizes that some default configs leave out though their classes need them
_LEFT_OUT = (
    (_KV_HEADS, 1),
    (_HEAD_WIDTHS, _HEAD_WIDTH),
    (re.compile(r"heads|_budget$"), HEADS),
    (re.compile(r"_ratio$"), 2),
    (_EXPERTS, 4),
    (_CHOSEN_EXPERTS, 2),
    (re.compile(r"^(n_group|num_expert_group|topk_group|n_shared_experts)$"), 1),
)


def decoder_types() -> dict[str, str]:
    """Model type → name of the class, for every causal language model that transformers registers."""
    return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_model(model_type: str) -> PreTrainedModel:
    """A tiny instance with random parameters, norms and biases included, in evaluation mode with eager attention.

    Raises:
        SinkoriginError: none could be made.
    """
    reasons: list[str] = []
    for config in _configs(model_type, reasons):
        try:
            return _instance(config)
        except Exception as error:  # whatever a class raises that a config does not suit
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    raise SinkoriginError(
        f"no tiny instance of {model_type} could be made ({listed(dict.fromkeys(reasons), 2)}); give it a smaller config"
    )


def _configs(model_type: str, reasons: list[str]) -> Iterator[PreTrainedConfig]:
    """Small configs of a model type; the first that its class takes is the best."""
    cls = CONFIG_MAPPING[model_type]
    for lists in (_Lists.KINDS, _Lists.STATED, _Lists.ALL):
        for fill in (False, True):
            try:
                config = cls(**_shrunk(cls(), fill=fill, lists=lists))
                yield _with_attention(config)
            except Exception as error:  # from the validation of a config
                reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


class _Lists(Enum):
    """Which lists of a default config are given: those that it states; the kinds of its layers too, so that none is lost; all."""

    STATED = 1
    KINDS = 2
    ALL = 3


def _with_attention(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config, with attention in every second layer where it would have it in none: a hybrid's default may be bare."""
    text = config.get_text_config(decoder=True)
    declares = any(one.name == "layer_types" for one in dataclasses.fields(text))
    kinds = getattr(text, "layer_types", None)
    if declares and (not kinds or set(kinds) == {"linear_attention"}):
        other = kinds[0] if kinds else "full_attention"
        text.layer_types = [other, "full_attention"] * (text.num_hidden_layers // 2)
    return config


def _instance(config: PreTrainedConfig) -> PreTrainedModel:
    text = config.get_text_config(decoder=True)
    for part in {id(part): part for part in (config, text)}.values():
        if hasattr(part, "is_decoder") and not getattr(part, "is_encoder_decoder", False):
            part.is_decoder = True
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > _MOST_PARAMETERS:
        raise SinkoriginError(f"its shrunk config still has {size / 1e6:.0f} million parameters")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(0.1 * torch.randn_like(parameter))
        ids = torch.arange(3, 9).reshape(1, -1)
        model(input_ids=ids, use_cache=False)
    return model


def _shrunk(config: PreTrainedConfig, *, fill: bool, lists: _Lists) -> dict[str, Any]:
    """Arguments of the config's class that make it small.

    Args:
        fill: whether sizes that the default leaves out are given.
        lists: which lists are given; the class derives others, or does not.
    """
    given = config.to_dict()
    declared = {one.name: one for one in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else {}
    sizes = _Sizes.of(given)
    kept: dict[str, Any] = {}
    for name in declared or given:
        part = getattr(type(config), "sub_configs", {}).get(name)
        value = getattr(config, name, None) if part is not None else given.get(name)
        default = declared[name].default if name in declared else value
        if isinstance(value, PreTrainedConfig):
            kept[name] = _shrunk(value, fill=fill, lists=lists)
        elif isinstance(value, int) and not isinstance(value, bool):
            size = _small(name, value, sizes)
            kept |= {name: size} if size != value else {}  # what is as it was may be derived from what is not
        elif value is None and _ATTENDING.search(name):  # layers of a hybrid that attend: left out, none or all do
            kept[name] = [1, 3]
        elif value is None and fill and "int" in str(declared[name].type if name in declared else ""):
            size = _named(name, _LEFT_OUT)
            kept |= {} if size is None else {name: size}
        elif isinstance(value, list | tuple) and value:
            kinds = len(value) == sizes.layers and all(isinstance(kind, str) for kind in value)
            if default is not None or lists is _Lists.ALL or (kinds and lists is _Lists.KINDS):
                kept[name] = _small_list(name, list(value), sizes)
    return kept


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """Sizes of a default config that others are shrunk with; 0 where it has none."""

    layers: int
    width: int
    heads: int
    head_width: int

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "_Sizes":
        def first(pattern: re.Pattern) -> int:
            return next((value for name, value in given.items() if pattern.search(name) and isinstance(value, int)), 0)

        return cls(first(_LAYERS), first(_WIDTH), first(_HEADS), first(re.compile(r"^head_dim$")))

    @property
    def factor(self) -> float:
        """What widths are divided by."""
        return max(1.0, self.width / WIDTH) if self.width else 1.0

    @property
    def small_heads(self) -> int:
        """Number of heads: as many times the width as the default's together are, at heads of another width."""
        together = self.heads * self.head_width
        if self.width and together and together % self.width == 0:
            return HEADS * (together // self.width)
        return _power_of_two(min(self.heads, HEADS))


def _power_of_two(number: int) -> int:
    """The largest one up to a number, so that it divides the width and other numbers of heads; 1 for 0."""
    return 1 << max(number, 1).bit_length() - 1


def _named(name: str, sizes: Sequence[tuple[re.Pattern, int]]) -> int | None:
    """The size beside the first pattern that is in a name; None where none is."""
    return next((size for pattern, size in sizes if pattern.search(name)), None)


def _small(name: str, value: int, sizes: _Sizes) -> int:
    """A number of a config, as small as the others of the same config need it."""
    if value < 0:
        return value
    if _TOKEN.search(name):
        return value if value < VOCABULARY else VOCABULARY - 1 - value % 16
    if _KV_HEADS.search(name):
        return _power_of_two(sizes.small_heads * value // sizes.heads if sizes.heads else min(value, HEADS))
    if "attention_heads" in name or _HEADS.match(name):
        return sizes.small_heads if value == sizes.heads else _power_of_two(min(value, HEADS))
    if name == "qk_head_dim":  # of the parts with and without rotary embedding together
        return 2 * _HEAD_WIDTH
    most = _named(name, _AT_MOST)
    if most is not None:
        return min(value, most)
    if _SOME_LAYERS.search(name):
        return min(value, max(1, round(value * LAYERS / max(sizes.layers, 1))))
    if "heads" in name:
        return _power_of_two(round(value / sizes.factor * 8)) if value > 2 else value
    return max(8, round(value / sizes.factor / 8) * 8) if value >= 32 and sizes.factor > 1 else value


def _small_list(name: str, values: Sequence[Any], sizes: _Sizes) -> list[Any]:
    """A list of a config for fewer layers: one with an entry a layer keeps each of its values, one of layer numbers those left."""
    layers = sizes.layers
    if all(isinstance(v, list) and len(v) == 2 and isinstance(v[0], list) for v in values):  # kinds and their repeats
        return [[kinds, max(1, LAYERS // len(kinds))] for kinds, _ in values]
    if sizes.width and all(isinstance(v, int) for v in values) and sum(values) == sizes.width:
        return [round(v / sizes.factor) for v in values]
    if len(values) == layers and layers > LAYERS:
        # the first layer of each kind, then the second of each, and so on
        seen: Counter[str] = Counter()
        ranks = []
        for number, value in enumerate(values):
            ranks.append((seen[repr(value)], number))
            seen[repr(value)] += 1
        return [values[number] for number in sorted(number for _, number in sorted(ranks)[:LAYERS])]
    if re.search(r"(layer|idx|ids)", name) and all(isinstance(v, int) and 0 <= v < layers for v in values):
        return sorted({min(LAYERS - 1, v * LAYERS // layers) for v in values})
    return list(values)
