"""What sees and edits the attention of a running model, wherever that is computed."""

from torch import Tensor


class Tap:
    """Observer or editor of attention calls; every method does nothing unless overridden.

    ``offset`` is the position of the first query (not 0 while generating with a key-value cache).

    Attributes:
        whole_matrix: whether ``observe`` and ``edit_logits`` need all weights or logits of a layer at once. Where no tap of a layer does,
            long sequences are attended a block of queries at a time, and no T × T matrix is made.
    """

    whole_matrix = True

    def edit_keys(self, layer: int, keys: Tensor, offset: int) -> Tensor:
        """Edit the keys (N, H, S, d_k) after RoPE, repeated for grouped queries, before the logits; return the ones to use.

        Not called where attention is seen inside a class's own eager attention.
        """
        return keys

    def observe_values(self, layer: int, values: Tensor) -> None:
        """Receive the values (N, H_kv, S, d_v) that are aggregated: one head for all queries of a group, or repeated for them
        where a class's own eager attention does so."""

    def edit_logits(self, layer: int, logits: Tensor, offset: int) -> Tensor:
        """Edit the masked attention logits (N, H, T, S) before the softmax; return the logits to use."""
        return logits

    def edit_aggregation(self, layer: int, aggregation: Tensor, offset: int) -> Tensor:
        """Edit the value aggregation (N, H, T, d_k) before W_O; return the one to use."""
        return aggregation

    def observe_weights(self, layer: int, weights: Tensor, head: int, query: int, key: int) -> None:
        """Receive attention weights (N, h, b, s): the whole matrix, or one of the blocks that it consists of.

        Args:
            head, query, key: numbers of its first head, query and key. Its queries give every other key the weight 0.
        """

    def observe(self, layer: int, query: Tensor, key: Tensor, weights: Tensor | None, aggregation: Tensor) -> None:
        """Receive query (N, H, T, d_k) and key (N, H, S, d_k) after RoPE, weights (N, H, T, S) and edited aggregation.

        Weights are None where they came in blocks, to a tap that does without ``whole_matrix``.
        """
