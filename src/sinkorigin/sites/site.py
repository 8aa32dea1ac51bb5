"""What a module in ``sites/definitions/`` declares as ``SITE``: a name and where in a model the site can be seen."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple

from torch import Tensor

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.block import Block, Lacking
from sinkorigin.sites.modules import Place

DEFINITIONS = "sinkorigin.sites.definitions"


@dataclass(frozen=True)
class ModuleSite:
    """Site that is the input or the output of a module in each block."""

    name: str  # of the module that defines it
    find: Callable[[Block], Place | Lacking]  # its place in a block that was probed, or why the block lacks it
    before_blocks: bool = False  # whether the input of the first block is the site at layer -1


class AttentionCall(NamedTuple):
    """Tensors of one call of the attention function; each field is the site that has its name."""

    query: Tensor  # (N, H, T, d_k), after RoPE
    key: Tensor  # (N, H, T, d_k), after RoPE, repeated for grouped queries
    attention: Tensor  # (N, H, T, T)
    value_aggregation: Tensor  # (N, H, T, d_k), before W_O


@dataclass(frozen=True)
class AttentionSite:
    """Site inside the attention function."""

    name: str  # of the module that defines it
    select: Callable[[AttentionCall], Tensor]  # its (N, H, T, width) tensor in a call of the attention function


def load_site(name: str) -> ModuleSite | AttentionSite:
    """Definition of the site ``name``, from the module of that name in ``sites/definitions/``.

    Raises:
        SinkoriginError: there is no such module.
    """
    try:
        return import_module(f"{DEFINITIONS}.{name}").SITE
    except ModuleNotFoundError as error:
        if error.name != f"{DEFINITIONS}.{name}":
            raise
        raise SinkoriginError(
            f"there is no site {name!r}; choose one that sinkorigin/sites/registry.py lists"
        ) from error
