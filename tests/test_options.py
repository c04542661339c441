"""Every option of every public function is checked where the user enters."""

import dataclasses
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal, Union

import numpy as np
import pandas as pd
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le, Lt
from numpy.typing import ArrayLike

import geossl
from geossl import PretrainConfig, pairs, pretrain
from geossl.utils import validate

INTERNAL = ("geossl.utils",)  # what the library uses itself
RESULTS = ("ProbeResult", "ClassMap")  # dataclasses that functions return, not built by users


def public_modules():
    """Modules that are reached from `geossl` through the ``__all__`` of each package."""
    waiting, seen = [geossl], []
    while waiting:
        module = waiting.pop()
        seen.append(module)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if isinstance(thing, types.ModuleType) and thing not in seen:
                if not thing.__name__.startswith(INTERNAL):
                    waiting.append(thing)
    return seen


def public_callables():
    """Name -> function, of the functions and of the public methods of the classes in them."""
    found = {}
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            home = getattr(thing, "__module__", "") or ""
            if not home.startswith("geossl."):
                continue
            if inspect.isclass(thing):
                if issubclass(thing, BaseException) or getattr(thing, "_is_protocol", False):
                    continue
                found |= methods_of(f"{home}.{thing.__name__}", thing)
            elif callable(thing):
                found[f"{home}.{name}"] = thing
    return found


def methods_of(name, cls):
    found = {}
    if dataclasses.is_dataclass(cls):
        defaults = [f for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING]
        if defaults and cls.__name__ not in RESULTS:  # without defaults it is a result too
            found[name] = cls
    elif "__init__" in vars(cls):
        found[name] = cls
    if issubclass(cls, torch.nn.Module | geossl.train.Objective) or hasattr(cls, "prepare"):
        return found  # the loop calls their methods
    for key, value in vars(cls).items():
        if key.startswith("_"):
            continue
        if isinstance(value, classmethod | staticmethod):
            found[f"{name}.{key}"] = getattr(cls, key)
        elif inspect.isfunction(value):
            found[f"{name}.{key}"] = value
    return found


CALLABLES = public_callables()


def hints_of(function):
    target = function
    if inspect.isclass(function) and not dataclasses.is_dataclass(function):
        target = function.__init__
    if dataclasses.is_dataclass(function):
        hints = validate._field_hints(function)
        return {f.name: hints[f.name] for f in dataclasses.fields(function) if f.init}
    signature = inspect.signature(target)
    hints = validate._hints_of(target, signature)
    return {name: hint for name, hint in hints.items() if name != "self"}


