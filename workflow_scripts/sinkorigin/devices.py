"""Which device jobs ask for, told without importing PyTorch."""

from pathlib import Path


def resolve_device(device: str) -> str:
    """``auto`` → "cuda" where a GPU of NVIDIA's is visible on this machine, else "cpu"; other values as they are."""
    if device != "auto":
        return device
    return "cuda" if Path("/dev/nvidia0").exists() else "cpu"
