"""What a kind of intervention declares, once for config, sweeps, statistics, claims and figures.

A kind is a class in a module of :mod:`sinkorigin.interventions.kinds`, named as the module is: ``kinds/mean_shift.py`` has
``MeanShift``. An object of the class is an edit, the kind at some layers and positions. The fields of the class are the
kind's parameters. Nothing here or in ``kinds`` imports PyTorch, because figures and claims load kinds too: formulas use the
methods of the tensors that they are given.

At a target k the value aggregation of a head is o_k = sum_j A[k, j] v_j. Treatments give it what position 0 has (its own value
vector alone, or a larger variance); controls change it by as much in another way; necessity edits take from position 0 what
the paper's chain needs.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from sinkorigin.errors import SinkoriginError

if TYPE_CHECKING:
    import polars as pl  # config loads kinds too, and reads no table

BASELINE = "baseline"  # name, and kind in tables, of the unedited model
# where several edits of a kind were made, the one nearest to these stands for all
SHOWN_POSITION = 10  # the paper's
SHOWN_STRENGTH = 8.0  # λ; the score rises with it and saturates, on SmolLM2 near 8
Tensor = Any  # torch.Tensor


@dataclass(frozen=True)
class Look:
    """How a kind looks in figures.

    Attributes:
        colour: number in the palette of the figures; no other kind has it.
        marker: as matplotlib names it.
        linewidth: in points, or None for the thin line of a control.
        dashes: number among the figures' dashes in the figure of edited layers, or None where the kind is not shown there.
    """

    colour: int
    marker: str
    linewidth: float | None = None
    dashes: int | None = None


@dataclass(frozen=True)
class Needs:
    """The table of statistics that a kind is computed from.

    Attributes:
        table: its name; columns: those that are read.
        parameter: the kind's field, layer → what the table says of it.
        one_position: whether the table is read at the edited position, of which there is then one.
        finds_layers: whether the table says which layers, where the config does not.
    """

    table: str
    columns: Sequence[str]
    parameter: str
    one_position: bool = False
    finds_layers: bool = False


@dataclass
class MeanAndSpread:
    """Mean over sequences of a site's vectors at an edit's layers and positions, and their spread.

    Attributes:
        mean: layer → (P, G, w) float64 means; G groups of w numbers: heads of the value aggregation, else one group.
        spread: layer → (P, G) float64 root mean square over sequences of ‖vector − mean‖.
    """

    mean: dict[int, Tensor] = field(default_factory=dict)
    spread: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """An edited position in one layer, in one batch.

    Attributes:
        layer, position: counted from 0.
        number: of the position among those of the edit.
        first_sequence: number of the batch's first sequence.
        moments: means over sequences; without, those of the batch are taken.
    """

    layer: int
    position: int
    number: int
    first_sequence: int = 0
    moments: MeanAndSpread | None = None


@dataclass(kw_only=True, eq=False)
class Edit:
    """A kind of intervention at some layers and positions.

    Attributes:
        layers, positions: what is edited, counted from 0.
        site: the site that is edited, a word of docs/science.md.
        kind: name of the kind, which is that of its module.
        label: what figures and claims call it.
        formula: what it does, in one line.
        role: treatment, control (of the kind ``control_of``) or necessity.
        compared_at: a treatment is held against its controls, and against itself after W_O, at the same strength; or, where
            it has no strength, against itself at other layers.
        counts: what the strength is a number of, where it is no factor λ.
        identity_at: strength at which the edit changes nothing, or None.
        takes_mean: whether the formula has a mean over sequences.
        needs: a table of statistics.
        at_mean_factor_one, at_equal_factors: kinds with a mean factor α: the kinds that it is at α = 1 and at α = λ.
        look: in figures of edits of later positions; None where these do not show the kind.
        adds_variance: controls with a strength: whether they raise the variance over sequences relative to the mean, as the treatment does.
    """

    layers: Sequence[int]
    positions: Sequence[int]
    site: str = field(default="attention", init=False)

    kind: ClassVar[str]
    label: ClassVar[str]
    formula: ClassVar[str]
    role: ClassVar[Literal["treatment", "control", "necessity"]]
    control_of: ClassVar[str | None] = None
    compared_at: ClassVar[Literal["strength", "layers"] | None] = None
    counts: ClassVar[Literal["sequences", "tokens"] | None] = None
    identity_at: ClassVar[float | None] = None
    takes_mean: ClassVar[bool] = False
    needs: ClassVar[Needs | None] = None
    at_mean_factor_one: ClassVar["type[Edit] | None"] = None
    at_equal_factors: ClassVar["type[Edit] | None"] = None
    look: ClassVar[Look | None] = None
    adds_variance: ClassVar[bool | None] = None

    def __init_subclass__(cls):
        super().__init_subclass__()
        cls.kind = cls.__module__.rpartition(".")[2]
        cls.label = cls.kind.replace("_", " ")

    def __post_init__(self):
        layers = self.layers if self.needs is None else getattr(self, self.needs.parameter)
        self.layers, self.positions = self._sorted("layers", layers), self._sorted("positions", self.positions)
        if self.positions and self.positions[0] < 0:
            raise SinkoriginError(
                f"{type(self).__name__} has position {self.positions[0]}; positions are counted from 0, so choose 0 or above"
            )
        for name in ("strength", "mean_factor"):
            if not math.isfinite(getattr(self, name, 1)):
                raise SinkoriginError(f"a strength is {getattr(self, name)}; choose a finite number")

    def _sorted(self, name: str, numbers: Any) -> tuple[int, ...]:
        try:
            return tuple(sorted(set(numbers)))
        except TypeError as error:
            raise SinkoriginError(f"{name} of {type(self).__name__} is {numbers!r}; write a list of numbers") from error

    @classmethod
    def takes(cls, parameter: str) -> bool:
        """Whether the kind has a parameter: strength, mean_factor, site or to."""
        return any(one.name == parameter and one.init for one in fields(cls))

    @classmethod
    def has_doses(cls) -> bool:
        """Whether the kind has a factor λ, so that a score can rise with it."""
        return cls.takes("strength") and cls.counts is None

    @classmethod
    def mixes(cls, strength: float) -> int:
        """Fewest sequences of a batch that the edit needs, because it mixes them."""
        return 1

    def units(self, sequences: int) -> np.ndarray:
        """(N,) number of the group that each sequence of a batch is mixed with: a group is one observation, its members are not."""
        return np.arange(sequences)

    @classmethod
    def refusal(cls, targets: Sequence[int], strengths: Sequence[float]) -> str | None:
        """What is wrong with targets and strengths of the config, and what to do; None where nothing is."""
        if cls.needs is not None and cls.needs.one_position and len(targets) > 1:
            return f"{cls.kind} edits one position; write one, and an intervention for each other"
        return None

    @classmethod
    def found(cls, table: "pl.DataFrame", layers: Sequence[int] | None, position: int) -> dict[int, Any]:
        """Layer → what the table of ``needs`` says of it: the value of ``needs.parameter``.

        Args:
            layers, position: the edited ones; None for the layers takes all that the table names.

        Raises:
            NotApplicableError: the table does not have it, because the model does not.
        """
        raise NotImplementedError

    @classmethod
    def described(cls, facts: Mapping[int, Any]) -> str:
        """What :meth:`found` says, in words for the table of resolved interventions."""
        raise NotImplementedError

    @classmethod
    def strength_text(cls, strength: float, mean_factor: float | None) -> str:
        """A strength in words, "λ = 4"; "" where the kind has none."""
        if not cls.takes("strength"):
            return ""
        return f"λ = {strength:g}" + ("" if mean_factor is None else f", α = {mean_factor:g}")

    @classmethod
    def at_first(cls, strength: float, mean_factor: float | None, to: str | None) -> tuple[str, bool]:
        """How claims call the edit of position 0, and whether its attention should then stay."""
        return f"under {cls.label} ({cls.strength_text(strength, mean_factor)})", True

    @property
    def changes_nothing(self) -> bool:
        """Whether the edit is the identity, so that it need not be made at all."""
        nowhere = not self.layers or not self.positions
        return nowhere or (self.identity_at is not None and getattr(self, "strength", None) == self.identity_at)

    @property
    def needs_mean(self) -> bool:
        """Whether this edit uses a mean over sequences."""
        return self.takes_mean

    @property
    def compares_sequences(self) -> bool:
        """Whether this edit changes nothing where all sequences are alike."""
        return self.needs_mean or self.mixes(getattr(self, "strength", 1)) > 1

    def at_layers(self, layers: Sequence[int]) -> "Edit":
        """A copy that edits these layers only."""
        other = copy.copy(self)
        other.layers = tuple(sorted(set(layers)))
        return other

    def facts(self) -> list:
        """Everything that this edit is, as JSON has it."""
        return [self.kind, asdict(self)]


class AttentionEdit(Edit):
    """An edit of what the edited positions attend to.

    Attributes:
        only_hides: whether keys that a layer hides by itself, as a sliding window does, may be among the visible ones, and stay hidden.
            Otherwise they are an error, because the edit would be another than the one that is named.
    """

    only_hides: ClassVar[bool] = False

    def visible(self, position: int) -> Sequence[int]:
        """Keys that an edited position attends to; the others are hidden from it."""
        raise NotImplementedError


@dataclass(kw_only=True, eq=False)
class VectorEdit(Edit):
    """An edit of the vectors of one site: the value aggregation, head by head, or the input or output of a module."""

    site: str = "value_aggregation"

    def numbers(self, layer: int) -> Sequence[int]:
        """Neurons or dims of the site that a layer's edit names; none where it edits whole vectors."""
        return ()

    def edited(self, vectors: Tensor, at: Target) -> Tensor:
        """The edited vectors of a target, from its (N, G, w) vectors of all sequences of the batch."""
        raise NotImplementedError

    def mean(self, vectors: Tensor, at: Target) -> Tensor:
        """(1 or no N, G, w) mean over sequences at a target.

        Raises:
            SinkoriginError: it is to be that of the batch, which has one sequence.
        """
        if at.moments is not None:
            return at.moments.mean[at.layer][at.number].to(vectors)
        if len(vectors) < 2:
            raise SinkoriginError(
                f"{type(self).__name__} needs a mean over sequences, but the batch has one; run several sequences at once"
            )
        return vectors.mean(dim=0, keepdim=True)

    def spread(self, vectors: Tensor, at: Target) -> Tensor:
        """(G,) root mean square over sequences of ‖vector − mean‖ at a target."""
        if at.moments is not None:
            return at.moments.spread[at.layer][at.number].to(vectors)
        return (vectors - self.mean(vectors, at)).square().sum(dim=-1).mean(dim=0).sqrt()


def random_directions(shape: Sequence[int], *seed: int) -> np.ndarray:
    """(G, w) unit vectors that depend on the numbers of ``seed`` alone."""
    vectors = np.random.default_rng(seed).standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@cache
def kind_named(name: str) -> type[Edit]:
    """The class of a kind of intervention.

    Raises:
        SinkoriginError: there is no such module or class, or it lacks what figures and claims show of a control.
    """
    place = f"{__package__}.kinds.{name}"
    class_name = name.title().replace("_", "")
    try:
        kind = getattr(import_module(place), class_name)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != place:
            raise
        raise SinkoriginError(
            f"intervention kind {name}: there is no class {class_name} in a module {place}; correct the name, or add it"
        ) from error
    if kind.control_of is not None and kind.has_doses() and None in (kind.look, kind.adds_variance):
        raise SinkoriginError(
            f"intervention kind {name}: a control with a strength is compared, drawn and judged, but {class_name} has no look or "
            "does not say adds_variance; add both"
        )
    return kind
