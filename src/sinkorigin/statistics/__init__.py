"""Statistics: tables in, tables out; one module each, which declares the schemas of the tables that it makes."""
