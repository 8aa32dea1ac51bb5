"""The table of supported classes: its columns, its counts, and docs/support.md."""

from textwrap import fill

import pyarrow as pa

from sinkorigin import tables

SUPPORTED, BUT, REFUSED, UNTRIED = "supported", "supported but for", "refused", "not tried"

SCHEMA = tables.schema(
    model_type=(pa.string(), "model type, as config.json names it"),
    model_class=(pa.string(), "class of the causal language model"),
    outcome=(pa.string(), f"{SUPPORTED}; {BUT} (what some layers lack); {REFUSED}; {UNTRIED}: no tiny instance could be made"),
    reason=(pa.string(), "what is lacking and why, or why the class is refused; null where nothing is lacking"),
    attention_layers=(pa.int32(), "layers of the tiny instance that have attention; null where it is refused"),
    layers=(pa.int32(), "layers of the tiny instance; null where it is refused"),
    eager=(
        pa.bool_(),
        "whether the attention is seen in the class's own eager attention, not through transformers' attention interface",
    ),
    partial=(pa.bool_(), "whether edited passes begin at the edited layer and position; else they run in full"),
    transformers=(pa.string(), "version of transformers"),
)  # fmt: skip

_INTRODUCTION = """\
# Which models are supported

{summary}

`snakemake --cores all support` makes this table (`results/support.parquet`), and `make support` this page from it. It shrinks the
default config of every type, as a decoder where the class may be either, gives all parameters random values, and tries:

- capture: the logits with all sites watched equal those without, to the bit;
- the attention: hidden states are those of the class's own eager attention;
- recombination: x + attention + FFN, through the block's norms where it has them behind the sums, is the next residual stream to 1e-5;
- the mask at a position, and an edit of its value aggregation: the mask leaves the position's attention to itself only, both move the
  residual stream from there on, and neither moves anything before;
- a pass from a layer and a position on, which must end where a full pass does.

What fails is refused, and so is such a model when it is measured. *Attention* says where the attention is seen: through transformers'
attention interface, or in the class's own eager attention. *Passes* says whether interventions run from the edited layer and position
on, or in full, which takes longer and gives the same. A model has what its own config says, so one with other settings than the
defaults may lack other parts; `architecture.parquet` of its study says which."""


def counts(table: pa.Table) -> dict[str, int]:
    """Outcome → number of model types, in the order in which the page lists them."""
    outcomes = table["outcome"].to_pylist()
    return {outcome: outcomes.count(outcome) for outcome in (SUPPORTED, BUT, REFUSED, UNTRIED)}


def summary(table: pa.Table) -> str:
    """A sentence: how many model types are supported, wholly or in part, and how many are not."""
    number = counts(table)
    measured = number[SUPPORTED] + number[BUT]
    sentence = (
        f"Of the {len(table)} types of causal decoders that transformers {table['transformers'][0].as_py()} registers, {measured} "
        f"are supported ({number[SUPPORTED]} with every site in every layer, {number[BUT]} but for what its row names), "
        f"{number[REFUSED]} are refused, and of {number[UNTRIED]} no tiny instance could be made."
    )
    return fill(sentence, 132)


def page(table: pa.Table) -> str:
    """The table as Markdown: docs/support.md."""
    sections = {
        SUPPORTED: "Supported: every site in every layer",
        BUT: "Supported but for",
        REFUSED: "Refused",
        UNTRIED: "Not tried: no tiny instance could be made",
    }
    rows = table.to_pylist()
    lines = [_INTRODUCTION.format(summary=summary(table))]
    for outcome, title in sections.items():
        chosen = [row for row in rows if row["outcome"] == outcome]
        lines += ["", f"## {title} ({len(chosen)})", ""]
        if not chosen:
            continue
        measured = outcome in (SUPPORTED, BUT)
        lines.append(
            "| type | class |"
            + (" attention | passes |" if measured else "")
            + ("" if outcome == SUPPORTED else " reason |")
        )
        lines.append("|---|---|" + ("---|---|" if measured else "") + ("" if outcome == SUPPORTED else "---|"))
        for row in chosen:
            cells = [f"`{row['model_type']}`", f"`{row['model_class']}`"]
            if measured:
                cells += ["eager" if row["eager"] else "interface", "partial" if row["partial"] else "full"]
            if outcome != SUPPORTED:
                cells.append(row["reason"].replace("|", "\\|"))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
