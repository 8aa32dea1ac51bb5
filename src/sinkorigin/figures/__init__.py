"""The figures: one module a figure, each a pure ``draw(...)`` from tables to a matplotlib Figure, and one style."""
