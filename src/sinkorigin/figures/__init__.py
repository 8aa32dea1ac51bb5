"""The figures: one module a figure, each a pure ``draw(...)`` from tables to a matplotlib Figure, and one style.

Arguments of every ``draw``, as far as it has them:
    a table: named as its file without ``.parquet``; the files of every model and prompts, or run, one below the other.
    labels: model → label, in the order of the panels.
    groups: run → name of the group of runs that it is compared with, in the order of the panels.
    prompts: the prompt set on which models are shown.
    kinds: the kinds of intervention of the study, in the order of the legend or of the rows.
"""
