"""Search with a regular expression that a user passed, for a limited time."""

from __future__ import annotations

from typing import Any

_LIMIT_S = 1.0  # of one search; a pattern that backtracks for ever would take years


class Pattern:
    """A regular expression whose searches stop in the end.

    The standard library's cannot be interrupted, those of the package regex can.

    Attributes:
        groups: how many groups it has.
    """

    def __init__(self, name: str, pattern: str) -> None:
        import regex

        self._name, self._pattern = name, pattern
        try:
            self._compiled = regex.compile(pattern, regex.DOTALL)
        except (regex.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"`{name}` must be a regular expression, got {pattern[:80]!r}: {error}."
            ) from None
        self.groups: int = self._compiled.groups

    def search(self, text: str) -> Any:
        """Return the first match, or None.

        Raises:
            ValueError: it takes too long.
        """
        try:
            return self._compiled.search(text, timeout=_LIMIT_S)
        except TimeoutError:
            raise ValueError(
                f"`{self._name}` must match a name within {_LIMIT_S:g} s, got "
                f"{self._pattern[:80]!r}, "
                f"which does not for {text[:80]!r}. Write it without a repeat inside a repeat, "
                "such as (a+)+."
            ) from None


def compile_pattern(name: str, pattern: str) -> Pattern:
    """Compile the regular expression that a user passed as the argument ``name``.

    Raises:
        ValueError: it is none.
    """
    return Pattern(name, pattern)
