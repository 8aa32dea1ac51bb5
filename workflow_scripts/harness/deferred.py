"""Parts of other libraries that no job uses and each job would pay for: imported when they are first used.

transformers imports ``scipy.optimize`` for the losses of its object detectors, seaborn ``scipy.stats`` and
``scipy.cluster`` for density plots and dendrograms: some five hundred modules, more than half a second of each job.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

UNUSED: Mapping[str, frozenset[str]] = {
    "scipy.optimize": frozenset({"linear_sum_assignment"}),
    "scipy.stats": frozenset({"gaussian_kde"}),
    "scipy.cluster": frozenset({"hierarchy"}),
}
"""By module, the names that others take from it and do not use."""


class _Later:
    """A name of a module that is not yet imported: calling it, or asking it for an attribute, imports the module."""

    def __init__(self, module: "_Deferred", name: str):
        self._module, self._name = module, name

    def _now(self):
        self._module.import_now()
        return getattr(self._module, self._name)

    def __call__(self, *args, **kwargs):
        return self._now()(*args, **kwargs)

    def __getattr__(self, attribute: str):
        return getattr(self._now(), attribute)


class _Deferred(ModuleType):
    """A module that is imported as soon as anything but its names in :data:`UNUSED` is asked for."""

    def __getattr__(self, name: str):
        if name.startswith("__"):  # asked by the import system itself
            raise AttributeError(name)
        if name in UNUSED[self.__name__]:
            return _Later(self, name)
        self.import_now()
        return getattr(self, name)

    def import_now(self) -> None:
        if type(self) is _Deferred:
            object.__setattr__(self, "__class__", ModuleType)
            assert self.__spec__ is not None and isinstance(self.__spec__.loader, _DeferredLoader)
            self.__spec__.loader.loader.exec_module(self)


class _DeferredLoader(Loader):
    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Deferred(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Finder(MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname not in UNUSED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferredLoader(spec.loader)
        return spec


@contextmanager
def unused_imports_deferred() -> Iterator[None]:
    """What is imported in this context gets the modules of :data:`UNUSED` when it first uses them."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
