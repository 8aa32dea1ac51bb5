"""sinkorigin: measure attention sinks and their cause on any Hugging Face causal language model.

Public names are imported on first use, because torch and transformers take seconds to import and the statistics and
figures need neither.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "SinkoriginError": "sinkorigin.errors",
    "load_model": "sinkorigin.models.loading",
    "read_architecture": "sinkorigin.sites.architecture",
    "watch_sites": "sinkorigin.activations.capture",
    "intervene": "sinkorigin.interventions",
    "Mask": "sinkorigin.interventions",
    "Recombination": "sinkorigin.interventions",
    "VarianceAmplification": "sinkorigin.interventions",
    "NormControl": "sinkorigin.interventions",
    "RandomDirections": "sinkorigin.interventions",
    "MeanShift": "sinkorigin.interventions",
    "ShuffledDeviations": "sinkorigin.interventions",
    "ValueAveraging": "sinkorigin.interventions",
    "NeuronAblation": "sinkorigin.interventions",
    "DimReplacement": "sinkorigin.interventions",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'sinkorigin' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__():
    return sorted([*globals(), *_HOME])
