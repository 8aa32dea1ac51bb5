"""The pins of requirements.lock that a script's results may depend on: those of the packages it imports, and of theirs."""

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from sinkorigin.errors import SinkoriginError

_PACKAGES = {"vl_convert": "vl-convert-python"}  # module → package, where their names differ

# Packages that fetch, watch or report, and have no part in a result: what they fetch is checked by its hash. Those that only
# they require are left out with them, so that an update of a certificate list trains nothing again.
APART = frozenset({"filelock", "fsspec", "huggingface-hub", "psutil", "requests", "tqdm", "typer", "urllib3"})


@cache
def read_lock(lock: Path) -> dict[NormalizedName, str]:
    """Package → pinned version; names as PyPI normalises them. Empty where there is no lock.

    Engines without a shared file system bring the rules and scripts to a job, and no other file. What a job's version is was
    settled before.
    """
    if not lock.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in lock.read_text().splitlines())
    pins = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pins}


@cache
def _needs(package: NormalizedName) -> tuple[NormalizedName, ...]:
    """Packages that an installed package requires on this machine, extras left out."""
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:  # each rule may have another conda environment
        return ()
    # most of transformers' three hundred lines belong to extras; parsing them all would take a tenth of a second
    found = (Requirement(line) for line in lines if "extra ==" not in line)
    return tuple(canonicalize_name(need.name) for need in found if need.marker is None or need.marker.evaluate())


def pins_of(modules: Iterable[str], lock: Path) -> dict[str, str]:
    """Pins of the packages with these import names and of everything that they require, directly or not, without ``APART``.

    A module that the lock does not name (Python's or the library's) has no pin.
    """
    pins = read_lock(lock)
    found: set[NormalizedName] = set()
    waiting = [canonicalize_name(_PACKAGES.get(module, module)) for module in modules]
    while waiting:
        package = waiting.pop()
        if package in pins and package not in found | APART:
            found.add(package)
            waiting.extend(_needs(package))
    return {package: pins[package] for package in sorted(found)}


def check_installed(pins: Mapping[str, str]) -> None:
    """Raise a :class:`SinkoriginError` if a package is installed in another version than its pin, or there are no pins."""
    if not pins:
        raise SinkoriginError(
            "there is no requirements.lock to tell the versions of results that are shared; get it back"
        )
    for package, pinned in pins.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version.partition("+")[0] != pinned:  # torch is 2.0+cpu in one index and 2.0 in another
            raise SinkoriginError(
                f"{package} {version} is installed, but requirements.lock has {pinned}, and results of other versions must "
                "not be shared; run pip install -r requirements.lock"
            )
