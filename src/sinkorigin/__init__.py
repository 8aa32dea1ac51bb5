"""sinkorigin: measure attention sinks and their cause on any Hugging Face causal language model.

Public names are imported on first use, because torch and transformers take seconds to import and the statistics and
figures need neither.
"""

from importlib import import_module
from importlib.util import find_spec

__version__ = "0.1.0"

_HOME = {
    "SinkoriginError": "sinkorigin.errors",
    "load_model": "sinkorigin.models.loading",
    "read_architecture": "sinkorigin.sites.architecture",
    "watch_sites": "sinkorigin.activations.capture",
    "intervene": "sinkorigin.interventions.context",
    "measure": "sinkorigin.notebook.measure",
    "anatomy": "sinkorigin.notebook.anatomy",
}


def __getattr__(name: str):
    home = _HOME.get(name)
    if home is None and name[:1].isupper():  # a kind of intervention, whose class is named as its module
        kind = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
        home = f"sinkorigin.interventions.kinds.{kind}"
    if home is None or find_spec(home) is None:
        raise AttributeError(f"module 'sinkorigin' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__():
    return sorted([*globals(), *_HOME])
