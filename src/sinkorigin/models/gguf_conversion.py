"""GGUF files: dequantised to float32 safetensors, or refused where a tensor would be lost."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.models.files import library_errors
from sinkorigin.models.weights import check_loaded


@dataclass(frozen=True)
class _Header:
    """Header of a GGUF file.

    Attributes:
        architecture: llama.cpp's name of it.
        sizes: tensor → how many numbers it has.
        quantisation: the type that most numbers have, such as Q4_1.
    """

    architecture: str
    sizes: dict[str, int]
    quantisation: str


def _read_header(path: Path) -> _Header:
    """Read a GGUF file's header; the file is mapped into memory during this call only."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    return _Header(
        architecture=reader.fields["general.architecture"].contents(),
        sizes={tensor.name: int(tensor.n_elements) for tensor in reader.tensors},
        quantisation=types.most_common(1)[0][0],
    )


def _check_all_read(header: _Header, model, what: str, remedy: str) -> None:
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
    """Dequantise a GGUF model to float32 safetensors in ``destination``; the type that most weights had.

    Raises:
        SinkoriginError: the file is damaged, of no architecture that transformers reads, or its tensors are not exactly
            the weights of that architecture.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": gguf_file.parent, "gguf_file": gguf_file.name}
    remedy = "take an intact copy or a safetensors source"
    with library_errors(f"{what}: {gguf_file.name} cannot be converted from GGUF", remedy):
        header = _read_header(gguf_file)
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
