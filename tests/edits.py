"""Edits of a checkout of the tiny study."""

import copy
from collections.abc import Callable

from tiny_study import TINY, Project

Apply = Callable[[Project], None]


def text(path: str, old: str, new: str) -> Apply:
    """Replace ``old`` in a file."""

    def apply(study: Project) -> None:
        file = study.folder / path
        before = file.read_text()
        assert old in before, (path, old)
        file.write_text(before.replace(old, new, 1))

    return apply


def added(path: str, more: str) -> Apply:
    """Put something at the end of a file, which may be new."""

    def apply(study: Project) -> None:
        with (study.folder / path).open("a") as file:
            file.write(more)

    return apply


def config(change: Callable[[dict], object]) -> Apply:
    """Change the study's config."""

    def apply(study: Project) -> None:
        changed = copy.deepcopy(TINY)
        change(changed)
        study.write_config(changed)

    return apply
