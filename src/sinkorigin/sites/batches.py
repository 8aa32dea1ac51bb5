"""How many sequences run together, so that the attention weights of one layer stay small whatever the length of the prompts."""

ATTENTION_BYTES = 1 << 28  # of one layer's float32 attention weights, of which a pass holds a few copies


def fitting_batch(batch: int, heads: int, length: int) -> int:
    """The number of sequences of one forward pass: ``batch``, or fewer where prompts are long.

    Tables do not depend on it but for the last bits of sums over sequences, and for edits that mix the sequences of a batch.
    With 9 heads, 8 sequences run together up to T = 965, one at a time from T = 1,931 on.

    Args:
        heads: query heads of a layer.
        length: tokens in a sequence, T.
    """
    return max(1, min(batch, ATTENTION_BYTES // (4 * heads * length**2)))
