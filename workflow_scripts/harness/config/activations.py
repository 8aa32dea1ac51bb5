"""The section ``activations``: what is extracted from every model on every prompt set."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.config.values import Strict, first_repeated, not_rising, refuse
from sinkorigin.sites.registry import SITES

Site = Literal[*SITES]  # type: ignore[valid-type]


class KeptSite(Strict):
    """A site of which raw vectors are kept. The summaries (norms, dominance ratios, scores…) cover all of it anyway."""

    site: Site = Field(description="The site, see docs/science.md.")
    sequences: int | None = Field(None, ge=0, description="Keep the first so many sequences raw; null keeps all.")
    positions: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="Keep these positions raw, in rising order; null keeps all, of longer prompts the first 2,048.",
    )

    @model_validator(mode="after")
    def _rising(self):
        refuse(not_rising("positions", self.positions or []))
        return self


class Activations(Strict):
    """What is extracted from every model on every prompt set."""

    batch: int = Field(8, ge=1, description="Sequences in one forward pass; it bounds memory.")
    sites: list[KeptSite] = Field(min_length=1, description="The sites.")

    @model_validator(mode="after")
    def _needed(self):
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        names = [kept.site for kept in self.sites]
        if twice := first_repeated(names):
            yield f"sites names {twice} twice; merge the two entries"
        for site in ("value_aggregation", "output_projection_output"):
            if site not in names:
                yield f"sites lacks {site}, which the statistics read; add it"
            elif site not in self.variance_sites:
                yield (
                    f"{site} must be kept at position 0 and others of at least 2 sequences, because its variance by "
                    "position is computed from them; set positions and sequences: null"
                )
        if any(kept.site == "value_aggregation" and kept.positions is not None for kept in self.sites):
            yield (
                "value_aggregation must be kept at all positions, because the fall of its variance with position is "
                "what is tested; set positions: null"
            )

    @property
    def variance_sites(self) -> list[str]:
        """Sites kept at position 0 and another one, of at least two sequences: those that have a variance by position."""
        return [
            kept.site
            for kept in self.sites
            if (kept.sequences is None or kept.sequences >= 2)
            and (kept.positions is None or (0 in kept.positions and len(set(kept.positions)) > 1))
        ]
