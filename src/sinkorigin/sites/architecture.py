"""Sites and matrices of any Hugging Face causal language model, found by a short probe, without code per model class.

The attention modules are those that call the registered attention function (``attention.py``), or whose own eager attention
can be seen (``eager.py``); ``probe.py`` runs the model once and records the calls of all modules, ``block.py`` recognises the
parts of a block by the data that flow through it, and each module in ``definitions/`` says where in these parts its site is.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.attention import Tap, each_call_checked, tapped, without_taps
from sinkorigin.sites.batches import fitting_batch, in_blocks
from sinkorigin.sites.block import Block, Call, Lacking, Sum, tolerance
from sinkorigin.sites.definitions import (
    attention_input,
    attention_output,
    ffn_activation,
    ffn_input,
    ffn_output,
    output_projection_output,
    residual,
)
from sinkorigin.sites.modules import Place, Projection
from sinkorigin.sites.precision import in_float64
from sinkorigin.sites.probe import probe_blocks
from sinkorigin.sites.row_check import row_check
from sinkorigin.sites.site import AttentionCall, ModuleSite, load_site

_USUAL_HEADS = 32  # of a model whose config does not say how many it has
# found in every model, because interventions edit them and every extraction summarises some of them
_ALWAYS = tuple(
    module.SITE
    for module in (
        residual,
        attention_input,
        output_projection_output,
        attention_output,
        ffn_input,
        ffn_activation,
        ffn_output,
    )
)


@dataclass(frozen=True)
class Architecture:
    """Sites and matrices of one model.

    Attributes:
        blocks: the decoder layers, in order.
        attention: layer → its attention module, for the layers that have attention.
        eager: whether the attention is seen and edited inside the class's own eager attention, because the class does not take
            it from transformers' attention interface (``eager.py``).
        places: for each layer, site → where it can be seen, for the sites that are an input or output of a module.
        projections: for each layer, role → matrix: ``output`` (W_O), and ``gate``, ``up`` and ``down`` of the FFN. An FFN
            without a gate has no ``gate``; its first matrix is ``up``.
        norms: for each layer, what normalises the residual stream for the attention: "RMSNorm", "LayerNorm", or None.
        rows_sum_to_one: for each layer, whether the attention weights of a query do (not those of sigmoid attention, of
            softmax-off-by-one, of softpick, or beside learned sink logits); None where it has no attention.
        sums: for each layer, how its block makes the next residual stream, or the reason why that is not known.
        missing: for each layer, the reason why it has no such site, matrix or norm; under "contribution", why the FFN's
            neurons do not write their down weights to the residual stream as they are.
    """

    model: PreTrainedModel
    blocks: list[nn.Module]
    attention: dict[int, nn.Module]
    eager: bool
    places: list[dict[str, Place]]
    projections: list[dict[str, Projection]]
    norms: list[str | None]
    rows_sum_to_one: list[bool | None]
    sums: list[Sum | Lacking]
    missing: list[dict[str, str]]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """Device of the model's first parameter, where token ids have to be."""
        return next(self.model.parameters()).device

    def fitting_batch(self, batch: int, length: int) -> int:
        """Number of sequences that run together, fewer than ``batch`` where they are long; see :func:`fitting_batch`."""
        return fitting_batch(batch, self._heads, length)

    def fitting_workers(self, workers: int, length: int) -> int:
        """Number of passes that run at the same time, fewer than ``workers`` where single sequences are that long."""
        return self.fitting_batch(workers, length)

    def in_blocks(self, batch: int, length: int) -> bool:
        """Whether the attention of ``batch`` sequences of ``length`` tokens is computed in blocks of queries, see ``batches.in_blocks``.

        Never where it is the class's own eager attention that is seen, which makes the whole matrix.
        """
        return not self.eager and in_blocks(batch, self._heads, length, length)

    @property
    def _heads(self) -> int:
        """Query heads of a layer, those of the layer with the most."""
        heads = getattr(self.model.config.get_text_config(), "num_attention_heads", None) or _USUAL_HEADS
        return max(heads) if isinstance(heads, list | tuple) else heads

    def rows_checked(self, name: str) -> AbstractContextManager[None]:
        """Compare some queries of every attention call inside the block with the class's eager attention, see ``row_check``.

        Args:
            name: the model's name, for messages.
        """
        return each_call_checked(row_check(name))

    def tapped(self, *taps: Tap) -> AbstractContextManager[None]:
        """Set attention taps on every layer for the block."""
        return tapped(self.model, self.attention, *taps, eager=self.eager)

    @contextmanager
    def wrapped(self, wrap: Callable[[int, Callable], Callable]) -> Iterator[None]:
        """Let ``wrap(layer, forward)`` stand in for the forward method of every decoder block inside the with block."""
        # set by accelerate where it places a model on several devices
        replaced = [vars(block).get("forward") for block in self.blocks]
        for layer, block in enumerate(self.blocks):
            block.forward = wrap(layer, block.forward)
        try:
            yield
        finally:
            for block, before in zip(self.blocks, replaced, strict=True):
                del block.forward
                if before is not None:
                    block.forward = before

    def replica(self) -> "Architecture":
        """Copy of the architecture with copied modules, for another thread to set hooks on; it shares all weights."""
        shared = (*self.model.parameters(), *self.model.buffers())
        return copy.deepcopy(self, {id(tensor): tensor for tensor in shared})

    def forward(self, token_ids: Tensor) -> Tensor:
        """Run the decoder without its language-model head, on (N, T) ids; return its (N, T, d) hidden states."""
        with torch.no_grad():
            return self.model.base_model(input_ids=token_ids, use_cache=False)[0]

    def check_against_eager(self, token_ids: Tensor, name: str) -> None:
        """Compare the last hidden states of (N, T) ids through the attention function of the taps and through the model's.

        The probe sees few tokens; a sliding window, chunks, or a selection of keys show only in prompts as long as those that
        are run. The cost is two forward passes of ``token_ids``. Where the hidden states of both are not finite nothing is
        compared: the caller's check names the first site that is not.

        Args:
            name: the model's name, for messages.

        Raises:
            SinkoriginError: at some position the two differ by more than the model's precision explains.
        """
        with self.tapped():
            through = in_float64(self.forward(token_ids))
        with without_taps(self.model):
            eager = in_float64(self.forward(token_ids))
        if not (through.isfinite().all() or eager.isfinite().all()):
            return
        norms = torch.linalg.vector_norm(eager, dim=-1).clamp_min(1e-30)
        off = (torch.linalg.vector_norm(through - eager, dim=-1) / norms).max().item()
        if not off <= tolerance(self.model.dtype):
            half = self.model.dtype in (torch.bfloat16, torch.float16)
            remedy = "use dtype: float32, which rounds less, or another model" if half else "choose another model"
            raise SinkoriginError(
                f"model {name}: on a prompt of {token_ids.shape[1]} tokens {type(self.model).__name__} gives other hidden states "
                f"through sinkorigin's attention function than with its own eager attention (relative difference {off:.2g}), so "
                f"what would be measured is another model; {remedy}"
            )


