"""Let transformers find the variants' model types, without importing transformers, or anything heavy, before it must.

``import sinkorigin`` must stay cheap: a statistic needs neither transformers nor PyTorch, which take seconds to import. So
the table in which transformers looks up model types is given entries that are filled in, by importing the variants, when one
of them is asked for; and where transformers has not made that table yet, an import hook waits for it.
"""

import importlib
import importlib.abc
import importlib.util
import sys

_TABLE_MODULE = "transformers.models.auto.configuration_auto"
_SUFFIX = "_llama"  # of every model type of ours; it names none of transformers' own


class _ModelTypes(dict):
    """transformers' table of registered model types, {model type: configuration class}, and ours when asked for."""

    def __contains__(self, model_type):
        if isinstance(model_type, str) and model_type.endswith(_SUFFIX):
            importlib.import_module("sinkorigin.variants.llama")  # registers them here
        return super().__contains__(model_type)


class _Loader(importlib.abc.Loader):
    """Loads the module of the table as its own loader does, and puts ours in."""

    def __init__(self, own):
        self._own = own

    def create_module(self, spec):
        return self._own.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._own  # who looks later sees an ordinary module
        self._own.exec_module(module)
        _extend(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module of the table, once, through the other finders."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != _TABLE_MODULE or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def _extend(module) -> None:
    registered = module.CONFIG_MAPPING._extra_content
    if not isinstance(registered, _ModelTypes):
        module.CONFIG_MAPPING._extra_content = _ModelTypes(registered)


def register_when_needed() -> None:
    """Let transformers find the model types, whether it is imported already or will be."""
    module = sys.modules.get(_TABLE_MODULE)
    if module is not None:
        _extend(module)
    elif not any(type(finder).__module__ == __name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
