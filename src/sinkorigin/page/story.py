"""The order of the page: chapters of the paper's chain, each with its claims, and the figures and charts that show them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from sinkorigin.claims.row_texts import claim_order


@dataclass(frozen=True)
class Shown:
    """Claims that are told together, and what shows them.

    Attributes:
        claims: codes of claims.
        figures, charts: their names.
    """

    claims: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    charts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """One step of the paper's argument.

    Attributes:
        name: of its anchor.
        title: in the page.
        about: what it is about, in a sentence or two.
        parts: its claims, in order.
    """

    name: str
    title: str
    about: str
    parts: tuple[Shown, ...]


CHAPTERS = (
    Chapter(
        "sink",
        "The sink",
        "Position 0 receives far more attention than uniform attention would give it. What stands there decides what can be claimed: "
        "a token that varies (drawn), the model's own BOS, or one fixed token.",
        (Shown(("C0",), ("sinks_by_first_token", "anatomy", "sinks_by_position"), ("sink_map",)),),
    ),
    Chapter(
        "variance",
        "The cause: position 0 keeps its variance",
        "Position 0 attends to itself only, so its value aggregation is one value vector. Those of later positions are averages, whose "
        "variance over sequences is smaller. The output projection W_O keeps the order.",
        (
            Shown(("C1", "C2"), ("variance_by_position",)),
            Shown(("C3",), ("variance_through_output",)),
        ),
    ),
    Chapter(
        "surge",
        "The norm surges, and the sink begins",
        "The feed-forward layers amplify the first token: its norm surges within one layer, and the sink follows.",
        (Shown(("C4",), ("norm_and_sink_by_layer",)),),
    ),
    Chapter(
        "neurons",
        "Super neurons write one or two huge dimensions",
        "A few neurons fire for the first token alone. Their down-projection weights are sparse, so that the surge lands in one or two "
        "dimensions of the residual stream.",
        (
            Shown(("C5",), ("super_neurons",)),
            Shown(("C6",), ("channel_sparsity", "dominance_ratio_by_layer", "massive_activations")),
        ),
    ),
    Chapter(
        "key",
        "The key becomes a fixed direction",
        "After normalisation such a vector is almost one dimension alone, so that the first token's key hardly depends on the token. Heads "
        "whose queries are aligned with it attend to it.",
        (Shown(("C7a", "C7b"), ("key_collapse",)), Shown(("C8",), ("query_alignment",))),
    ),
    Chapter(
        "made",
        "Making a sink elsewhere",
        "If the chain is a cause, a later position that attends to itself only, or whose variance is amplified, becomes a sink; a larger "
        "norm alone does not.",
        (
            Shown(("C9",), ("mask_by_layers_and_position", "edited_layers"), ("attention_map", "sink_under_edit")),
            Shown(
                ("C10",),
                ("conversion_curves", "sink_by_intervention", "intervention_contrasts", "dispersion_grid"),
                ("dose_response",),
            ),
        ),
    ),
    Chapter(
        "chain",
        "Link by link",
        "An edit makes a sink; each link of the chain is then put into the unedited model alone, or set back in the edited one. The share "
        "of the effect that this makes, or takes away, is what goes through the link.",
        (Shown((), ("chain", "position_or_token", "interchange")),),
    ),
    Chapter(
        "removed",
        "Taking the cause away",
        "Without the cause there should be no sink: the variance of position 0 is removed, or the super neurons are silenced, each beside a "
        "control.",
        (Shown(("C11a", "C11b"), ("necessity", "removals")),),
    ),
    Chapter(
        "training",
        "Models trained here",
        "Head-wise RMSNorm after the value aggregation removes the first link during pretraining, sigmoid attention needs no sink. Each run "
        "is held against the softmax run of its data and size. These models are far smaller than the paper's 152 M parameters.",
        (
            Shown(("C12a", "C12b"), ("loss_curves", "pretraining_comparison")),
            Shown(
                ("C13a", "C13b", "C13c", "C13d"),
                ("training_dynamics", "effective_rank_by_layer", "ladder"),
            ),
            Shown(("C14a", "C14b")),
        ),
    ),
)


def chapters_of(claims: Iterable[str], figures: Iterable[str], charts: Collection[str]) -> list[Chapter]:
    """The chapters with what a study has of them; claims and figures that no chapter names come last.

    Args:
        claims: codes of the claims in the ledger.
        figures, charts: names of those that the study has.
    """
    claims, figures = list(dict.fromkeys(claims)), list(figures)
    found: list[Chapter] = []
    for chapter in CHAPTERS:
        present = (_present(shown, claims, figures, charts) for shown in chapter.parts)
        parts = tuple(shown for shown in present if shown != Shown())
        if parts:
            found.append(replace(chapter, parts=parts))
    placed = [part for chapter in CHAPTERS for part in chapter.parts]
    other_claims = sorted(set(claims) - {code for part in placed for code in part.claims}, key=claim_order)
    known = {name for part in placed for name in part.figures}
    other_figures = tuple(name for name in figures if name not in known)
    if other_claims or other_figures:
        parts = (*(Shown((code,)) for code in other_claims), *([Shown((), other_figures)] if other_figures else []))
        found.append(Chapter("more", "More results", "Results that belong to no step of the chain.", parts))
    return found


def _present(shown: Shown, claims: Collection[str], figures: Collection[str], charts: Collection[str]) -> Shown:
    return Shown(
        tuple(code for code in shown.claims if code in claims),
        tuple(name for name in shown.figures if name in figures),
        tuple(name for name in shown.charts if name in charts),
    )
