"""Definitions of the sites, one module a site, loaded by name; ``sites/registry.py`` lists them."""
