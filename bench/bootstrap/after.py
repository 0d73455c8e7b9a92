"""Do something to a module once it is loaded, without importing it any sooner than the process does."""

import importlib.abc
import importlib.machinery
import sys


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, names, loaded):
        self._names, self._loaded = names, loaded

    def find_spec(self, name, path, target=None):
        if name not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self._loaded(module)

        spec.loader.exec_module = exec_module
        return spec


def after_import(names, loaded):
    """Have `loaded` called with each of these modules, once it is there."""
    sys.meta_path.insert(0, _Finder(frozenset(names), loaded))
