"""What claims read: the tables of one model on one prompt set, and why one is not there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sinkorigin import tables

PAPER_EPSILON = 0.3  # threshold of the paper's sink rate

Places = Mapping[str, Mapping[tuple[str, ...], Path]]  # name of a table → (model, prompts) → its file


def places_of(paths: Mapping[str, Iterable[str | Path]]) -> Places:
    """Files by table, model and prompt set, from paths that end in ``{model}/{prompts}/{name}.parquet``."""
    return {name: {path.parts[-3:-1]: path for path in map(Path, files)} for name, files in paths.items()}


@dataclass(frozen=True)
class Judged:
    """A model that claims are about.

    Attributes:
        name: its name in the tables.
        label: its name for people.
        role: "pretrained", "random" (the control) or "trained" (here).
        run, variant, seed: where a trained model comes from.
        reading: which form of its variant a trained model has, where the paper leaves several open.
    """

    name: str
    label: str
    role: str
    run: str | None = None
    variant: str | None = None
    seed: int | None = None
    reading: str | None = None

    @property
    def is_control(self) -> bool:
        """Whether its weights are random."""
        return self.role == "random"


class StudyTables:
    """Statistics of one model on one prompt set, as far as the study has them.

    Attributes:
        model: the model.
        prompts: name of the prompt set.
    """

    def __init__(self, places: Places, model: Judged, prompts: str, missing: Iterable[Mapping] = ()):
        """Take the files of one model on one prompt set.

        Args:
            places: see :func:`places_of`.
            missing: what could not be measured because a job failed, see :func:`sinkorigin.claims.judging.judge`.
        """
        self.model, self.prompts = model, prompts
        self._paths = {name: files.get((model.name, prompts)) for name, files in places.items()}
        about = [part for part in missing if part["model"] == model.name and part["prompts"] in (None, prompts)]
        self._sentences = {name: part["sentence"] for part in about for name in (part["what"] or "").split(", ")}
        self._lacking: dict[str, str] = {}

    def path(self, name: str) -> str:
        """Place of a table below the study's folder."""
        return f"statistics/{self.model.name}/{self.prompts}/{name}.parquet"

    def read(self, name: str) -> pl.DataFrame | None:
        """A table; None where the study does not have it of this model and prompt set, or it is not applicable to them, or has no intervals.

        Raises:
            KeyError: the study's tables were given without this one.
        """
        path = self._paths[name]
        if path is None:
            sentence = self._sentences.get(name, self._sentences.get(""))
            why = None if sentence is None else f"not measured, because a job failed: {sentence}"
        else:
            why = tables.not_applicable(path) or tables.no_intervals(path)
        if why is not None:
            self._lacking[name] = why
        return None if path is None or why is not None else pl.DataFrame(tables.read_table(path))

    def lacking(self) -> dict[str, str]:
        """Name → reason of the tables that were asked for since the last call and that should be there; it forgets them.

        A table that the study does not measure is none of them.
        """
        found, self._lacking = self._lacking, {}
        return found
