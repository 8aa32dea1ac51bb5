"""Interactive charts of the page, one module each: ``draw`` makes the Vega-Lite chart, from tables of the study."""
