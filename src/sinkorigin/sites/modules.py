"""Ends of modules where hidden states can be seen and edited, and the matrices of modules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Place:
    """Input or output of a module, times a number where the block scales what it adds to the residual stream (Granite)."""

    module: nn.Module
    end: Literal["input", "output"]
    scale: float = 1.0

    def hook(self, see: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``see`` with the hidden states here in every forward pass, until the handle is removed.

        What ``see`` returns takes their place, unless it is None.
        """

        def before(module, args, kwargs):
            old = first_tensor(args, kwargs)
            new = self._seen(see, old)
            return None if new is None else replace_first_tensor(args, kwargs, new)

        def after(module, args, output):
            new = self._seen(see, output_tensor(output))
            return (new, *output[1:]) if new is not None and isinstance(output, tuple | list) else new

        if self.end == "input":
            return self.module.register_forward_pre_hook(before, with_kwargs=True)
        return self.module.register_forward_hook(after)

    def _seen(self, see: Callable[[Tensor], Tensor | None], values: Tensor) -> Tensor | None:
        """What takes the place of ``values``, or None."""
        if self.scale == 1:
            return see(values)
        new = see(values * self.scale)
        return None if new is None else new / self.scale


@dataclass(frozen=True)
class MatrixInput(Place):
    """What the matrix of a module is multiplied with: its input, or what a module with a norm or a gate of its own makes of it.

    Such a module has a method ``matrix_input`` of the arguments that it is called with. What it makes can be seen, not edited.
    """

    def hook(self, see: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``see`` with what the matrix is multiplied with in every forward pass, until the handle is removed."""
        matrix_input = getattr(self.module, "matrix_input", None)
        if matrix_input is None:
            return super().hook(see)
        return self.module.register_forward_pre_hook(
            lambda module, args, kwargs: self._show(see, matrix_input(*args, **kwargs)), with_kwargs=True
        )

    @staticmethod
    def _show(see: Callable[[Tensor], Tensor | None], values: Tensor) -> None:
        see(values)


@dataclass(frozen=True)
class Projection:
    """Matrix of a module, or the part of a fused matrix that makes the outputs ``start`` to ``stop``."""

    module: nn.Module
    start: int = 0
    stop: int | None = None

    def weight(self) -> Tensor:
        """(outputs, inputs) float32 on the CPU, whatever layout and precision the module keeps."""
        weight = self.module.get_parameter("weight").detach()
        weight = weight.T if isinstance(self.module, Conv1D) else weight
        return weight[self.start : self.stop].to("cpu", torch.float32)


def has_matrix(module: nn.Module) -> bool:
    """Whether the module, or a module in it, has a parameter of two or more axes."""
    return any(parameter.ndim >= 2 for parameter in module.parameters())


def is_norm(module: nn.Module) -> bool:
    """Whether the module has parameters of one axis only, as a norm and unlike attention, an FFN or dropout."""
    return any(True for _ in module.parameters()) and not has_matrix(module)


def is_projection(module: nn.Module) -> bool:
    """Whether the module is one matrix (a Linear or GPT-2's Conv1D), not a container and not a stack of experts."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not any(True for _ in module.children())


def first_tensor(args, kwargs) -> Tensor | None:
    """Hidden states among a module's arguments: the first floating-point tensor, positional or named."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    return None


def output_tensor(output) -> Tensor | None:
    """Hidden states in what a module returned: the tensor, or the first one of a tuple."""
    if isinstance(output, tuple | list):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) and output.is_floating_point() else None


def replace_first_tensor(args: tuple, kwargs: dict, value: Tensor) -> tuple[tuple, dict]:
    """Arguments of a module with ``value`` in place of what :func:`first_tensor` finds, which must not be None."""
    old = first_tensor(args, kwargs)
    args = tuple(value if given is old else given for given in args)
    return args, {name: value if given is old else given for name, given in kwargs.items()}
