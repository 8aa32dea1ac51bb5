"""Bigram-backcopy task (Guo et al. 2024, "Active-Dormant Attention Heads", §2), a stream in which sinks form quickly.

Tokens are characters. The first one of a document is drawn from the corpus' frequencies without the triggers. After a
trigger comes the character that stood before the trigger (*backcopy*); after any other, one drawn from the corpus'
bigrams. So an attention head has work to do at the triggers only, and elsewhere must attend to something that does no
harm. Two triggers never stand side by side.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sinkorigin.errors import SinkoriginError
from sinkorigin.pretraining.data import SPLITS, token_directory, training_texts
from sinkorigin.pretraining.tokenizer import END_OF_TEXT, save_tokenizer

DOCUMENT = 1024  # tokens of a document with its end, so that few training windows hold one
_CHAINS = 4096  # documents that are sampled side by side


@dataclass(frozen=True)
class Task:
    """Distribution that the stream is drawn from. Id 0 is the end-of-text token; then come the characters."""

    characters: list[str]  # of the ids from 1 on, the most frequent first; V is their number and one
    triggers: int  # number of triggers, which are the ids 1 … ``triggers``
    start: np.ndarray  # (V,) probabilities of a document's first token, 0 for triggers
    bigrams: np.ndarray  # (V, V) probabilities of the next token; the rows of the triggers are not used


def estimate(documents: str | Path, *, vocabulary: int, triggers: int) -> Task:
    """Task from the characters and bigrams of the training split of a table of documents.

    Characters beyond the ``vocabulary - 1`` most frequent ones are left out of the text.

    Raises:
        SinkoriginError: the text has too few different characters.
    """
    counts: Counter[str] = Counter()
    for text in training_texts(documents):
        counts.update(text)
    characters = sorted(counts, key=lambda character: (-counts[character], character))[: vocabulary - 1]
    if len(characters) < triggers + 2:
        raise SinkoriginError(
            f"{documents} has {len(characters)} different characters, but {triggers} triggers and at least 2 others are "
            "needed; lower triggers in the config or take a larger corpus"
        )
    size = len(characters) + 1
    ids = np.zeros(0x110000, dtype=np.int64)  # of every code point; 0: left out
    ids[[ord(character) for character in characters]] = np.arange(1, size)
    pairs = np.zeros(size * size)
    for text in training_texts(documents):
        row = ids[np.frombuffer(text.encode("utf-32-le", errors="replace"), dtype="<u4")]
        row = row[row > 0]
        pairs += np.bincount(row[:-1] * size + row[1:], minlength=size * size)
    frequencies = np.array([0, *(counts[character] for character in characters)], dtype=np.float64)
    bigrams = pairs.reshape(size, size)
    bigrams[bigrams.sum(axis=1) == 0] = frequencies  # a character that never has a successor
    start = frequencies.copy()
    start[1 : 1 + triggers] = 0
    return Task(characters, triggers, start / start.sum(), bigrams / bigrams.sum(axis=1, keepdims=True))


def sample(task: Task, *, documents: int, generator: np.random.Generator) -> np.ndarray:
    """Ids (documents, ``DOCUMENT - 1``) of independent chains, drawn side by side."""
    last = 1 - 1e-12  # sums of probabilities may end a rounding error below 1
    start, bigrams = np.minimum(np.cumsum(task.start), last), np.minimum(np.cumsum(task.bigrams, axis=1), last)
    start[-1] = bigrams[:, -1] = 1
    drawn = np.empty((DOCUMENT - 1, documents), dtype=np.int64)
    drawn[0] = np.searchsorted(start, generator.random(documents), side="right")
    for i in range(1, len(drawn)):
        now = drawn[i - 1]
        following = (bigrams[now] <= generator.random(documents)[:, None]).sum(axis=1)  # (documents, V) compared
        drawn[i] = np.where(now <= task.triggers, drawn[i - 2], following)
    return drawn.T


def entropies(task: Task) -> dict[str, float]:
    """Losses that no model can beat, in nats per token, expected over whole documents.

    With n_t(a) the probability that character a, no trigger, stands at place t, and g_t(a) that a trigger stands there
    after a: n_{t+1}(b) = Σ_a n_t(a) P(a, b) + g_t(b), and g_{t+1}(a) = n_t(a) Σ_triggers P(a, ·). The entropy of a
    token is that of P(a, ·) after a, and 0 after a trigger.

    Returns:
        overall: of all tokens; the end of a document counts 0, it is known from the place.
        after_others: of the tokens after characters that are no triggers.
        without_copying: what the best bigram model reaches, which knows the trigger but not what stood before it.
        trigger_share: share of the tokens that are triggers (of 1).
    """
    is_trigger = np.zeros(len(task.start), dtype=bool)
    is_trigger[1 : 1 + task.triggers] = True
    ordinary, to_trigger = task.bigrams.copy(), task.bigrams[:, is_trigger]  # (V, V), (V, triggers)
    ordinary[:, is_trigger] = 0
    n, g = task.start, np.zeros_like(task.bigrams[:, is_trigger])  # (V,), (V, triggers)
    others = np.zeros_like(n)  # Σ_t n_t over the places that are followed by a character
    triggered = np.zeros_like(g)
    for _ in range(DOCUMENT - 2):
        others += n
        triggered += g
        n, g = n @ ordinary + g.sum(axis=1), n[:, None] * to_trigger
    after = float(others @ _entropy(task.bigrams))
    overall = (after + float(_entropy(task.start))) / DOCUMENT
    mass = triggered.sum(axis=0)  # (triggers,)
    copied = float(mass @ _entropy((triggered / np.maximum(mass, 1e-300)).T))
    return {
        "overall": overall,
        "after_others": after / float(others.sum()),
        "without_copying": overall + copied / DOCUMENT,
        "trigger_share": float(mass.sum() + g.sum()) / DOCUMENT,
    }


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy along the last axis, nats."""
    return -(probabilities * np.log(np.where(probabilities > 0, probabilities, 1))).sum(axis=-1)


