"""Double precision on every device."""

import torch
from torch import Tensor


def in_float64(values: Tensor) -> Tensor:
    """The numbers in float64: where they are, or on the CPU where their device has no float64, as GPUs of Apple do."""
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)