def read_architecture(model: PreTrainedModel, name: str = "", sites: Sequence[str] = ()) -> Architecture:
    """Find the sites of ``model`` by probing it once with a few tokens.

    Args:
        name: what messages call the model; its class where empty.
        sites: names of sites to find besides those that are found in every model (``residual``, and inputs and outputs of
            attention and FFN) and those inside the attention function, which need no finding.

    Raises:
        SinkoriginError: the sites cannot be found: the model has no attention, or attention that is neither transformers'
            attention interface nor one softmax of one product in each layer's own module, lets queries see later keys, or
            carries several residual streams; or fewer than two tokens have a finite embedding; or a site does not exist.
    """
    further = [site for site in map(load_site, sites) if isinstance(site, ModuleSite)]
    blocks, eager = probe_blocks(model, name or type(model).__name__)
    found: list[dict] = [_parts(block, (*_ALWAYS, *further)) for block in blocks]

    def of_kind(kind: type) -> list[dict]:
        return [{name: part for name, part in parts.items() if isinstance(part, kind)} for parts in found]

    return Architecture(
        model=model,
        blocks=[block.stream.module for block in blocks],
        attention={
            layer: block.attention.module for layer, block in enumerate(blocks) if isinstance(block.attention, Call)
        },
        eager=eager,
        places=of_kind(Place),
        projections=of_kind(Projection),
        norms=[parts.get("norm") for parts in of_kind(str)],
        rows_sum_to_one=[block.rows_sum_to_one for block in blocks],
        sums=[block.sum for block in blocks],
        missing=[{name: part.reason for name, part in parts.items()} for parts in of_kind(Lacking)],
    )


def _parts(block: Block, sites: Sequence[ModuleSite]) -> dict[str, Place | Projection | str | Lacking]:
    """Everything that the tables say of a block: sites, matrices, the norm, and the FFN's contribution where it lacks one."""
    contribution = block.contribution()
    unattended = {} if isinstance(block.attention, Call) else dict.fromkeys(AttentionCall._fields, block.attention)
    return {
        **unattended,
        **{site.name: site.find(block) for site in sites},
        **block.matrices(),
        "norm": block.norm(),
        **({} if contribution is None else {"contribution": contribution}),
    }
