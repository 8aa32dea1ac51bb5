"""The device that jobs run models on, found without importing PyTorch."""

import os
from pathlib import Path


def gpu_visible() -> bool:
    """Whether this machine shows a GPU that PyTorch may use: NVIDIA's, also under WSL, or AMD's."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/dev", name).exists() for name in ("dxg", "kfd"))


def resolve_device(device: str) -> str:
    """``auto`` → "cuda" where a GPU is visible on this machine, else "cpu"; other values as they are."""
    if device != "auto":
        return device
    return "cuda" if gpu_visible() else "cpu"
