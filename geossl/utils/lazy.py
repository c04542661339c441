"""Load the modules of a package on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType


def submodules(package: str, *names: str) -> Callable[[str], ModuleType]:
    """Return a ``__getattr__`` for a package that imports its modules when they are asked for.

    Args:
        package: the package's ``__name__``.
        names: its modules.

    Example:
        >>> __getattr__ = submodules(__name__, "maps", "plots")
    """

    def getattribute(name: str) -> ModuleType:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return getattribute
