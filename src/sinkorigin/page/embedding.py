"""What a page embeds of other files: figures as data URIs, tables as compressed CSV."""

import base64
import gzip
import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}  # formats that an <img> shows
# in a data URI within double quotes, everything else of an SVG may stand as it is
_RESERVED = {ord(letter): f"%{ord(letter):02X}" for letter in '%#"<>\n\r\t'}

DIGITS = 6  # of numbers in a CSV; the table in Parquet has all


def shown_file(paths: Iterable[str | Path]) -> str | None:
    """The file of a figure that a page can show: the SVG, else the PNG; None where there is neither."""
    by_suffix = {Path(path).suffix: str(path) for path in paths}
    return next((by_suffix[suffix] for suffix in _TYPES if suffix in by_suffix), None)


def data_uri(path: str | Path) -> str:
    """A figure as a data URI. An SVG stays text, which is a quarter shorter than base64."""
    path = Path(path)
    if path.suffix == ".svg":
        text = re.sub(r">\s*\n\s*<", "><", path.read_text(encoding="utf-8"))
        return f"data:{_TYPES['.svg']};charset=utf-8,{text.translate(_RESERVED)}"
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def size_of(path: str | Path) -> tuple[int, int] | None:
    """Width and height of an SVG, in CSS pixels, so that a page keeps room for it; None where it does not say."""
    path = Path(path)
    if path.suffix == ".png":
        head = path.read_bytes()[16:24]
        return int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
    with path.open(encoding="utf-8") as stream:
        found = re.search(r"<svg[^>]*>", stream.read(4000))
    sizes = {
        name: float(number) * {"pt": 4 / 3, "px": 1, "": 1}[unit]
        for name, number, unit in re.findall(r'\b(width|height)="([\d.]+)(pt|px|)"', found[0] if found else "")
    }
    return (round(sizes["width"]), round(sizes["height"])) if len(sizes) == 2 else None


def compressed_csv(table: pl.DataFrame) -> str:
    """A table as CSV with so many significant digits, gzip, base64: lists as "0 1 2"; the same bytes for the same table."""
    lists = [name for name, kind in table.schema.items() if isinstance(kind, pl.List | pl.Array)]
    joined = [pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(" ") for name in lists]
    text = table.with_columns(pl.selectors.float().round_sig_figs(DIGITS), *joined).write_csv()
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
