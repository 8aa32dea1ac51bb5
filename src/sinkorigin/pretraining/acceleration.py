"""Choice of precision and compilation, by what the machine is, never by timing it.

A decision by timing could fall differently under another load, and the results with it.
"""

import os
import shutil

import torch

from sinkorigin.errors import SinkoriginError

# Compiling takes about as long for each layer whatever its size, and saves a share of the time of every step. So it pays
# from so many parameters × tokens for each layer on.
_COMPILE_FROM = {"cpu": 2e12, "cuda": 1e15}


def resolve_dtype(dtype: str, device: str) -> tuple[str, str]:
    """Precision and the reason for it; ``auto`` is bfloat16 where the processor has instructions for it, else float32."""
    if dtype != "auto":
        return dtype, f"{dtype}, as the config says"
    if device.startswith("cuda"):
        capability = torch.cuda.get_device_capability()
        fast, what = capability >= (8, 0), f"a GPU of compute capability {capability[0]}.{capability[1]}"
    else:
        flags = [flag for flag in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(flag)]
        fast, what = bool(flags), f"a CPU with {flags[0]}" if flags else "a CPU without avx512_bf16 or amx_bf16"
    chosen = "bfloat16" if fast else "float32"
    return chosen, f"{chosen}, because this is {what}"


def compiler_of(device: str) -> str | None:
    """Compiler that torch.compile would use on this machine, or None."""
    if device.startswith("cuda"):
        try:
            import triton  # noqa: F401
        except ImportError:
            return None
        return "triton" if torch.cuda.get_device_capability() >= (7, 0) else None
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def resolve_compile(
    compile_: bool | str, device: str, *, parameters: int, layers: int, tokens: int
) -> tuple[bool, str]:
    """Whether to compile and the reason; ``auto`` does where there is a compiler and the run is long enough to pay for it.

    Args:
        parameters, layers: of the model.
        tokens: training tokens of the whole run, also where it goes on from a state, so that it goes on as it began.

    Raises:
        SinkoriginError: compilation is set and there is no compiler.
    """
    compiler = compiler_of(device)
    if compile_ is True and compiler is None:
        raise SinkoriginError(
            f"compile is true, but there is no {'Triton' if device.startswith('cuda') else 'C++ compiler'} on this "
            "machine; install one, or set compile: auto in the config"
        )
    if isinstance(compile_, bool):
        return compile_, f"{'compiled' if compile_ else 'not compiled'}, as the config says"
    if compiler is None:
        return False, "not compiled, because there is no compiler"
    work, least = parameters * tokens, _COMPILE_FROM[device.split(":")[0]] * layers
    what, sign = ("compiled", "≥") if work >= least else ("not compiled", "<")
    return work >= least, f"{what}, because parameters × tokens {work:.1e} {sign} {least:.1e}"
