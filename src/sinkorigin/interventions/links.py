"""Names of the links of the chain between an edit and the sink that it makes, as tables and figures call them.

Apart from what runs them, because figures import no PyTorch.
"""

AGGREGATION, OUTPUT = "value aggregation", "attention output"
NEURONS, DIMS = "super neurons", "dominating dims"
KEY = "key"
LINKS = (AGGREGATION, OUTPUT, NEURONS, DIMS, KEY)  # from cause to effect
