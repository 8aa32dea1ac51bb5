"""What the rule of the claims gives them: the files of exactly the tables that it declares."""

import re
from pathlib import Path

RULE = Path(__file__).parents[1] / "rules" / "claims.smk"


def declared_tables(root: Path) -> dict[str, list[Path]]:
    """Every table that the rule names as an input → its files below a study's folder, none where there are none."""
    inputs = RULE.read_text().split("    input:\n")[1].split("    output:\n")[0]
    names = {*re.findall(r'^ +"(\w+)",$', inputs, flags=re.MULTILINE)}
    for line in re.findall(r"for name in \((.+)\)\}", inputs, flags=re.MULTILINE):
        names |= set(re.findall(r'"(\w+)"', line))
    return {name: sorted((root / "statistics").rglob(f"{name}.parquet")) for name in sorted(names)}
