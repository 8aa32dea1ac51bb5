"""Weights of a model directory: exactly those that the model's class has, or an error that names the difference.

transformers gives random numbers to weights that a checkpoint lacks, leaves out those that it does not know, and casts
quantised ones, all with a warning at most. A study of such a model would be a study of noise.
"""

import importlib
import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sinkorigin.errors import SinkoriginError, first_line, listed
from sinkorigin.models.files import library_errors, read_config, read_dictionary
from sinkorigin.models.shapes import stated, text_config

_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_INTEGERS = {"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"}
# a constant that old releases of transformers saved among the weights of GPT-2 and its like: -10,000, or -1e9, -inf in half
# precision
_CONSTANT = "masked_bias"
_BLOCK = 1 << 22  # numbers that are read together
# what training tools put before the names of the weights that they save → how to get the plain names
_PREFIXES = {
    "_orig_mod.": "rename the weights: they have the prefix _orig_mod. of torch.compile; save the module that was compiled",
    "base_model.model.": "rename the weights: they have the prefix base_model.model. of PEFT; merge the adapter first "
    "(merge_and_unload) and save with save_pretrained",
    "module.": "rename the weights: they have the prefix module. of data-parallel training; save the module inside",
}


def register_variant(config: Mapping[str, Any]) -> None:
    """Make the model type of an attention variant known to transformers' Auto classes, if a config.json names one.

    ``{variant}_llama`` is the model type of the variant that the module ``sinkorigin.variants.{variant}`` declares. It is
    imported by its name, so that the code of one variant is no part of the jobs of other models.
    """
    name, suffix, rest = str(config.get("model_type")).rpartition("_llama")
    module = f"sinkorigin.variants.{name}"
    if suffix and not rest and name.isidentifier() and importlib.util.find_spec(module) is not None:
        variant = getattr(importlib.import_module(module), "VARIANT", None)
        if variant is not None:
            variant.register()


