"""Train and validation loss against tokens, one line a run, with a band over its seeds."""

from collections.abc import Mapping

import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from sinkorigin.figures import run_looks, style

VIEWS = {  # (loss, share of the training left out at the start) → title
    ("train_loss", 0.0): "train",
    ("validation_loss", 0.0): "validation (held-out text)",
    ("validation_loss", 0.5): "validation, second half",
}


@style.styled
def draw(*, history: pl.DataFrame, groups: Mapping[str, str]) -> Figure:
    """Train, validation, and its second half enlarged, in a row for each group of runs that are compared with one another.

    Lines are means over seeds, bands reach from the lowest to the highest seed.
    """
    looks = run_looks.looks(style.in_order(history["run"]))
    runs_of = run_looks.by_group({run: groups[run] for run in looks})
    figure, axes = style.panels([(group, *view) for group in runs_of for view in VIEWS], most=len(VIEWS), height=1.5)
    for (group, loss, skipped), (ax,) in axes.items():
        rows = history.filter(pl.col("run").is_in(runs_of[group])).drop_nulls(loss)
        rows = rows.filter(pl.col("tokens") >= skipped * pl.col("tokens").max())
        for run in runs_of[group]:
            look = looks[run]
            here = rows.filter(pl.col("run") == run)
            sns.lineplot(
                x=here["tokens"].to_numpy(),
                y=here[loss].to_numpy(),
                ax=ax,
                errorbar=("pi", 100),  # 100 % percentile interval: lowest to highest
                err_kws={"alpha": style.BAND_ALPHA, "linewidth": 0},
                **look,
            )
        style.title(ax, VIEWS[loss, skipped], style.as_words(group))
        run_looks.tokens_axis(ax)
        ax.set_ylabel("cross-entropy (nats per token)" if style.is_leftmost(ax) else "")
    for group in runs_of:
        style.same_y([ax for (of, _, skipped), (ax,) in axes.items() if of == group and not skipped])
    handles = [style.line_handle(_label(history.filter(pl.col("run") == run)), **look) for run, look in looks.items()]
    style.legend(figure, [*handles, style.band_handle("lowest to highest seed")])
    return figure


def _label(history: pl.DataFrame) -> str:
    """Name of a run with its last validation loss: the differences are smaller than the curves can show."""
    text = run_looks.label(history)
    last = history.drop_nulls("validation_loss").sort("tokens").group_by("seed", maintain_order=True).last()
    if last.is_empty():
        return text
    values = last["validation_loss"].to_numpy()
    text += f"; last validation loss {values.mean():.3f}"
    return text if len(values) == 1 else f"{text} ({values.min():.3f} to {values.max():.3f})"
