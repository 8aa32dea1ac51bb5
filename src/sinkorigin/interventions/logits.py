"""Logits of a pass, a block of positions at a time: with a large vocabulary, all of them would be most of what a job holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sinkorigin.interventions.replay import Replay

_COMPUTED = 1 << 25  # logits that are computed together, 128 MB in float32
_READ = 1 << 22  # log-probabilities that are held at once, 16 MB


@dataclass(frozen=True)
class LogitBlock:
    """Logits (n, q, V) of some sequences at some positions of a pass."""

    sequences: slice
    positions: slice
    logits: Tensor


def logit_blocks(replay: Replay, token_ids: Tensor, last: Tensor) -> Iterator[LogitBlock]:
    """All logits of a pass, in order of sequences and positions; in one block where they are few.

    Args:
        replay: an active one, which has run the pass.
        token_ids: (N, Q).
        last: (N, Q, d) residual stream that leaves the last layer.
    """
    sequences, positions = token_ids.shape
    most = max(1, _COMPUTED // replay.architecture.model.config.get_text_config().vocab_size)
    together, step = max(1, most // positions), min(most, positions)
    for n in range(0, sequences, together):
        for start in range(0, positions, step):
            block = slice(n, min(n + together, sequences)), slice(start, min(start + step, positions))
            yield LogitBlock(*block, replay.logits(token_ids[block], last[block]))


def _rows(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """Sequence and positions of parts of (n, q, V) logits, whose log-probabilities are held at once."""
    step = max(1, _READ // logits.shape[-1])
    for n in range(len(logits)):
        for start in range(0, logits.shape[1], step):
            yield n, slice(start, start + step)


def log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability (n, q) of one token at each position, by (n, q, V) logits."""
    found = torch.empty(tokens.shape, device=logits.device)
    for part in _rows(logits):
        found[part] = torch.log_softmax(logits[part].float(), dim=-1).gather(-1, tokens[part].unsqueeze(-1))[..., 0]
    return found


@dataclass(frozen=True)
class KeptLogits:
    """Logits of the unedited pass of a batch in a file, of which a part is read at a time.

    Attributes:
        file: (N, T, V) numbers in C order.
        length, vocabulary: T and V.
        dtype: their type.
    """

    file: Path
    length: int
    vocabulary: int
    dtype: torch.dtype

    def read(self, sequence: int, positions: slice) -> Tensor:
        """Logits (q, V) of one sequence."""
        found = torch.empty(positions.stop - positions.start, self.vocabulary, dtype=self.dtype)
        with self.file.open("rb") as stream:
            stream.seek((sequence * self.length + positions.start) * self.vocabulary * self.dtype.itemsize)
            stream.readinto(found.view(torch.uint8).numpy().data)
        return found


def keep_logits(replay: Replay, token_ids: Tensor, last: Tensor, file: Path) -> tuple[KeptLogits, Tensor]:
    """Write the logits of an unedited pass to a file.

    Args:
        replay, token_ids, last: as for :func:`logit_blocks`.

    Returns:
        The logits, and the log-probability (N, T − 1) of each next token.
    """
    following = torch.empty(token_ids[:, 1:].shape, device=token_ids.device)
    with file.open("wb") as stream:
        for block in logit_blocks(replay, token_ids, last):
            stream.write(block.logits.cpu().contiguous().view(torch.uint8).numpy().data)
            add_following(following, token_ids, block)
            vocabulary, dtype = block.logits.shape[-1], block.logits.dtype
            del block  # before the next one is computed
    return KeptLogits(file, token_ids.shape[1], vocabulary, dtype), following


def add_following(following: Tensor, token_ids: Tensor, block: LogitBlock) -> None:
    """Put the log-probabilities of the next tokens by a block into (N, T − 1) of them; the last position has no next token."""
    within = block.sequences, slice(block.positions.start, min(block.positions.stop, following.shape[1]))
    tokens = token_ids[:, 1:][within]
    following[within] = log_probabilities(block.logits[:, : tokens.shape[1]], tokens)


def divergences(block: LogitBlock, offset: int, unedited: KeptLogits) -> Tensor:
    """Kullback-Leibler divergence (n, q) of the edited logits of a block from the unedited ones.

    Args:
        offset: position of the block's pass at which it begins.
    """
    found = torch.empty(block.logits.shape[:2], device=block.logits.device)
    for n, rows in _rows(block.logits):
        start = offset + block.positions.start + rows.start
        now = torch.log_softmax(block.logits[n, rows].float(), dim=-1)
        kept = unedited.read(block.sequences.start + n, slice(start, start + len(now))).to(now.device)
        before = torch.log_softmax(kept.float(), dim=-1)
        found[n, rows] = torch.nn.functional.kl_div(now, before, reduction="none", log_target=True).sum(dim=-1)
    return found
