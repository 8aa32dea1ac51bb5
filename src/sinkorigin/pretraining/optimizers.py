"""Optimizers of a training: AdamW for all parameters, or Muon for the matrices of the layers and AdamW for the others."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sinkorigin.pretraining.settings import TrainingSettings

# the second moment forgets faster than PyTorch's 0.999: runs of a few thousand steps (as Llama 2's and nanoGPT's)
_BETAS = (0.9, 0.95)
_RELATIVE = "relative"  # key of a parameter group: its learning rate, relative to the run's


def build_optimizers(model: nn.Module, settings: TrainingSettings) -> list[Optimizer]:
    """Optimizers that share the parameters of a model.

    AdamW decays matrices only: not the norms, and not a variant's scales and offsets, whatever their shape. With Muon (Jordan et
    al. 2024) the matrices of the layers move along their orthogonalised momentum, by steps of the size of AdamW's (Liu et al.
    2025, arXiv 2502.16982, §2.2), so that one learning rate suits both; embedding, language-model head, norms and what else
    is no matrix stay with AdamW.
    """
    named = list(model.named_parameters())
    matrices = {name: parameter for name, parameter in named if name.endswith("weight") and parameter.dim() > 1}
    others = [parameter for name, parameter in named if name not in matrices]
    hidden = [name for name in matrices if settings.optimizer == "muon" and ".layers." in name]
    outer = [parameter for name, parameter in matrices.items() if name not in hidden]
    groups = [
        {"params": outer, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=_BETAS, fused=True)
    if not hidden:
        return [adamw]
    peak = settings.learning_rate if settings.muon_learning_rate is None else settings.muon_learning_rate
    group = {"params": [matrices[name] for name in hidden], _RELATIVE: peak / settings.learning_rate}
    return [
        adamw,
        torch.optim.Muon([group], lr=peak, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"),
    ]


def set_learning_rate(optimizers: Iterable[Optimizer], learning_rate: float) -> None:
    """Set the learning rate of a step, AdamW's; Muon's rises and falls with it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get(_RELATIVE, 1.0)


def moments(optimizers: Sequence[Optimizer], parameter: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of everything that an optimizer remembers of a parameter, without the number of steps."""
    for optimizer in optimizers:
        for name, tensor in optimizer.state.get(parameter, {}).items():
            if name != "step":
                yield name, tensor


def restore(optimizers: Sequence[Optimizer], parameter: nn.Parameter, remembered: dict[str, Tensor], step: int) -> None:
    """Let the optimizer of a parameter go on after ``step`` with what :func:`moments` gave."""
    for optimizer in optimizers:
        if any(parameter is one for group in optimizer.param_groups for one in group["params"]):
            state = {name: torch.empty_like(parameter).copy_(tensor) for name, tensor in remembered.items()}
            if isinstance(optimizer, torch.optim.AdamW):  # Muon does not count its steps
                state["step"] = torch.tensor(float(step), device=parameter.device)
            optimizer.state[parameter] = state