def _header(path: Path, what: str) -> tuple[dict[str, Any], int]:
    """Header of a safetensors file (name → dtype, shape and offsets of each tensor), and where the tensors' bytes begin.

    Raises:
        SinkoriginError: the file is truncated or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # safe_open holds the header against the file's length; for NumPy, because that needs no PyTorch
        with safe_open(path, "np"), path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except (OSError, ValueError, SafetensorError) as error:
        raise SinkoriginError(
            f"{what}: its {path.name} is truncated or damaged ({first_line(error)}); take an intact copy"
        ) from error
    header.pop("__metadata__", None)
    return header, 8 + length


def weight_files(directory: Path, what: str) -> list[Path]:
    """Safetensors files that transformers loads from ``directory``, each readable and all in it.

    Raises:
        SinkoriginError: there are none, one is damaged, or the index of several does not describe them.
    """
    named = read_dictionary(directory / "config.json", what).get("transformers_weights")
    usual = ("model.safetensors", "model.safetensors.index.json")
    name = named or next((name for name in usual if (directory / name).is_file()), None)
    if name is None:
        raise SinkoriginError(
            f"{what}: it has neither model.safetensors nor model.safetensors.index.json; save the model with "
            "save_pretrained, or give its weights that name"
        )
    if not isinstance(name, str) or PurePosixPath(name).name != name or not (directory / name).is_file():
        raise SinkoriginError(
            f"{what}: transformers_weights in its config.json is {name!r}, which is no file beside it; correct it"
        )
    if not name.endswith(".index.json"):
        _header(directory / name, what)
        return [directory / name]
    index = read_dictionary(directory / name, what)
    places = index.get("weight_map")
    if not isinstance(index.get("metadata"), dict) or not isinstance(places, dict) or not places:
        raise SinkoriginError(f"{what}: its {name} lacks metadata or weight_map; save the model with save_pretrained")
    for weight, shard in places.items():
        if not isinstance(shard, str) or PurePosixPath(shard).name != shard or "\\" in shard:
            raise SinkoriginError(
                f"{what}: its {name} points out of its folder, to {shard!r} for {weight}; do not use this model"
            )
        if not (directory / shard).is_file():
            raise SinkoriginError(f"{what}: its {name} names {shard}, which is not there; take a complete copy")
    shards = sorted(set(places.values()))
    held = {shard: _header(directory / shard, what)[0].keys() for shard in shards}
    for weight, shard in places.items():
        if weight not in held[shard]:
            raise SinkoriginError(
                f"{what}: its {name} lists {weight} in {shard}, which does not hold it; take an intact copy"
            )
    for shard in shards:
        for weight in held[shard]:
            if places.get(weight, shard) != shard:
                raise SinkoriginError(
                    f"{what}: its {shard} holds {weight}, which its {name} lists in {places[weight]}; take an intact copy"
                )
    return [directory / shard for shard in shards]


def _check_dtypes(files: list[Path], what: str) -> None:
    """Refuse weights of a quantised type, which transformers would cast as if they were plain numbers."""
    for path in files:
        for name, facts in _header(path, what)[0].items():
            # masks and positions may be integers, weights may not
            integers = facts["dtype"] in _INTEGERS and not name.endswith("weight")
            if facts["dtype"] not in _FLOATS and not integers:
                raise SinkoriginError(
                    f"{what}: {name} in its {path.name} is quantised ({facts['dtype']}); choose the unquantised model, or a "
                    "GGUF file, which is dequantised"
                )


def _check_depth(config: Mapping[str, Any], files: list[Path], what: str) -> None:
    """Refuse a config.json with more layers than there are tensors, before transformers makes an object of each of them."""
    layers = stated(text_config(config), "layers")
    tensors = sum(len(_header(path, what)[0]) for path in files)
    if isinstance(layers, int) and layers > tensors:
        raise SinkoriginError(
            f"{what}: its config.json has {layers} layers, but its weights are {tensors} tensors; take config.json and weights "
            "that save_pretrained saved together"
        )


def check_loaded(
    model,
    info: Mapping[str, Any],
    what: str,
    remedy: str = "take config.json and weights that save_pretrained of the causal language model saved together",
) -> None:
    """Check that a loaded model took all of its weights from its checkpoint, and the checkpoint has no others.

    Args:
        info: what ``from_pretrained(..., output_loading_info=True)`` returned beside the model. Tied weights, and those
            that the class declares ignorable, are not in it.
        remedy: what to do where the names of the weights do not show it.

    Raises:
        SinkoriginError: weights are missing, unknown or of another shape; with their names and number.
    """
    missing = info["missing_keys"]
    unexpected = {name for name in info["unexpected_keys"] if not name.endswith(_CONSTANT)}
    reshaped = {f"{name} ({list(found)}, not {list(needed)})" for name, found, needed in info["mismatched_keys"]}
    parts = [
        f"{len(names)} {fault} ({listed(sorted(names), 3)})"
        for names, fault in ((missing, "missing"), (unexpected, "unknown to it"), (reshaped, "of another shape"))
        if names
    ]
    if not parts:
        return
    for prefix, advice in _PREFIXES.items():
        if unexpected and all(name.startswith(prefix) for name in unexpected):
            remedy = advice
    raise SinkoriginError(f"{what}: its weights do not fit {type(model).__name__}: {', '.join(parts)}; {remedy}")


def load_weights(directory: Path, what: str, *, trust_remote_code: bool, **where):
    """Load the causal language model in ``directory``, every weight of it from there.

    Args:
        where: arguments of ``from_pretrained``, such as dtype and device_map. With device_map ``{"": "meta"}`` names and
            shapes are read only.

    Raises:
        SinkoriginError: something is missing, left over, of another shape, quantised or damaged.
    """
    config = read_config(directory, what)
    files = weight_files(directory, what)
    _check_dtypes(files, what)
    _check_depth(config, files, what)
    with library_errors(f"{what} cannot be loaded as a causal language model", "check its source in the config"):
        register_variant(config)
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # refused below, with their names
            output_loading_info=True,
            **where,
        )
    model, info = loaded
    check_loaded(model, info, what)
    return model


def check_finite(directory: Path, what: str) -> None:
    """Check that no weight is NaN or infinite, reading a block of them at a time.

    Raises:
        SinkoriginError: one is; with the names of the tensor and its rows.
    """
    import torch

    for path in weight_files(directory, what):
        header, begin = _header(path, what)
        with path.open("rb") as stream:
            for name, facts in header.items():
                rows, *rest = facts["shape"] or [1]
                width = math.prod(rest)
                if facts["dtype"] not in _FLOATS or rows * width == 0 or name.endswith(_CONSTANT):
                    continue
                dtype = getattr(torch, _FLOATS[facts["dtype"]])
                stream.seek(begin + facts["data_offsets"][0])
                step = max(1, _BLOCK // width)
                bad: list[int] = []
                for start in range(0, rows, step):
                    block = torch.empty(min(step, rows - start), width, dtype=dtype)
                    stream.readinto(block.view(torch.uint8).numpy().data)
                    # the bounds are NaN where a number is, and are found much faster than isfinite of all numbers
                    if not all(bound.isfinite() for bound in torch.aminmax(block)):
                        found = ~block.isfinite().all(dim=1)
                        bad += (start + found.nonzero().flatten()).tolist()
                if bad:
                    raise SinkoriginError(
                        f"{what}: {name} in its {path.name} has NaN or infinite numbers in {len(bad)} of its {rows} rows "
                        f"({listed(bad, 3)}); choose intact weights, or set rows that no token uses to 0 and save the model"
                    )
