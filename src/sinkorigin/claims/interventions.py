"""Claims about the causal interventions.

Every interval here is one that holds for all comparisons of its kind on the model and prompts together, so that trying
many positions and strengths makes no claim more likely.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from sinkorigin.claims.verdicts import (
    NEGLIGIBLE,
    NOT_SEEN,
    SEEN,
    UNDECIDED,
    Judged,
    StudyTables,
    decided,
    row_of,
)
from sinkorigin.statistics.uniform import SINK_FACTOR

HALF = 0.5  # position 0 loses most of its attention when more than half goes
UNCHANGED = 0.1  # and keeps it when less than a tenth goes

_SCORE = "score at the target, edited − unedited"
_SINK = "score above uniform and above unedited"
_NO_SINK = "< 0, or score below unedited"
_DIFFERENCE = "score − score of the control"
_ABOVE_UNIFORM = "score at the target − what uniform attention gives"

# kind → what amplified variance is held against
_CONTROLS = {
    "norm_control": "than multiplying the whole aggregation",
    "random_directions": "than as much in random directions",
    "mean_shift": "than the same shift of every sequence",
    "shuffled_deviations": "than amplified deviations of other sequences",
}


def of_interventions(own: StudyTables, model: Judged, prompts: str, edits: Sequence[Mapping]) -> Iterator[dict]:
    """Claims about the edits of one model."""
    table = own.read("interventions")
    if table is None:
        return
    claims = _Claims(own, model, prompts, table.to_dicts(), edits)
    for edit in edits:
        rows = [row for row in claims.rows if row["intervention"] == edit["name"]]
        places = sorted({(row["positions"], row["target"]) for row in rows}, key=lambda place: place[::-1])
        for place in places:
            here = [row for row in rows if (row["positions"], row["target"]) == place]
            if model.role == "random":
                yield claims.of_random(here)
            elif place[1] == 0:
                yield from map(claims.of_necessity, here)
            else:
                yield from claims.of_sufficiency(here)
    if model.role != "random":
        yield from claims.of_contrasts()
        yield from claims.of_grids()


def _where(row: Mapping) -> str:
    several = "," in row["positions"]
    word = "layers" if "," in row["layers"] or "-" in row["layers"] else "layer"
    return f"at position{'s' if several else ''} {row['positions'].replace(',', ', ')}, {word} {row['layers']}"


def _numbers(row: Mapping) -> str:
    return (
        f"score {row['score']:.4f} [{row['score_low_all']:.4f}, {row['score_high_all']:.4f}], unedited "
        f"{row['baseline']:.4f}, uniform {row['uniform']:.4f}; effect size {_number(row['effect_size'])}"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _with_ends(row: Mapping, name: str) -> str:
    return f"{_number(row[name])} [{_number(row[f'{name}_low'])}, {_number(row[f'{name}_high'])}]"


class _Claims:
    """The rows of one model on one prompt set, and what they say."""

    def __init__(self, own: StudyTables, model: Judged, prompts: str, rows: list[dict], edits: Sequence[Mapping]):
        self._own, self._model, self._prompts = own, model, prompts
        self._calibrated = {edit["name"] for edit in edits if edit.get("calibration")}
        self._replaced_by = {edit["name"]: edit.get("to") or "mean" for edit in edits}
        self.rows = [row for row in rows if row["kind"] != "baseline"]
        self._unedited = {row["target"]: row for row in rows if row["kind"] == "baseline"}
        # of the masks that begin in the earliest layer the one of most layers; those above all of it are late
        masks = sorted({row["layers"] for row in self.rows if row["kind"] == "mask"})
        earliest = min(map(_first_layer, masks), default=0)
        first = [layers for layers in masks if _first_layer(layers) == earliest]
        self._early = max(first, key=_last_layer, default="")
        self._early_until = _last_layer(self._early) if self._early else -1

    def _row(self, claim, statement, quantity, paper, predicate, table="interventions", **found) -> dict:
        return row_of(
            claim,
            statement,
            quantity,
            self._model.label,
            self._prompts,
            paper,
            predicate,
            self._own.path(table),
            **found,
        )

    def _makes_a_sink(self, claim: str, statement: str, row: Mapping, paper: str | None) -> dict:
        point = row["score"] > row["uniform"] and row["effect"] > 0
        judged = SEEN if row["sink"] else UNDECIDED if point else NOT_SEEN
        return self._row(
            claim, statement, _SCORE, paper, _SINK, value=row["effect"], low=row["effect_low_all"],
            high=row["effect_high_all"], verdict=judged, reason=_numbers(row),
        )  # fmt: skip

    def _makes_none(self, claim: str, statement: str, row: Mapping, paper: str | None, score: str = "score") -> dict:
        """The other side of :meth:`_makes_a_sink`; ``score`` may be that over the layers that the edit can reach."""
        effect = {"score": "effect", "reached_score": "reached_effect"}[score]
        if row[score] is None:
            reason = "no layer lies above the edited ones, so the edit cannot reach any attention"
            return self._row(claim, statement, _ABOVE_UNIFORM, paper, _NO_SINK, reason=reason)
        away = row["uniform"]
        value, low, high = (row[f"{score}{end}"] - away for end in ("", "_low_all", "_high_all"))
        if value > 0 and row[effect] > 0:
            judged = NOT_SEEN
        else:
            judged = SEEN if high < 0 or row[f"{effect}_high_all"] < 0 else UNDECIDED
        return self._row(
            claim, statement, _ABOVE_UNIFORM, paper, _NO_SINK, value=value, low=low, high=high, verdict=judged,
            reason=_numbers(row),
        )  # fmt: skip

    def of_random(self, rows: Sequence[Mapping]) -> dict:
        """No edit makes a sink in random weights, at the strength where the score is highest."""
        row = max(rows, key=itemgetter("score"))
        negligible = NEGLIGIBLE * row["uniform"]
        kind = row["kind"].replace("_", " ")
        return self._row(
            f"no sink by {row['intervention']}",
            f"control: in random weights {kind} {'makes no sink' if row['target'] else 'adds no attention'} {_where(row)}", _SCORE,
            None, f"< {negligible:.4f} ({NEGLIGIBLE:g} of uniform)",
            **decided(
                row["effect"], row["effect_low_all"], row["effect_high_all"], lambda x: x < negligible, _numbers(row)
            ),
        )  # fmt: skip

    def of_sufficiency(self, rows: Sequence[Mapping]) -> Iterator[dict]:
        """What an edit of a later position does there."""
        kind, site = rows[0]["kind"], rows[0]["site"]
        raised = [row for row in rows if row["strength"] > 1]
        if kind == "mask":
            row = rows[0]
            if _first_layer(row["layers"]) > self._early_until:
                yield self._makes_none(
                    "late mask makes no sink", f"the same mask makes no sink {_where(row)}, in the layers above these", row,
                    None, "reached_score",
                )  # fmt: skip
                return
            main = row["layers"] == self._early
            yield self._makes_a_sink(
                "mask makes a sink" if main else "mask of fewer layers makes a sink",
                f"a position that attends to itself only becomes a sink, {_where(row)}", row,
                "a new sink at the masked position" if main and _first_layer(row["layers"]) == 0 else None,
            )  # fmt: skip
            return
        if not raised:
            return
        highest = max(raised, key=itemgetter("score"))
        best = f"(λ = {highest['strength']:g}, where the score is highest)"
        after = " after W_O" if site != "value_aggregation" else ""
        if kind == "variance_amplification":
            after += " by means of other sequences" if highest["intervention"] in self._calibrated else ""
            name = "amplified variance makes a sink" + after
            yield self._makes_a_sink(
                name, f"amplifying the variance{after} {_where(highest)}, makes a sink {best}", highest,
                None if after else "a sink at the target",
            )  # fmt: skip
            yield from self._of_doses(highest, after)
        elif kind in ("norm_control", "mean_shift"):
            done = {"norm_control": "multiplying the aggregation", "mean_shift": "shifting every sequence alike"}[kind]
            yield self._makes_none(
                f"{kind.replace('_', ' ')} makes no sink",
                f"{done}{after} {_where(highest)}, makes no sink {best}", highest,
                "no sink" if kind == "norm_control" and not after else None,
            )  # fmt: skip
        elif kind in ("random_directions", "shuffled_deviations"):
            done = {
                "random_directions": "as much in random directions",
                "shuffled_deviations": "amplified deviations of other sequences",
            }[kind]
            yield self._makes_a_sink(
                f"{kind.replace('_', ' ')} make a sink{after}",
                f"{done}{after} {_where(highest)}, make a sink too {best}", highest, None,
            )  # fmt: skip

    def _of_doses(self, row: Mapping, after: str) -> Iterator[dict]:
        table = self._own.read("dose_response")
        assert table is not None
        for dose in table.to_dicts():
            if any(dose[name] != row[name] for name in ("intervention", "positions", "target")):
                continue
            course = ", ".join(
                f"{strength}: {float(score):.4f}"
                for strength, score in zip(dose["strengths"].split(), dose["scores"].split(), strict=True)
            )
            yield self._row(
                "score rises with λ", f"the score at the target rises with λ when the variance is amplified{after} {_where(row)}",
                "Kendall's τ of the mean score against λ", "rises with λ > 1" if not after else None, "> 0", "dose_response",
                **decided(
                    dose["kendall_tau"], dose["kendall_tau_low_all"], dose["kendall_tau_high_all"], lambda x: x > 0,
                    f"score by λ: {course}; highest at {dose['best_strength']:g} "
                    f"[{dose['best_strength_low']:g}, {dose['best_strength_high']:g}]; last step {dose['last_step']:.4f} "
                    f"[{dose['last_step_low']:.4f}, {dose['last_step_high']:.4f}]",
                ),
            )  # fmt: skip

    def of_necessity(self, row: Mapping) -> dict:
        """What position 0 loses when an edit takes away what the chain needs."""
        before = row["first_baseline"]
        statement, keeps = self._necessity(row)
        statement = f"{statement}, position 0 {'keeps its' if keeps else 'loses most of its'} attention (layers {row['layers']})"
        claim = "attention kept without it" if keeps else "attention lost without it"
        quantity = "share of the attention on position 0 that goes"
        predicate = f"< {UNCHANGED}" if keeps else f"> {HALF}"
        unedited = self._unedited[row["target"]]
        if unedited["score_low_all"] <= SINK_FACTOR * row["uniform"]:
            reason = f"position 0 is no sink unedited: {before:.4f}, uniform {row['uniform']:.4f}"
            return self._row(claim, statement, quantity, None, predicate, reason=reason)
        gone, low, high = (
            -row[name] / before for name in ("first_effect", "first_effect_high_all", "first_effect_low_all")
        )
        share = (
            f"attention on position 0: {row['first_score']:.4f}, unedited {before:.4f}, uniform {row['uniform']:.4f}"
        )
        moved = f"most beside it: position {row['other_position']} with {row['other_position_score']:.4f}"
        cost = "" if row["loss_change"] is None else (
            f"; loss {row['loss_change']:+.3f} [{row['loss_change_low']:+.3f}, {row['loss_change_high']:+.3f}] nats, "
            f"KL {row['divergence']:.3f}"
        )  # fmt: skip
        return self._row(
            claim, statement, quantity, None, predicate,
            **decided(
                gone, low, high, (lambda x: x < UNCHANGED) if keeps else (lambda x: x > HALF), f"{share}; {moved}{cost}"
            ),
        )  # fmt: skip

    def _necessity(self, row: Mapping) -> tuple[str, bool]:
        """What was done to position 0, and whether its attention should then stay."""
        strength = f"{row['strength']:g}"
        match row["kind"]:
            case "variance_matching":
                return "with deviations scaled to the variance that later positions have unedited", False
            case "value_averaging":
                return f"averaging {strength} value vectors", False
            case "super_neuron_ablation":
                return "without its super neurons", False
            case "dominating_dims":
                to_mean = self._replaced_by[row["intervention"]] == "mean"
                return f"with its dominating dims set to {'their mean over sequences' if to_mean else 'zero'}", to_mean
            case "variance_amplification":
                return f"with its deviations times {strength}", row["strength"] >= 1
        factor = "" if row["mean_factor"] is None else f", α = {row['mean_factor']:g}"
        return f"under {row['kind'].replace('_', ' ')} (λ = {strength}{factor})", True

    def of_contrasts(self) -> Iterator[dict]:
        """Amplified variance against each control of the same place, at the strength where the amplified score is highest."""
        table = self._own.read("intervention_contrasts")
        assert table is not None
        best: dict[tuple, dict] = {}
        for row in table.filter(table["treatment_kind"] == "variance_amplification").to_dicts():
            if row["treatment"] in self._calibrated or row["control"] in self._calibrated:
                continue
            key = (row["target"], row["positions"], row["control"], row["control_site"])
            if key not in best or row["score"] > best[key]["score"]:
                best[key] = row
        for _, row in sorted(best.items()):
            same = (
                row["control_kind"] == row["treatment_kind"]
            )  # W_O is linear, so it cannot matter on which side of it
            numbers = (
                f"score {row['score']:.4f} against {row['control_score']:.4f}; effect size "
                f"{_number(row['effect_size'])} [{_number(row['effect_size_low'])}, {_number(row['effect_size_high'])}]; "
                f"the two intervals {'overlap' if row['overlap'] else 'do not overlap'}"
            )
            where = f"{_where(row)} (λ = {row['strength']:g}, where the score is highest)"
            after = " after W_O" if row["control_site"] != row["site"] else ""
            if same:
                limit = NEGLIGIBLE * next(r["uniform"] for r in self.rows if r["target"] == row["target"])
                yield self._row(
                    f"same as {row['control']}", f"amplified variance gives the same score after W_O as before it, {where}",
                    _DIFFERENCE, None, f"within ±{limit:.4f} ({NEGLIGIBLE:g} of uniform)", "intervention_contrasts",
                    **decided(
                        row["difference"], row["difference_low_all"], row["difference_high_all"],
                        lambda x, limit=limit: abs(x) < limit, numbers,
                    ),
                )  # fmt: skip
                continue
            yield self._row(
                f"variance against {row['control']}",
                f"amplified variance gives a higher score {_CONTROLS[row['control_kind']]}{after}, {where}", _DIFFERENCE,
                "a sink against none" if row["control_kind"] == "norm_control" else None, "> 0", "intervention_contrasts",
                **decided(
                    row["difference"], row["difference_low_all"], row["difference_high_all"], lambda x: x > 0, numbers
                ),
            )  # fmt: skip

    def of_grids(self) -> Iterator[dict]:
        """Does the score follow the dispersion relative to the mean, or the variance?"""
        table = self._own.read("dispersion_grid")
        assert table is not None
        for row in table.to_dicts():
            yield self._row(
                "dispersion, not variance",
                f"over {row['points']} factors of mean and deviation the score follows their ratio more than the variance, "
                f"{_where(row)}",
                "τ of the score with λ/α − τ with λ", None, "> 0", "dispersion_grid",
                **decided(
                    row["difference"], row["difference_low_all"], row["difference_high_all"], lambda x: x > 0,
                    f"τ with λ/α {_with_ends(row, 'dispersion_tau')}, with λ {_with_ends(row, 'variance_tau')}",
                ),
            )  # fmt: skip


def _first_layer(layers: str) -> int:
    return int(layers.replace("-", ",").split(",")[0])


def _last_layer(layers: str) -> int:
    return int(layers.replace("-", ",").split(",")[-1])
