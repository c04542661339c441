"""Check what users pass against the type hints of the functions and dataclasses they use.

A function is checked by the decorator `validated`, a dataclass by `check_fields` in its
``__post_init__``: a new option is checked by being declared. Ranges are part of the hint, as
``Annotated`` types with the constraints of the package annotated-types.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import operator
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union

import numpy as np
from annotated_types import Ge, Gt, Interval
from numpy.typing import ArrayLike

P = ParamSpec("P")
R = TypeVar("R")

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]  # from 0 to 1, both included
PositiveFraction = Annotated[float, Interval(gt=0, le=1)]
Longitude = Annotated[float, Interval(ge=-180, le=180)]  # degrees
Latitude = Annotated[float, Interval(ge=-90, le=90)]  # degrees
Seed = Annotated[int, Ge(0)]

_ADVICE: dict[Any, str] = {}
_FIELD_HINTS: dict[type, dict[str, Any]] = {}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_PLAIN_WORDS: dict[Any, str] = {
    float: "a number", int: "an integer", bool: "True or False", str: "a string",
    np.ndarray: "an array", dict: "a dictionary", Mapping: "a dictionary", Callable: "a function",
    os.PathLike: "a path", type(None): "None", None: "None",
}  # fmt: skip
_ARRAY_LIKE = frozenset(typing.get_args(ArrayLike))


class AllowInfinity:
    """Metadata of a float that may be infinite: ``Annotated[float, Ge(0), AllowInfinity]``."""


def validated(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a function against its type hints before it runs.

    Args:
        function: parameters without a hint, or with one that only type checkers can resolve, are
            not checked.

    Returns:
        The function, which raises TypeError for an argument of a wrong type, and ValueError for one
        that is out of its range, is no finite number, or is none of the words of a ``Literal``. It
        gets Python's own numbers, words and lists for those of numpy, see `check`.

    Example:
        >>> @validated
        ... def half(x: Positive) -> float:
        ...     return x / 2
        >>> half(-1)
        Traceback (most recent call last):
        ValueError: `x` must be > 0, got -1.
    """
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not hints:
            hints.update(_hints_of(function, signature))
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # Python's own message names the function
            return function(*args, **kwargs)
        for name, value in bound.arguments.items():
            hint = hints[name]
            if hint is Any:
                continue
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(check(name, item, hint) for item in value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {k: check(k, item, hint) for k, item in value.items()}
            elif value is not signature.parameters[name].default:
                bound.arguments[name] = check(name, value, hint)
        return function(*bound.args, **bound.kwargs)

    return checked


def advise(kind: type, advice: str) -> None:
    """Add a sentence to the message that refuses something in place of a ``kind``."""
    _ADVICE[kind] = f" {advice}"


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass against their type hints.

    Raises:
        TypeError: a field has a wrong type.
        ValueError: a field is out of its range, not finite, or none of the words of a ``Literal``.
    """
    for name, hint in _field_hints(type(instance)).items():
        object.__setattr__(instance, name, check(name, getattr(instance, name), hint))


def check(name: str, value: Any, hint: Any) -> Any:
    """Check one value against a type hint.

    Args:
        name: of the argument, for the message.
        value: what was passed.
        hint: a type, or a form of `typing`; hints that say nothing testable accept everything.

    Returns:
        The value; Python's own number, string or truth value for one of numpy, and a list for an
        array, a generator or another ordered collection where the hint is a ``Sequence``.

    Raises:
        TypeError: a wrong type.
        ValueError: out of range, not finite, or an unknown word.
    """
    origin = typing.get_origin(hint)
    if hint is Any or isinstance(hint, TypeVar | str):
        return value
    if origin is Annotated:
        inner, *constraints = typing.get_args(hint)
        value = _check_plain(name, value, inner, finite=AllowInfinity not in constraints)
        for constraint in constraints:
            _check_range(name, value, constraint)
        return value
    if origin is Literal:
        value = _as_plain(value)
        _check_word(name, value, typing.get_args(hint))
        return value
    if origin in (Union, types.UnionType):
        return _check_union(name, value, typing.get_args(hint))
    return _check_plain(name, value, hint)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Check that a value is one of some words, for choices that are known at run time only.

    Raises:
        TypeError: the value is of another type than the choices.
        ValueError: it is none of them.
    """
    _check_word(name, _as_plain(value), tuple(choices))


def _field_hints(cls: type) -> dict[str, Any]:
    if cls not in _FIELD_HINTS:
        hints: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            scope = vars(sys.modules[base.__module__])
            for name, annotation in inspect.get_annotations(base).items():
                hints[name] = _resolve(annotation, scope)
        _FIELD_HINTS[cls] = {
            name: hint
            for name, hint in hints.items()
            if typing.get_origin(hint) is not typing.ClassVar
        }
    return _FIELD_HINTS[cls]


def _hints_of(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    return {name: _resolve(p.annotation, scope) for name, p in signature.parameters.items()}


def _resolve(annotation: Any, scope: Mapping[str, Any]) -> Any:
    """Return the type that an annotation stands for; Any if only type checkers know it."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(scope))
    except (NameError, AttributeError):
        return Any


def _check_union(name: str, value: Any, options: tuple[Any, ...]) -> Any:
    if value is None and type(None) in options:
        return value
    if _ARRAY_LIKE.issubset(options):  # its parts are protocols, which refuse a plain number
        if _is_array_like(value):
            return value
        options = (np.ndarray, *(option for option in options if option not in _ARRAY_LIKE))
    rest = [option for option in options if option is not type(None)]
    if len(rest) == 1:
        return check(name, value, rest[0])
    refusal: Exception | None = None
    for option in rest:
        try:
            return check(name, value, option)
        except ValueError as error:
            refusal = error
        except TypeError:
            continue
    if refusal is not None:
        raise refusal
    words = dict.fromkeys(_words(option) for option in options)
    raise TypeError(f"`{name}` must be {' or '.join(words)}, got {_shown(value)}.")


def _is_array_like(value: Any) -> bool:
    """Whether numpy makes an array of it; a single string is none."""
    plain = isinstance(value, numbers.Number | np.generic | Sequence)
    return (plain or hasattr(value, "__array__")) and not isinstance(value, str | bytes)


def _check_word(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if any(
        value is choice or (type(value) is type(choice) and value == choice) for choice in choices
    ):
        return
    kind = ValueError if type(value) in {type(choice) for choice in choices} else TypeError
    raise kind(f"`{name}` must be one of {list(choices)}, got {_shown(value)}.")


def _check_range(name: str, value: Any, constraint: Any) -> None:
    for bound in constraint if isinstance(constraint, Interval) else [constraint]:
        for word, symbol in _BOUNDS.items():
            limit = getattr(bound, word, None)
            if limit is not None and not getattr(operator, word)(value, limit):
                raise ValueError(f"`{name}` must be {symbol} {limit}, got {_shown(value)}.")


def _as_plain(value: Any) -> Any:
    """Return Python's own number, string or truth value for an array without dimensions."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        plain = value.item()
        return plain if isinstance(plain, bool | numbers.Number | str) else value
    return value


def _check_plain(name: str, value: Any, hint: Any, *, finite: bool = True) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    kind = origin or hint
    if kind in (float, int, bool, str):
        value = _as_plain(value)
    if kind is float:
        _require(name, value, hint, isinstance(value, numbers.Real) and not isinstance(value, bool))
        try:
            ok = math.isfinite(value) or (math.isinf(value) and not finite)
        except OverflowError:  # an integer of more than 308 digits
            ok = False
        if not ok:
            raise ValueError(f"`{name}` must be finite, got {_shown(value)}.")
    elif kind is int:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        _require(name, value, hint, whole)
    elif kind is tuple and args:
        return _check_tuple(name, value, hint, args)
    elif kind in (list, Sequence):
        return _check_list(name, value, hint, args)
    elif kind in (Iterable, set, frozenset):
        ok = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        _require(name, value, hint, ok)
        if args and isinstance(value, list | tuple):
            return _check_list(name, value, hint, args)
    elif kind in (dict, Mapping):
        _require(name, value, hint, isinstance(value, Mapping))
        for key, item in value.items() if args else ():
            check(f"key of {name}", key, args[0])
            check(f"{name}[{key!r}]", item, args[1])
    elif kind is Callable:
        _require(name, value, hint, callable(value))
    elif isinstance(kind, type) and (
        not getattr(kind, "_is_protocol", False) or getattr(kind, "_is_runtime_protocol", False)
    ):
        given_class = isinstance(value, type) and kind is not type
        _require(name, value, hint, isinstance(value, kind) and not given_class)
    return value


def _check_list(name: str, value: Any, hint: Any, args: tuple[Any, ...]) -> Any:
    unordered = isinstance(value, str | bytes | set | frozenset | Mapping)
    _require(name, value, hint, isinstance(value, Iterable) and not unordered)
    plain = value
    if not isinstance(value, list | tuple):
        plain = value.tolist() if hasattr(value, "tolist") else list(value)
    _require(name, value, hint, isinstance(plain, list | tuple))
    return _check_items(name, plain, args[:1] * len(plain))


def _check_tuple(name: str, value: Any, hint: Any, args: tuple[Any, ...]) -> Any:
    _require(name, value, hint, isinstance(value, tuple | list))
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(value) != len(args):
        raise ValueError(f"`{name}` must have {len(args)} values, got {_shown(value)}.")
    return _check_items(name, value, args)


def _check_items(name: str, value: list | tuple, hints: tuple[Any, ...]) -> list | tuple:
    plain = [check(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(value, hints, strict=False))]
    if all(map(operator.is_, plain, value)):
        return value
    return plain if isinstance(value, list) else tuple(plain)


def _require(name: str, value: Any, hint: Any, ok: bool) -> None:
    if not ok:
        single = _words(hint)[:6] == "a list" and isinstance(value, int | float | str)
        advice = f" Pass [{_shown(value)}]." if single else _ADVICE.get(hint, "")
        raise TypeError(f"`{name}` must be {_words(hint)}, got {_shown(value)}.{advice}")


def _words(hint: Any) -> str:
    """Return a type in words: "a number", "a list of str", "a ChipStore"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _words(args[0])
    if origin is Literal:
        return f"one of {list(args)}"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(option) for option in args))
    kind = origin or hint
    if kind in _PLAIN_WORDS:
        return _PLAIN_WORDS[kind]
    if kind is tuple and args and args[-1] is not Ellipsis:
        return f"a tuple of {len(args)}"
    if kind in (list, Sequence, Iterable, tuple, set, frozenset):
        item = getattr(args[0], "__name__", "") if args else ""
        return f"a list of {item}" if item else "a list"
    word = getattr(kind, "__name__", str(kind))
    return f"a{'n' if word[0] in 'AEIOU' else ''} {word}"


def _shown(value: Any) -> str:
    """Return a value as a message shows it: small ones whole, others by their type."""
    short = isinstance(value, tuple | list) and len(repr(value)) <= 80
    if short or isinstance(value, str | bytes | numbers.Number | None):
        return text if len(text := repr(value)) <= 80 else f"{text[:77]}..."
    if isinstance(value, type):
        return f"the class {value.__name__}"
    word = type(value).__name__
    return f"a{'n' if word[0] in 'AEIOUaeiou' else ''} {word}"
