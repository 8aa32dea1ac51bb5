"""GGUF files: dequantised to float32 safetensors, or refused where a tensor would be lost."""

from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.models.files import library_errors
from sinkorigin.models.gguf_header import GGUFHeader, check_gguf, read_gguf_header
from sinkorigin.models.weights import check_loaded


def _check_all_read(header: GGUFHeader, model, what: str, remedy: str) -> None:
    """Refuse a GGUF file with tensors that did not become weights of ``model``.

    transformers leaves out those that it has no place for without a word, and some change what the model computes:
    ``rope_freqs.weight`` stretches the positions of Llama 3.
    """
    stored, taken = sum(header.sizes.values()), sum(parameter.numel() for parameter in model.parameters())
    if stored == taken:
        return
    sentence = f"{what} has {stored:,} numbers but {type(model).__name__} takes {taken:,}"
    with library_errors(sentence, remedy):
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

        processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
        known = get_gguf_hf_weights_map(model, processor(config=model.config.to_dict()))
    unread = listed(sorted(header.sizes.keys() - known.keys()), 3)
    raise SinkoriginError(f"{sentence}, so tensors would be left unread ({unread}); {remedy}")


def convert_gguf(gguf_file: Path, destination: Path, what: str) -> str:
    """Dequantise a GGUF model to float32 safetensors in ``destination``; its file type, such as Q4_K_M.

    Raises:
        SinkoriginError: the file is damaged, of no architecture that transformers reads, or its tensors are not exactly
            the weights of that architecture.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    header = read_gguf_header(gguf_file, what)
    check_gguf(header, gguf_file.name, what)
    where: dict[str, Any] = {"pretrained_model_name_or_path": gguf_file.parent, "gguf_file": gguf_file.name}
    remedy = "take an intact copy or a safetensors source"
    with library_errors(f"{what}: {gguf_file.name} cannot be converted from GGUF", remedy):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(**where)
    model, info = loaded
    check_loaded(model, info, f"{what}: {gguf_file.name}", remedy)
    _check_all_read(header, model, f"{what}: {gguf_file.name}", remedy)
    # transformers refuses to save a model that came from GGUF, so a model made from its config takes over the weights
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    return header.quantisation
