"""What an attention variant declares: its options, its estimates, and how its model is made. No PyTorch is imported here."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sinkorigin.errors import SinkoriginError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class Option:
    """Option of a variant, as the config takes it."""

    type: Any  # of its values: bool, float, or a Literal of texts
    default: Any  # value where the config has none
    description: str  # one sentence for the config's JSON schema
    above: float | None = None  # what a number must be greater than


@dataclass(frozen=True)
class LayerCost:
    """What a variant costs in one layer, beyond softmax."""

    parameters: int = 0  # stored numbers
    matrix: int = 0  # those of them that every token is multiplied with
    kept: int = 0  # numbers that a token leaves for the backward pass
    # bytes that each attention weight leaves for the backward pass, in float32 and under autocast; 0 where a fused kernel
    # holds none
    weight_bytes: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Variant:
    """Declaration of one attention variant.

    A variant is a function of the attention logits (``weights``) or brings a model class (``load_class``).

    Attributes:
        name: name of its module, and of the variant in the config; ``{name}_llama`` is the model type of what is trained.
        description: noun phrase that says what it is.
        weights: function of the masked logits that gives the attention weights in place of the softmax. Arguments: logits
            (N, H, T, S), scaled and masked (a large negative number or −inf where a query sees no key); visible
            (N or 1, H or 1, T, S), true where a query sees a key; length, the number of tokens in a training sequence; and
            the options by name. Result: (N, H, T, S), 0 where nothing is visible, differentiable.
        fused_attention: attention function in the form of transformers' ``AttentionInterface`` that computes what ``weights`` gives
            in less time, by PyTorch's fused softmax or in fewer passes, where there is one.
        load_class: function that imports and returns the model class of a variant that is more than ``weights``.
        options: name of each option → what it is.
        key: key of a run in the config that holds the options; by default the variant's name.
        prefix: what stands before an option's name in the saved configuration, of a variant with ``load_class``.
        reading: function of the options that says which form of the variant a run has, for claims; None where there is one.
        layer_cost: function of a model's size (layers, width, heads, …) and the options that gives the estimates.
    """

    name: str
    description: str
    weights: Callable[..., "Tensor"] | None = None
    fused_attention: Callable[..., Any] | None = None
    load_class: Callable[[], type["LlamaForCausalLM"]] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    key: str = ""
    prefix: str = ""
    reading: Callable[[Mapping[str, Any]], str | None] = lambda options: None
    layer_cost: Callable[[Mapping[str, Any], Mapping[str, Any]], LayerCost] = lambda size, options: LayerCost()

    def __post_init__(self):
        object.__setattr__(self, "key", self.key or self.name)

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options as keys of the variant's configuration.

        Raises:
            SinkoriginError: an option that the variant does not have.
        """
        for option in options:
            if option not in self.options:
                known = ", ".join(self.options) or "none"
                raise SinkoriginError(
                    f"variant {self.name} has no option {option}, its options are: {known}; correct the name or delete it"
                )
        if self.weights is not None:
            return {"attention_options": dict(options)}
        return {f"{self.prefix}{option}": value for option, value in options.items()}

    @cached_property
    def model_class(self) -> type["LlamaForCausalLM"]:
        """Model class; its ``config_class`` is the configuration. Imports PyTorch."""
        if self.load_class is not None:
            return self.load_class()
        from sinkorigin.variants.llama import class_of_weights

        return class_of_weights(self)

    def register(self) -> None:
        """Make the variant's model type known to transformers' Auto classes, for this process."""
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

        model: Any = self.model_class
        if model.config_class.model_type != "llama":  # which is transformers'
            AutoConfig.register(model.config_class.model_type, model.config_class, exist_ok=True)
            AutoModel.register(model.config_class, model.decoder_class, exist_ok=True)
            AutoModelForCausalLM.register(model.config_class, model, exist_ok=True)


def declared(name: str) -> Variant:
    """Declaration of the variant ``name``, from the module of that name.

    Raises:
        SinkoriginError: there is no such module, or it declares no variant of that name.
    """
    module = f"{__package__}.{name}"
    found = importlib.import_module(module) if name.isidentifier() and importlib.util.find_spec(module) else None
    variant = getattr(found, "VARIANT", None)
    if not isinstance(variant, Variant) or variant.name != name:
        raise SinkoriginError(
            f"variant {name!r} is unknown: no module {module} declares it; correct the name, or add the module"
        )
    return variant
