"""How many sequences run together, and how many queries at a time, so that attention weights stay small whatever the length of the prompts."""

ATTENTION_BYTES = 1 << 28  # of one layer's float32 attention weights, of which a pass holds a few copies

# Bytes of the float32 weights of one block of queries. On a CPU a block stays in the cache: on SmolLM2's heads, of 4,096 tokens, blocks of 8 MiB
# take 1.35 times as long as PyTorch's fused attention, those of 16 MiB 1.5. A GPU is the faster the more it computes at once.
_BLOCK_BYTES_CPU = 1 << 23
# Of a block with one head, even where it has more bytes than that: a product with fewer rows reads its keys from memory for too little work. Of
# 32,768 tokens, 64 queries take 1.58 times as long as fused attention, 128 1.47, 256 1.49.
_FEWEST_QUERIES_CPU = 128
_FEWEST_QUERIES = 256  # of a block with several heads


def fitting_batch(batch: int, heads: int, length: int) -> int:
    """The number of sequences of one forward pass: ``batch``, or fewer where prompts are long.

    Tables do not depend on it but for the last bits of sums over sequences, and for edits that mix the sequences of a batch.
    With 9 heads, 8 sequences run together up to T = 965, one at a time from T = 1,931 on.

    Args:
        heads: query heads of a layer.
        length: tokens in a sequence, T.
    """
    return max(1, min(batch, ATTENTION_BYTES // (4 * heads * length**2)))


def in_blocks(sequences: int, heads: int, queries: int, keys: int) -> bool:
    """Whether the attention of one layer is computed a block of queries at a time: where its weights have more than ``ATTENTION_BYTES``.

    With 9 heads, one sequence is from T = 2,731 on.
    """
    return 4 * sequences * heads * queries * keys > ATTENTION_BYTES


def block_shape(
    sequences: int, heads: int, queries: int, keys: int, *, on_cpu: bool, heads_together: bool = False
) -> tuple[int, int]:
    """Heads and queries of one block. They depend on sizes and device alone, and so do the last bits of what is computed.

    Args:
        sequences, heads, queries, keys: sizes of one layer's attention weights.
        on_cpu: whether it is computed on a CPU, where few heads and some queries of each are fastest.
        heads_together: whether a block has all heads.
    """
    rows = (_BLOCK_BYTES_CPU if on_cpu else ATTENTION_BYTES) // (4 * sequences * keys)  # one of each head
    together = heads if heads_together else max(1, min(heads, rows // _FEWEST_QUERIES))
    return together, max(1, min(queries, max(rows // together, _FEWEST_QUERIES_CPU if on_cpu and together == 1 else 1)))
