"""The sites that can be measured. A further one is a module in ``sites/definitions/`` and its name here.

No module of the library imports this list, so that a new line changes the code of no job.
"""

SITES = (
    "residual",
    "attention_input",
    "value_aggregation",
    "output_projection_input",
    "output_projection_output",
    "attention_output",
    "ffn_input",
    "ffn_activation",
    "ffn_output",
    "query",
    "key",
    "attention",
)
