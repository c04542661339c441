from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import ArrayLike

from geossl.utils.validate import validated


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
