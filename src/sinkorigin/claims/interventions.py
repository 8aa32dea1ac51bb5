"""Claims about the causal interventions.

Every interval here is one that holds for all comparisons of its kind on the model and prompts together, so that trying
many positions and strengths makes no claim more likely.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from sinkorigin.claims.verdicts import NEGLIGIBLE, NOT_SEEN, SEEN, UNDECIDED, StudyTables, decided, with_ends
from sinkorigin.interventions.kind import BASELINE, kind_named
from sinkorigin.interventions.layers import RULES, is_later, main_layers
from sinkorigin.interventions.schemas import layer_runs
from sinkorigin.statistics.uniform import SINK_FACTOR

HALF = 0.5  # position 0 loses most of its attention when more than half goes
UNCHANGED = 0.1  # and keeps it when less than a tenth goes

_SCORE = "score at the target, edited − unedited"
_SINK = "score above uniform and above unedited"
_NO_SINK = "< 0, or score below unedited"
_DIFFERENCE = "score − score of the control"
_ABOVE_UNIFORM = "score at the target − what uniform attention gives"
_SHARE = "share of the attention on position 0 that goes"


def intervention_claims(tables: StudyTables) -> Iterator[dict]:
    """Claims about the edits of one model on one prompt set."""
    table, resolved = tables.read("interventions"), tables.read("resolved_interventions")
    if table is None or resolved is None:
        return
    edits = resolved.to_dicts()
    claims = _Claims(tables, table.to_dicts(), edits)
    for edit in edits:
        if edit["reason"] is not None:
            yield claims.not_applicable(edit)
        rows = [row for row in claims.rows if row["intervention"] == edit["intervention"]]
        places = sorted({_place(row) for row in rows}, key=lambda place: place[::-1])
        for place in places:
            here = [row for row in rows if _place(row) == place]
            if tables.model.role == "random":
                yield claims.random_claim(here)
            elif place[1] == 0:
                yield from map(claims.necessity_claim, here)
            else:
                yield from claims.sufficiency_claims(here)
    if tables.model.role != "random":
        yield from claims.contrast_claims()
        yield from claims.grid_claims()


def _place(row: Mapping) -> tuple[tuple[int, ...], int]:
    return tuple(row["positions"]), row["target"]


def _layers(row: Mapping) -> str:
    return ",".join(layer_runs(row["layers"]))


def _where(row: Mapping) -> str:
    positions, layers = ", ".join(map(str, row["positions"])), "layer" if len(row["layers"]) == 1 else "layers"
    return f"at position{'s' if len(row['positions']) > 1 else ''} {positions}, {layers} {_layers(row)}"


def _numbers(row: Mapping) -> str:
    return (
        f"score {row['score']:.4f} [{row['score_low_all']:.4f}, {row['score_high_all']:.4f}], unedited "
        f"{row['baseline']:.4f}, uniform {row['uniform']:.4f}; effect size {_number(row['effect_size'])}"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(row: Mapping, name: str) -> str:
    value, low, high = map(_number, with_ends(row, name))
    return f"{value} [{low}, {high}]"


class _Claims:
    """The rows of one model on one prompt set, and what they say."""

    def __init__(self, tables: StudyTables, rows: list[dict], edits: Sequence[Mapping]):
        self._tables = tables
        self._calibrated = {edit["intervention"] for edit in edits if edit["calibration"]}
        self._replaced_by = {edit["intervention"]: edit["to"] for edit in edits}
        self.rows = [row for row in rows if row["kind"] != BASELINE]
        self._unedited = {row["target"]: row for row in rows if row["kind"] == BASELINE}

    def _main(self, kind: str) -> list[int]:
        """Layers of the main edits of a kind."""
        return main_layers((row["layers_rule"], row["layers"]) for row in self.rows if row["kind"] == kind)

    def _row(self, edit: Mapping, claim, statement, quantity, paper, predicate, table="interventions", **found) -> dict:
        """Row of a claim about an edit: a row of ``interventions`` or one with its target."""
        edited = {"kind": edit.get("kind", edit.get("treatment_kind")), "position": edit.get("target")}
        return self._tables.row(claim, statement, quantity, paper, predicate, table, **edited, **found)

    def _makes_a_sink(self, claim: str, statement: str, row: Mapping, paper: str | None) -> dict:
        point = row["score"] > row["uniform"] and row["effect"] > 0
        judged = SEEN if row["sink"] else UNDECIDED if point else NOT_SEEN
        return self._row(
            row, claim, statement, _SCORE, paper, _SINK, value=row["effect"], low=row["effect_low_all"],
            high=row["effect_high_all"], verdict=judged, reason=_numbers(row),
        )  # fmt: skip

    def _makes_none(self, claim: str, statement: str, row: Mapping, paper: str | None, score: str = "score") -> dict:
        """The other side of :meth:`_makes_a_sink`; ``score`` may be that over the layers that the edit can reach."""
        effect = {"score": "effect", "reached_score": "reached_effect"}[score]
        if row[score] is None:
            reason = "no layer lies above the edited ones, so the edit cannot reach any attention"
            return self._row(row, claim, statement, _ABOVE_UNIFORM, paper, _NO_SINK, reason=reason)
        value, low, high = (end - row["uniform"] for end in with_ends(row, score, "_all"))
        if value > 0 and row[effect] > 0:
            judged = NOT_SEEN
        else:
            judged = SEEN if high < 0 or row[f"{effect}_high_all"] < 0 else UNDECIDED
        return self._row(
            row, claim, statement, _ABOVE_UNIFORM, paper, _NO_SINK, value=value, low=low, high=high, verdict=judged,
            reason=_numbers(row),
        )  # fmt: skip

    def not_applicable(self, edit: Mapping) -> dict:
        """An edit that cannot be made, or not at some of its positions: a row of the table of resolved interventions."""
        kind, name = kind_named(edit["kind"]), edit["intervention"]
        words, layers = kind.words, f", layers {edit['layers_rule']}" if edit["layers_rule"] in RULES else ""
        what, quantity = f"{kind.label} ({name}{layers})", _SCORE
        if self._tables.model.is_control:
            claim, statement = f"no sink by {name}", f"control: in random weights {what} makes no sink"
        elif kind.role == "necessity":
            keeps = kind.at_first(1.0, None, edit["to"])[1]
            claim, quantity = "attention kept without it" if keeps else "attention lost without it", _SHARE
            statement = f"under {what}, position 0 {'keeps its' if keeps else 'loses most of its'} attention"
        elif edit["layers_rule"] in RULES and RULES[edit["layers_rule"]].place == "later":
            claim, statement = f"late {kind.label} makes no sink", f"{what} makes no sink"
        elif words is None:
            claim, statement = f"effect of {name}", f"effect of {what}"
        else:
            claim, statement = words.claim, f"{words.edit} {words.outcome} ({name}{layers})"
        return self._row(edit, claim, statement, quantity, None, "–", "resolved_interventions", reason=edit["reason"])

    def random_claim(self, rows: Sequence[Mapping]) -> dict:
        """No edit makes a sink in random weights, at the strength where the score is highest."""
        row = max(rows, key=itemgetter("score"))
        negligible = NEGLIGIBLE * row["uniform"]
        kind = kind_named(row["kind"]).label
        return self._row(
            row, f"no sink by {row['intervention']}",
            f"control: in random weights {kind} {'makes no sink' if row['target'] else 'adds no attention'} {_where(row)}", _SCORE,
            None, f"< {negligible:.4f} ({NEGLIGIBLE:g} of uniform)",
            **decided(*with_ends(row, "effect", "_all"), lambda x: x < negligible, _numbers(row)),
        )  # fmt: skip

    def sufficiency_claims(self, rows: Sequence[Mapping]) -> Iterator[dict]:
        """What an edit of a later position does there."""
        kind = kind_named(rows[0]["kind"])
        words, raised = kind.words, [row for row in rows if row["strength"] > 1]
        if words is None:
            return
        if not kind.takes("strength"):
            yield self._at_layers(rows[0])
            return
        if not raised:
            return
        highest = max(raised, key=itemgetter("score"))
        best = f"(λ = {highest['strength']:g}, where the score is highest)"
        after = " after W_O" if highest["site"] != "value_aggregation" else ""
        if kind.role == "treatment" and highest["intervention"] in self._calibrated:
            after += " by means of other sequences"
        statement = f"{words.edit}{after} {_where(highest)}, {words.outcome} {best}"
        paper = None if after else words.paper
        if words.makes_a_sink:
            yield self._makes_a_sink(words.claim + after, statement, highest, paper)
        else:
            yield self._makes_none(words.claim, statement, highest, paper)
        if kind.role == "treatment":
            yield from self._dose_claims(highest, after)

    def _at_layers(self, row: Mapping) -> dict:
        """What a treatment without a strength does, which matters by its layers."""
        kind = kind_named(row["kind"])
        early = self._main(kind.kind)
        if is_later(row["layers_rule"], row["layers"], early):
            return self._makes_none(
                f"late {kind.label} makes no sink",
                f"the same {kind.label} makes no sink {_where(row)}, in the layers above these", row, None, "reached_score",
            )  # fmt: skip
        main, fewer = row["layers"] == early, set(row["layers"]) <= set(early)
        return self._makes_a_sink(
            kind.words.claim if main else f"{kind.label} of {'fewer' if fewer else 'other'} layers makes a sink",
            f"{kind.words.edit} {kind.words.outcome}, {_where(row)}", row,
            kind.words.paper if main and row["layers"][0] == 0 else None,
        )  # fmt: skip

    def _dose_claims(self, row: Mapping, after: str) -> Iterator[dict]:
        table = self._tables.read("dose_response")
        assert table is not None
        for dose in table.to_dicts():
            if any(dose[name] != row[name] for name in ("intervention", "positions", "target")):
                continue
            course = ", ".join(
                f"{strength:g}: {score:.4f}" for strength, score in zip(dose["strengths"], dose["scores"], strict=True)
            )
            rising = kind_named(row["kind"]).words.rising
            yield self._row(
                row, "score rises with λ", f"the score at the target rises with λ when {rising}{after} {_where(row)}",
                "Kendall's τ of the mean score against λ", "rises with λ > 1" if not after else None, "> 0", "dose_response",
                **decided(
                    *with_ends(dose, "kendall_tau", "_all"), lambda x: x > 0,
                    f"score by λ: {course}; highest at {dose['best_strength']:g} "
                    f"[{dose['best_strength_low']:g}, {dose['best_strength_high']:g}]; last step {dose['last_step']:.4f} "
                    f"[{dose['last_step_low']:.4f}, {dose['last_step_high']:.4f}]",
                ),
            )  # fmt: skip

    def necessity_claim(self, row: Mapping) -> dict:
        """What position 0 loses when an edit takes away what the chain needs."""
        before = row["first_baseline"]
        edit, keeps = kind_named(row["kind"]).at_first(
            row["strength"], row["mean_factor"], self._replaced_by[row["intervention"]]
        )
        statement = (
            f"{edit}, position 0 {'keeps its' if keeps else 'loses most of its'} attention (layers {_layers(row)})"
        )
        claim = "attention kept without it" if keeps else "attention lost without it"
        predicate = f"< {UNCHANGED}" if keeps else f"> {HALF}"
        unedited = self._unedited[row["target"]]
        if unedited["score_low_all"] <= SINK_FACTOR * row["uniform"]:
            reason = f"position 0 is no sink unedited: {before:.4f}, uniform {row['uniform']:.4f}"
            return self._row(row, claim, statement, _SHARE, None, predicate, reason=reason)
        gone, high, low = (-end / before for end in with_ends(row, "first_effect", "_all"))
        share = (
            f"attention on position 0: {row['first_score']:.4f}, unedited {before:.4f}, uniform {row['uniform']:.4f}"
        )
        moved = f"most beside it: position {row['other_position']} with {row['other_position_score']:.4f}"
        cost = "" if row["loss_change"] is None else (
            f"; loss {row['loss_change']:+.3f} [{row['loss_change_low']:+.3f}, {row['loss_change_high']:+.3f}] nats, "
            f"KL {row['divergence']:.3f}"
        )  # fmt: skip
        return self._row(
            row, claim, statement, _SHARE, None, predicate,
            **decided(
                gone, low, high, (lambda x: x < UNCHANGED) if keeps else (lambda x: x > HALF), f"{share}; {moved}{cost}"
            ),
        )  # fmt: skip

    def contrast_claims(self) -> Iterator[dict]:
        """A treatment against each control of the same place, at the strength where the treatment's score is highest."""
        table = self._tables.read("intervention_contrasts")
        assert table is not None
        best: dict[tuple, dict] = {}
        for row in table.to_dicts():
            if kind_named(row["treatment_kind"]).compared_at != "strength":
                continue
            if row["treatment"] in self._calibrated or row["control"] in self._calibrated:
                continue
            key = (row["target"], tuple(row["positions"]), row["control"], row["control_site"], row["treatment_kind"])
            if key not in best or row["score"] > best[key]["score"]:
                best[key] = row
        for _, row in sorted(best.items()):
            yield self._contrast(row)

    def _contrast(self, row: Mapping) -> dict:
        treatment, control = kind_named(row["treatment_kind"]), kind_named(row["control_kind"])
        noun = treatment.words.noun
        numbers = (
            f"score {row['score']:.4f} against {row['control_score']:.4f}; effect size {_interval(row, 'effect_size')}; "
            f"the two intervals {'overlap' if row['overlap'] else 'do not overlap'}"
        )
        where = f"{_where(row)} (λ = {row['strength']:g}, where the score is highest)"
        interval = with_ends(row, "difference", "_all")
        if control is treatment:  # W_O is linear, so it cannot matter on which side of it
            limit = NEGLIGIBLE * next(r["uniform"] for r in self.rows if r["target"] == row["target"])
            return self._row(
                row, f"same as {row['control']}", f"{noun} gives the same score after W_O as before it, {where}", _DIFFERENCE, None,
                f"within ±{limit:.4f} ({NEGLIGIBLE:g} of uniform)", "intervention_contrasts",
                **decided(*interval, lambda x: abs(x) < limit, numbers),
            )  # fmt: skip
        after = " after W_O" if row["control_site"] != row["site"] else ""
        return self._row(
            row, f"{treatment.words.short} against {row['control']}",
            f"{noun} gives a higher score {control.words.contrast}{after}, {where}", _DIFFERENCE,
            control.words.contrast_paper, "> 0", "intervention_contrasts", **decided(*interval, lambda x: x > 0, numbers),
        )  # fmt: skip

    def grid_claims(self) -> Iterator[dict]:
        """Does the score follow the dispersion relative to the mean, or the variance?"""
        table = self._tables.read("dispersion_grid")
        assert table is not None
        for row in table.to_dicts():
            yield self._row(
                row, "dispersion, not variance",
                f"over {row['points']} factors of mean and deviation the score follows their ratio more than the variance, "
                f"{_where(row)}",
                "τ of the score with λ/α − τ with λ", None, "> 0", "dispersion_grid",
                **decided(
                    *with_ends(row, "difference", "_all"), lambda x: x > 0,
                    f"τ with λ/α {_interval(row, 'dispersion_tau')}, with λ {_interval(row, 'variance_tau')}",
                ),
            )  # fmt: skip
