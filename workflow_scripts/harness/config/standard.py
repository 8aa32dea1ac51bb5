"""What a study has where its config says nothing: the lists of standard.yaml, as far as they fit its prompt sets."""

import copy
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.activations import Activations
from harness.config.interventions import FEWEST_SEQUENCES, smallest_batch
from harness.config.prompts import Prompts
from sinkorigin.interventions.kind import kind_named

STANDARD = Path(__file__).with_name("standard.yaml")


@cache
def _standard() -> dict[str, Any]:
    import yaml

    return yaml.load(STANDARD.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def with_standard(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the standard prompt sets, sites and interventions where it has none.

    Of these sites and interventions, what the study's prompts and batches do not allow is left out: other prompt sets, positions
    beyond the last one, more sequences than there are, or than a batch mixes. So a config with its own prompts need not repeat
    the rest.
    """
    standard = copy.deepcopy(_standard())
    filled = {"prompts": standard["prompts"], **raw}
    try:
        sets = [Prompts.model_validate(entry) for entry in filled["prompts"]]
    except (TypeError, ValidationError):
        sets = []  # told with everything else that is wrong
    activations, batch = filled.get("activations", {}), Activations.model_fields["batch"].default
    if isinstance(activations, Mapping):
        filled["activations"] = {"sites": _fitting_sites(standard["activations"]["sites"], sets), **activations}
        batch = activations.get("batch", batch)
    filled = {"interventions": _fitting_edits(standard["interventions"], sets, batch), **filled}
    mechanism = filled.get("mechanism", {})
    if isinstance(mechanism, Mapping):
        filled["mechanism"] = {**_fitting_mechanism(standard["mechanism"], filled["interventions"], sets), **mechanism}
    return filled


def _fitting_sites(sites: Sequence[dict], sets: Sequence[Prompts]) -> list[dict]:
    """Sites without the positions that a prompt set does not have."""
    shortest = min((prompts.length for prompts in sets), default=sys.maxsize)
    return [
        site | {"positions": [k for k in site["positions"] if k < shortest]} if "positions" in site else site
        for site in sites
    ]


def _fitting_mechanism(mechanism: dict, edits: Any, sets: Sequence[Prompts]) -> dict:
    """What is followed of the edits that a study has: at the position nearest to the standard one that all of them edit."""
    known = [edit for edit in edits if isinstance(edit, Mapping)] if isinstance(edits, Sequence) else []
    places = {edit.get("name"): _single_positions(edit) for edit in known if edit.get("name") in mechanism["causes"]}
    shared = sorted(set.intersection(*places.values())) if places else []
    fewest = min((prompts.sequences for prompts in sets), default=0)
    if not shared or fewest < FEWEST_SEQUENCES:
        return mechanism | {"causes": []}
    position = min(shared, key=lambda k: abs(k - mechanism["position"]))
    return mechanism | {"causes": list(places), "position": position, "sequences": min(mechanism["sequences"], fewest)}


def _single_positions(edit: Mapping) -> set[int]:
    """Positions from 2 on that an edit edits by themselves."""
    positions = edit.get("positions")
    return {k for k in positions if isinstance(k, int) and k > 1} if isinstance(positions, Sequence) else set()


def _fitting_edits(edits: Sequence[dict], sets: Sequence[Prompts], batch: Any) -> list[dict]:
    """Interventions on these prompt sets, at positions that have a later query there, of as many sequences as there are."""
    fitting = []
    fewest = min((prompts.sequences for prompts in sets), default=0)
    for edit in edits:
        sequences = min(edit["sequences"], fewest)
        read = [prompts for prompts in sets if prompts.name in edit["prompts"]]
        positions = [k for k in edit["positions"] if any(k < prompts.length - 1 for prompts in read)]
        enough = sequences >= FEWEST_SEQUENCES and sequences + edit.get("calibration", 0) <= fewest
        if not (read and positions and enough):
            continue
        fits = edit | {"prompts": [prompts.name for prompts in read], "positions": positions, "sequences": sequences}
        if "strengths" in edit and isinstance(batch, int) and batch > 0:
            mixes, most = kind_named(edit["kind"]).mixes, smallest_batch(sequences, batch)
            fits["strengths"] = [strength for strength in edit["strengths"] if mixes(strength) <= most]
            if not fits["strengths"]:
                continue
        fitting.append(fits)
    return fitting
