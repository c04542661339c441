"""Word errors for the one who called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def rename_argument(name: str, argument: str) -> Iterator[None]:
    """Call an argument, in errors of the block, what the caller calls it.

    Raises:
        ValueError: the block raised it.

    Example:
        >>> with rename_argument("name", "encoder"):
        ...     raise ValueError("`name` must be one that timm has, got 'x'.")
        Traceback (most recent call last):
        ValueError: `encoder` must be one that timm has, got 'x'.
    """
    try:
        yield
    except ValueError as error:
        if f"`{name}`" not in str(error):
            raise
        raise type(error)(str(error).replace(f"`{name}`", f"`{argument}`")) from None
