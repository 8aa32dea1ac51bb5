"""Statistics: tables in, tables out; each module owns the schemas of the tables that it makes. None imports torch."""
