"""Whether a config.json is of a decoder, as far as the file says it."""

from collections.abc import Mapping
from typing import Any

from sinkorigin.errors import SinkoriginError


def check_decoder(config: Mapping[str, Any], what: str) -> None:
    """Refuse the config.json of an encoder-decoder, or of an encoder.

    Nothing is imported, so this can be asked before the first job. Whether transformers has a class of causal language models
    for it is checked when the model is fetched.

    Args:
        config: the dictionary in config.json.
        what: what messages call the model.

    Raises:
        SinkoriginError: it is no decoder.
    """
    kind, named = config.get("model_type"), config.get("architectures")
    classes = list(map(str, named)) if isinstance(named, list) else []
    saved = f"{kind}, saved as {classes[0]}" if classes else f"{kind}"
    if config.get("is_encoder_decoder") is True:
        raise SinkoriginError(f"{what}: it is an encoder-decoder ({saved}); choose a decoder, such as Llama or GPT-2")
    # classes that can be either state it; GPT-NeoX states false beside the name of its causal class
    causal = any(name.endswith("ForCausalLM") for name in classes)
    if not causal and (config.get("is_decoder") is False or any(name.endswith("ForMaskedLM") for name in classes)):
        raise SinkoriginError(
            f"{what}: it is an encoder ({saved}), in which tokens see those after them; choose a decoder, such as Llama or GPT-2"
        )
