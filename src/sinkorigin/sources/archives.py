"""Members of wheels, zip and tar archives: read one by one, with safe names only, in bounded size."""

import errno
import fnmatch
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from sinkorigin.errors import SinkoriginError, first_line, listed

_BLOCK = 1 << 20
_HARMLESS = 1 << 28  # bytes that any archive may unpack to; to more than these only if
_RATIO = 100  # they are at most so many times its size


def _hidden(path: str) -> int:
    """Number of components of a path that are hidden: they begin with a dot, or are what macOS adds to its archives."""
    return sum(part == "__MACOSX" or (part.startswith(".") and part.strip(".") != "") for part in path.split("/"))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file's name matches one of ``patterns`` and none of those that begin with ``!``.

    A hidden file, or one in a hidden folder, matches only a pattern that writes its dots, so that ``*`` finds no copies
    that an editor left.
    """
    return any(
        fnmatch.fnmatchcase(name, pattern) and _hidden(name) <= _hidden(pattern)
        for pattern in patterns
        if not pattern.startswith("!")
    ) and not any(fnmatch.fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!"))


def _safe(name: str, archive: Path) -> PurePosixPath:
    """Path of a member, which may not lead out of the folder that it is unpacked to."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise SinkoriginError(f"{archive.name} has a member with an unsafe path, {name!r}; do not use this file")
    return path


def _check_unpacked(archive: Path, size: int) -> None:
    """Refuse an archive whose members, ``size`` bytes together, are far more than text or weights can unpack to."""
    packed = archive.stat().st_size
    if size > max(_HARMLESS, _RATIO * packed):
        raise SinkoriginError(
            f"{archive.name}, of {packed} bytes, unpacks to {size}, more than {_RATIO} times as many; do not use this "
            "file, or unpack it yourself and use a path: source"
        )


def _tar_members(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    """Members of a tar archive, after checking that it was read to its end.

    tarfile takes a damaged header for the end of the archive, and leaves a compressed file's checksum unread. So what
    follows the last member is read too: it must be zeros, a block of them at least.
    """
    entries = tar.getmembers()
    stream = cast(IO[bytes], tar.fileobj)
    stream.seek(tar.offset)
    ended = stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    while block := stream.read(_BLOCK):
        ended = ended and not block.strip(b"\0")
    if not ended:
        last = f"after {entries[-1].name!r}" if entries else "at its start"
        raise SinkoriginError(f"{archive.name} is damaged or cut off {last}; choose another file")
    return entries


def read_members(archive: Path, patterns: Sequence[str]) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Path and open binary stream of every file that matches ``patterns``, in order of name; see :func:`matches`.

    To be read inside :func:`archive_errors`, which turns what damaged bytes cause into a sentence.

    Raises:
        SinkoriginError: a matching member is a link, encrypted, or has an unsafe path; the members are too large; or the
            file is no archive, or cut off.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if matches(m.filename, patterns) and not m.is_dir()]
            _check_unpacked(archive, sum(member.file_size for member in members))
            for member in sorted(members, key=lambda member: member.filename):
                path = _safe(member.filename, archive)
                if (member.external_attr >> 28) == 0xA:  # a Unix symbolic link
                    raise SinkoriginError(f"{archive.name} has a link, {member.filename!r}; do not use this file")
                if member.flag_bits & 1:
                    raise SinkoriginError(
                        f"{member.filename!r} in {archive.name} is encrypted; unpack it yourself and use a path: source"
                    )
                with opened.open(member) as stream:
                    yield path, stream
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            entries = [e for e in _tar_members(tar, archive) if matches(e.name, patterns) and not e.isdir()]
            _check_unpacked(archive, sum(entry.size for entry in entries))
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = _safe(entry.name, archive)
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None:
                    raise SinkoriginError(f"{archive.name} has a link, {entry.name!r}; do not use this file")
                with content:
                    yield path, content
    else:
        raise SinkoriginError(
            f"{archive.name} is neither a zip (wheel) nor a tar archive, or it is cut off; choose another file"
        )


@contextmanager
def archive_errors(archive: Path) -> Iterator[None]:
    """Raise what goes wrong while an archive is read in this block as one sentence.

    Raises:
        SinkoriginError: the archive is damaged.
        OSError: the disk failed, or is full.
    """
    try:
        yield
    except SinkoriginError:
        raise
    except Exception as error:  # damaged bytes make zipfile, tarfile and the decompressors raise nearly anything
        if getattr(error, "errno", None) not in (None, errno.EINVAL):
            raise  # the disk's error; damage has no number, or that of a seek to before the file's start
        raise SinkoriginError(
            f"{archive.name} cannot be unpacked ({first_line(error)}); it is damaged or of an unknown kind, choose "
            "another file"
        ) from error


def extract(archive: Path, member: str, folder: Path, what: str) -> Path:
    """Extract a file, or all files of a folder, from an archive to ``folder``; the path of what was extracted.

    Raises:
        SinkoriginError: the archive is damaged, or has no such member.
    """
    member = member.rstrip("/")
    found = None
    with archive_errors(archive):
        for path, stream in read_members(archive, [member, f"{member}/*"]):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(stream, out, _BLOCK)
            found = folder / member
        if found is None:
            names = listed(path for path, _ in read_members(archive, ["*"]))
            raise SinkoriginError(f"{what}: {archive.name} has no member {member}; it has {names}")
    return found