def save_character_tokenizer(characters: Sequence[str], destination: str | Path) -> None:
    """Write a tokenizer of single characters: the end-of-text token has id 0, then one id a character.

    Characters that it does not know are left out of a text.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate([END_OF_TEXT, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END_OF_TEXT))
    tokenizer.normalizer = normalizers.Replace(Regex(f"[^{''.join(map(re.escape, characters))}]"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?m:.)"), "isolated")  # Oniguruma's m: . is any character
    tokenizer.decoder = decoders.Fuse()
    save_tokenizer(tokenizer, destination)


def make_bigram_backcopy(
    documents: str | Path,
    tokenizer_destination: str | Path,
    tokens_destination: str | Path,
    *,
    vocabulary: int,
    triggers: int,
    tokens: int,
    validation_tokens: int,
    seed: int,
) -> None:
    """Write the task's tokenizer and token files; ``meta.json`` has its triggers and entropies too.

    Args:
        documents: the table whose training split gives characters and bigrams.
        vocabulary: number of tokens, the end-of-text token among them; fewer where the text has fewer characters.
        triggers: number of triggers, the most frequent characters.
        tokens, validation_tokens: numbers of the two splits, documents' ends included.

    Raises:
        SinkoriginError: the text has too few different characters.
    """
    task = estimate(documents, vocabulary=vocabulary, triggers=triggers)
    save_character_tokenizer(task.characters, tokenizer_destination)
    size = len(task.characters) + 1
    with token_directory(tokens_destination, Path(tokenizer_destination), vocabulary=size, eos=0) as writer:
        for number, (split, wanted) in enumerate(zip(SPLITS, (tokens, validation_tokens), strict=True)):
            for block, before in enumerate(range(0, wanted, _CHAINS * DOCUMENT)):
                left = min(wanted - before, _CHAINS * DOCUMENT)
                generator = np.random.default_rng((seed, number, block))
                for chain in sample(task, documents=-(-left // DOCUMENT), generator=generator):
                    writer.write(split, chain[: left - 1])  # the last document is cut
                    left -= DOCUMENT
        writer.facts = {
            "task": "bigram_backcopy",
            "triggers": {character: number for number, character in enumerate(task.characters[:triggers], 1)},
            "nats_per_token": entropies(task),
        }
