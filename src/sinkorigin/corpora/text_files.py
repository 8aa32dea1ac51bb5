"""Text files: decoded, cut into pieces, and without what Project Gutenberg puts around its books."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from sinkorigin.corpora.files import COMPRESSIONS
from sinkorigin.errors import SinkoriginError

PIECE = 1 << 22  # bytes of a text file that are one document, at most
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
NOT_UTF8 = re.compile("[\udc80-\udcff]+")  # bytes that are not UTF-8, decoded with surrogateescape
_ASCII = re.compile("[\0-\x7f]+")
_NOT_WINDOWS = b"\x81\x8d\x8f\x90\x9d"  # bytes that Windows-1252 does not define
# what Project Gutenberg puts before and after a text
_START = re.compile(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*\*\*", re.IGNORECASE | re.DOTALL)
_END = re.compile(r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG", re.IGNORECASE)


@contextmanager
def opened(path: Path, name: str) -> Iterator[tuple[io.BufferedReader, str]]:
    """Open a file: a stream of its uncompressed bytes, and their encoding by their byte order mark, else UTF-8."""
    compression = next((c for suffix, c in COMPRESSIONS.items() if name.lower().endswith(suffix)), None)
    if compression is not None and not path.stat().st_size:  # pyarrow takes it for a compressed empty file
        raise OSError("it is empty")
    with (
        pa.input_stream(str(path), compression=compression) as uncompressed,
        io.BufferedReader(uncompressed, 1 << 20) as stream,
    ):
        start = stream.peek(4)
        yield stream, next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "utf-8")


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    """Bytes of a text file, block by block; UTF-16 becomes UTF-8."""
    with opened(path, name) as (stream, encoding):
        if encoding == "utf-16":
            with io.TextIOWrapper(stream, encoding, newline="") as text:
                while characters := text.read(PIECE):
                    yield characters.encode()
        else:
            while block := stream.read(PIECE):
                yield block


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a text file into pieces of at most ``PIECE`` bytes that end with a paragraph, else with a line, else with a word."""
    rest = b""
    for block in blocks:
        rest += block
        while len(rest) > PIECE:
            cut = max(rest.rfind(b"\n\n", 0, PIECE), rest.rfind(b"\n\r\n", 0, PIECE))
            cut = cut if cut > 0 else max(rest.rfind(b"\n", 0, PIECE), rest.rfind(b" ", 0, PIECE))
            if cut <= 0:  # not inside a UTF-8 character, which has 4 bytes at most
                cut = next((at for at in range(PIECE, PIECE - 4, -1) if rest[at] & 0xC0 != 0x80), PIECE)
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _decoding(path: Path, name: str, what: str, was_ascii: bool) -> tuple[str, str]:
    """Find the encoding of a text file that is not UTF-8, and how bytes that do not fit it are handled; print it for the log.

    The whole file decides. It is damaged UTF-8 if most of what is not ASCII is UTF-8; else Windows-1252, which contains
    Latin-1, if most is ASCII.

    Args:
        was_ascii: whether the pieces before the first bad byte, which are decoded already, are alike in both encodings.

    Raises:
        SinkoriginError: it is neither.
    """
    size = bad = good = undefined = 0
    for raw in _pieces(_blocks(path, name)):
        others = _ASCII.sub("", raw.decode("utf-8", "surrogateescape"))
        characters = len(NOT_UTF8.sub("", others))
        size += len(raw)
        good += characters
        bad += len(others) - characters
        undefined += len(raw) - len(raw.translate(None, _NOT_WINDOWS))
    if bad <= good:
        print(f"{what}: {bad} bytes of {name} are not UTF-8 and were replaced by U+FFFD")
        return "utf-8", "replace"
    if undefined or bad > size / 4 or not was_ascii:
        raise SinkoriginError(
            f"{what}: {name} is neither UTF-8 nor Windows-1252, {bad} of its {size} bytes are not UTF-8; convert it to "
            "UTF-8 (iconv does), or leave it out by a leading ! in members"
        )
    print(f"{what}: {name} is not UTF-8 and was read as Windows-1252; convert it to UTF-8 if it is something else")
    return "cp1252", "strict"


def _decoded(path: Path, name: str, what: str) -> Iterator[str]:
    """Text of every piece of a text file."""
    decoding, is_ascii = ("utf-8", "strict"), True
    for raw in _pieces(_blocks(path, name)):
        if b"\0" in raw:
            raise SinkoriginError(f"{what}: {name} is no text file; correct members, a leading ! leaves a file out")
        try:
            text = raw.decode(*decoding)
        except UnicodeDecodeError:  # the first in the file; what _decoding finds raises none
            decoding = _decoding(path, name, what, is_ascii)
            text = raw.decode(*decoding)
        is_ascii = is_ascii and text.isascii()
        yield text


def _books(text: str, first: bool, inside: bool) -> tuple[str, bool]:
    """Remove what Project Gutenberg puts before and after a book from a piece of text; and say whether it ends in a book.

    Args:
        first: whether the piece is the first of its file.
        inside: whether it begins inside a book.
    """
    if first and (start := _START.search(text)) and not _END.search(text, 0, start.start()):
        text = text[start.end() :]
    kept = []
    while marker := (_END if inside else _START).search(text):
        if inside:
            kept.append(text[: marker.start()])
        text = text[marker.end() :]
        inside = not inside
    if inside:
        kept.append(text)
    return "".join(kept).strip() + "\n", inside


def text_documents(path: Path, name: str, what: str) -> Iterator[tuple[str, str]]:
    """Name and text of every document of a text file: its pieces, with line ends of Unix."""
    inside = True
    for number, piece in enumerate(_decoded(path, name, what), 1):
        text = piece.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
        text, inside = _books(text, number == 1, inside)
        yield (name if number == 1 else f"{name}, part {number}"), text
