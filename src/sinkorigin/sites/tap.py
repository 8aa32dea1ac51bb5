"""What sees and edits the attention of a running model, wherever that is computed."""

from torch import Tensor


class Tap:
    """Observer or editor of attention calls; every method does nothing unless overridden.

    ``offset`` is the position of the first query (not 0 while generating with a key-value cache).
    """

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

    def observe(self, layer: int, query: Tensor, key: Tensor, weights: Tensor, aggregation: Tensor) -> None:
        """Receive query (N, H, T, d_k) and key (N, H, S, d_k) after RoPE, weights (N, H, T, S) and edited aggregation."""
