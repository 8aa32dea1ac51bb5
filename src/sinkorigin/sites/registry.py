"""The sites that can be measured. A further one is a module in ``sites/definitions/`` and its name here.

No module of the library imports this list, so that a new line changes the code of no job.
"""

SITES = (
    "residual",
    "attention_input",
    "value_aggregation",
<<<<<<< HEAD
    "output_projection_input",
=======
    "projected_aggregation",
>>>>>>> 75fedf5 (Necessity edits remove what they say: variance never grows, dims are all that the starting neurons write, neurons that end the surge stay)
    "attention_output",
    "ffn_input",
    "ffn_activation",
    "ffn_output",
    "query",
    "key",
    "attention",
)