def plain(hint):
    """The members of a union, without None; constraints of an Annotated one with its type."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return [m for option in typing.get_args(hint) for m in plain(option)]
    return [] if hint in (None, type(None)) else [hint]


def inner(hint):
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def wrong_values(hint):
    """Values that no option of this type takes."""
    members = plain(hint)
    kinds = [typing.get_origin(inner(m)) or inner(m) for m in members]
    if not members or Any in members or any(isinstance(m, str | typing.TypeVar) for m in members):
        return
    if all(kind not in (Any, object) and not is_unchecked(kind) for kind in kinds):
        yield object()
    if set(kinds) <= {int, float}:
        yield "no number"
        if float in kinds:
            yield math.nan
            if not any(validate.AllowInfinity in typing.get_args(m)[1:] for m in members):
                yield math.inf
        else:
            yield 2.5
        if not any(allows(m, -1) for m in members):
            yield -1
    if set(kinds) == {Literal}:
        yield "no such word"
    if set(kinds) == {bool}:
        yield "yes"


def is_unchecked(kind):
    protocol = getattr(kind, "_is_protocol", False) and not getattr(
        kind, "_is_runtime_protocol", False
    )
    return protocol or not (isinstance(kind, type) or kind in (Literal, Callable, tuple))


def allows(member, value):
    if typing.get_origin(member) is not Annotated:
        return True
    for constraint in typing.get_args(member)[1:]:
        for bound in constraint if isinstance(constraint, Interval) else [constraint]:
            refused = (
                (isinstance(bound, Gt) and not value > bound.gt)
                or (isinstance(bound, Ge) and not value >= bound.ge)
                or (isinstance(bound, Lt) and not value < bound.lt)
                or (isinstance(bound, Le) and not value <= bound.le)
            )
            if refused:
                return False
    return True


def stand_in(hint):
    """A value of a type, for arguments that the call under test needs but does not use."""
    member = (plain(hint) or [Any])[0]
    if hint is ArrayLike or member in (ArrayLike, typing.get_args(ArrayLike)[0]):
        return np.zeros(2)
    constraints = typing.get_args(member)[1:] if typing.get_origin(member) is Annotated else ()
    kind = typing.get_origin(inner(member)) or inner(member)
    args = typing.get_args(inner(member))
    if kind in (int, float):
        return (
            next(v for v in (1, 0.5, 2, 8, 0) if allows(Annotated[(kind, *constraints)], v))
            if constraints
            else 1
        )
    known = {
        str: "x", bool: True,
        pd.DataFrame: pd.DataFrame({"location": [0], "lon": [0.0], "lat": [0.0]}),
        pd.Series: pd.Series([0]), torch.Tensor: torch.zeros(2, 3), np.ndarray: np.zeros(2),
        os.PathLike: "x", date: date(2020, 1, 1), torch.device: torch.device("cpu"),
        Callable: print,
    }  # fmt: skip
    if kind in known:
        return known[kind]
    if kind is Literal:
        return args[0]
    if kind is tuple:
        return tuple(stand_in(a) for a in args if a is not Ellipsis)
    if kind in (list, Sequence, Iterable, set):
        return [stand_in(args[0])] if args else []
    if kind in (dict, Mapping):
        return {}
    if kind is pairs.PairSampler:
        return pairs.same_image()
    if isinstance(kind, type) and kind is not object:
        try:
            return kind.__new__(kind)
        except TypeError:
            return types.SimpleNamespace()
    return None


def call_with(function, name, value, hints):
    """Call with one wrong value, and stand-ins for what must be given."""
    signature = inspect.signature(function)
    arguments, keywords = [], {}
    for other, parameter in signature.parameters.items():
        kind = parameter.kind
        if other == "self":
            arguments.append(types.SimpleNamespace())
        elif kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            if other == name and kind is parameter.VAR_POSITIONAL:
                arguments.append(value)
        elif other == name:
            keywords[other] = value
        elif parameter.default is parameter.empty:
            keywords[other] = stand_in(hints.get(other, Any))
    if arguments:
        positional = [n for n in signature.parameters if n in keywords]
        first = list(signature.parameters)[0]
        if first != "self" and positional:
            return function(*arguments, **keywords)
    return function(*arguments, **keywords)


def faults(function):
    """What is wrong with the options of a function, a line each."""
    hints = hints_of(function)
    for name, hint in hints.items():
        for value in wrong_values(hint):
            shown = f"{name}={'object()' if type(value) is object else repr(value)}"
            try:
                call_with(function, name, value, hints)
            except (TypeError, ValueError) as error:
                if name not in str(error):
                    yield f"{shown}: {type(error).__name__} without its name: {error}"
            except Exception as error:
                yield f"{shown}: {type(error).__name__}: {error}"
            else:
                yield f"{shown} is accepted"


@pytest.mark.parametrize("name", CALLABLES)
def test_every_option_is_checked(name):
    assert list(faults(CALLABLES[name])) == []


def test_the_walk_sees_what_it_should():
    """It covers the library, and finds a function that checks nothing."""
    assert len(CALLABLES) > 120
    for name in ("geossl.train.pretrain.pretrain", "geossl.data.store.ChipStore.build",
                 "geossl.train.config.PretrainConfig", "geossl.transforms.Views"):  # fmt: skip
        assert name in CALLABLES

    def unchecked(x: int = 1, word: Literal["a", "b"] = "a") -> None:
        if x:
            word.upper()

    lines = list(faults(unchecked))
    assert "x='no number' is accepted" in lines and "word='no such word' is accepted" in lines
    assert any(line.startswith("word=object(): AttributeError") for line in lines)
    assert list(faults(validate.validated(unchecked))) == []


def test_typing_errors_no_longer_train():
    with pytest.raises(
        ValueError, match=r"`optimizer` must be one of \['sgd', 'adamw'\], got 'adam'"
    ):
        PretrainConfig(optimizer="adam")
    with pytest.raises(ValueError, match="`precision` must be one of"):
        PretrainConfig(precision="fp16")
    with pytest.raises(ValueError, match="`lr` must be > 0, got -1"):
        PretrainConfig(lr=-1)
    with pytest.raises(ValueError, match="`epochs` must be finite, got inf"):
        PretrainConfig(epochs=math.inf)
    with pytest.raises(TypeError, match="`batch_size` must be an integer, got 2.5"):
        PretrainConfig(batch_size=2.5)
    with pytest.raises(TypeError, match="`store` must be a ChipStore"):
        pretrain("runs/chips", pairs=pairs.temporal())


def test_wrong_calls_are_named_as_python_names_them():
    with pytest.raises(
        TypeError, match=r"pretrain\(\) got an unexpected keyword argument 'epochs'"
    ):
        pretrain(None, epochs=1)
    with pytest.raises(TypeError, match="`pairs` must be a PairSampler.* got the class Temporal"):
        pretrain(object.__new__(geossl.ChipStore), pairs=pairs.temporal)
    with pytest.raises(TypeError, match=r"got 'chips'. Open one with ChipStore.open\(path\)"):
        pretrain("chips", pairs=pairs.temporal())
