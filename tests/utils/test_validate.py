from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import ArrayLike

from geossl.utils.validate import Positive, check_choice, check_fields, validated


@validated
def take(rows: ArrayLike, *, mean: ArrayLike | torch.Tensor | None = None) -> None:
    pass


@pytest.mark.parametrize("rows", [1, 1.5, True, [1], (1,), range(2), [[1, 2]], np.zeros(2),
                                  np.float32(1), pd.Series([1]), torch.zeros(2)])  # fmt: skip
def test_array_like_takes_what_numpy_takes(rows):
    take(rows, mean=rows)


@pytest.mark.parametrize("rows", [None, "3", b"3", {}, {1}, object(), print])
def test_array_like_refuses_the_rest_by_name(rows):
    with pytest.raises(TypeError, match="`rows` must be an array, got"):
        take(rows)
    if rows is not None:
        with pytest.raises(TypeError, match="`mean` must be an array or a Tensor or None, got"):
            take(1, mean=rows)


@validated
def options(
    bands: Sequence[str] = (), *, sizes: Sequence[Positive] = (), name: str = "",
    on: Literal["a", 1] = "a",
    lr: float = 1.0, count: int = 1, flag: bool = False, span: tuple[float, float] = (0, 1),
):  # fmt: skip
    return bands, sizes, name, on, lr, count, flag, span


def test_numpys_scalars_are_pythons():
    for make in (np.asarray, lambda value: np.asarray(value)[()]):
        got = options(name=make("x"), on=make("a"), lr=make(2.5), count=make(3), flag=make(True))
        assert got[2:7] == ("x", "a", 2.5, 3, True)
        assert [type(value) for value in got[2:7]] == [str, str, float, int, bool]
        assert options(on=make(1))[3] == 1
        assert repr(options(span=(make(0), make(1)))[-1]) == "(0, 1)"
    for wrong in ({"on": True}, {"count": np.array(2.5)}, {"count": np.array([3])},
                  {"lr": np.array("2")}, {"name": np.array(["x"])},
                  {"lr": np.datetime64("2020")}):  # fmt: skip
        with pytest.raises(TypeError, match=f"`{next(iter(wrong))}` must be"):
            options(**wrong)
    with pytest.raises(ValueError, match="`lr` must be finite"):
        options(lr=10**400)
    check_choice("head", np.str_("fpn"), ("fpn", "fcn"))


@dataclass(frozen=True)
class Fields:
    sizes: Sequence[Positive]

    def __post_init__(self):
        check_fields(self)


def test_a_sequence_is_a_list_whose_items_are_checked():
    for given in (["a", "b"], np.array(["a", "b"]), pd.Series(["a", "b"]), pd.Index(["a", "b"]),
                  (x for x in "ab"), {"a": 0, "b": 1}.keys()):  # fmt: skip
        assert options(given)[0] == ["a", "b"]
    assert options(sizes=torch.tensor([1, 2]))[1] == [1, 2]
    assert Fields(np.arange(1, 3)).sizes == [1, 2]
    assert options(("a", "b"))[0] == ("a", "b")
    for given in ({"a", "b"}, frozenset("ab"), {"a": 1}, "ab", np.array("a"), 3, None):
        with pytest.raises(TypeError, match="`bands` must be a list of str, got"):
            options(given)
    with pytest.raises(TypeError, match=r"must be a list of str, got 'B4'. Pass \['B4'\].$"):
        options("B4")
    for given in (np.array([1, 2]), (x for x in (1, 2)), pd.Series([1])):
        with pytest.raises(TypeError, match=r"`bands\[0\]` must be a string, got 1"):
            options(given)
    with pytest.raises(ValueError, match=r"`sizes\[1\]` must be > 0, got 0"):
        Fields(np.array([1, 0]))
