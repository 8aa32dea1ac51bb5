"""How far two computations of one quantity may differ by rounding."""

import torch


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference that rounding in ``dtype`` explains."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 3e-2
