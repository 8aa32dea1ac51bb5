"""Watching the sites of a model while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.architecture import Architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.definitions import attention
from sinkorigin.sites.modules import Place
from sinkorigin.sites.site import AttentionCall, AttentionSite, ModuleSite, load_site


class _AttentionTap(Tap):
    """Hands on the sites inside the attention function, and queries, keys, weights and values of every layer."""

    def __init__(self, sites: Sequence[AttentionSite], on_site, on_attention, on_values, on_weights):
        self._sites, self._on_site = sites, on_site
        self._on_attention, self._on_values, self._on_weights = on_attention, on_values, on_weights
        self.whole_matrix = on_weights is None or attention.SITE in sites

    def observe_values(self, layer, values):
        self._on_values(layer, values)

    def observe_weights(self, layer, weights, head, query, key):
        if self._on_weights is not None:
            self._on_weights(layer, weights, head, query, key)

    def observe(self, layer, query, key, weights, aggregation):
        call = AttentionCall(query, key, weights, aggregation)
        for site in self._sites:
            self._on_site(layer, site.name, site.select(call).transpose(1, 2).flatten(2))  # (N, T, H·width)
        self._on_attention(layer, query, key, weights)


@contextmanager
def watch_sites(
    architecture: Architecture,
    sites: Sequence[str],
    on_site: Callable[[int, str, Tensor], None],
    on_attention: Callable[[int, Tensor, Tensor, Tensor | None], None] = lambda layer, query, key, weights: None,
    on_values: Callable[[int, Tensor], None] = lambda layer, values: None,
    on_weights: Callable[[int, Tensor, int, int, int], None] | None = None,
) -> Iterator[None]:
    """Call ``on_site(layer, site, tensor)`` with every (N, T, width) tensor of ``sites`` as the model runs.

    ``residual`` is also reported for layer -1, the embedding. ``on_attention(layer, query, key, weights)`` gets the
    (N, H, T, d_k) queries and keys after rotary embedding and the (N, H, T, T) attention weights, and before that
    ``on_values(layer, values)`` the (N, H_kv, T, d_v) values. Edits by taps that were set earlier are seen. A site that a
    layer lacks is not reported.

    Args:
        sites: names of sites; those inside the attention function, and those that ``architecture`` was read for.
        on_weights: gets the attention weights too, as :meth:`Tap.observe_weights` does, with the numbers of their first head, query and key.
            Where it is given, those of long prompts come in blocks, and ``on_attention`` gets None in their place; unless the site
            ``attention`` is watched, which is the whole matrix.

    Raises:
        SinkoriginError: there is no site of that name, or ``architecture`` was not read for it.
    """
    loaded = [load_site(site) for site in sites]
    with ExitStack() as stack:
        for site in loaded:
            if not isinstance(site, ModuleSite):
                continue
            if site.name not in architecture.places[0] and site.name not in architecture.missing[0]:
                raise SinkoriginError(
                    f"the site {site.name} was not looked for in this model; name it in read_architecture(..., sites=[...])"
                )
            places = {layer: found[site.name] for layer, found in enumerate(architecture.places) if site.name in found}
            if site.before_blocks:
                places[-1] = Place(architecture.blocks[0], "input")
            for layer, place in places.items():
                stack.callback(place.hook(partial(on_site, layer, site.name)).remove)
        in_attention = [site for site in loaded if isinstance(site, AttentionSite)]
        with architecture.tapped(_AttentionTap(in_attention, on_site, on_attention, on_values, on_weights)):
            yield


def check_finite(values: Tensor, model: str, site: str, layer: int) -> None:
    """Check that the numbers of a site are finite, by their sum, which is as telling as all its terms, and one pass.

    Raises:
        SinkoriginError: they are not.
    """
    if not torch.isfinite(values.sum(dtype=torch.float32)):
        raise SinkoriginError(
            f"model {model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
        )
