"""Training, validation and test rows of a scene table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.data import scenes
from geossl.data.splits import is_in_split, split_name
from geossl.embeddings import Embeddings

_VAL_SHARE = 5  # without a val split, one in so many training locations becomes val
Split: TypeAlias = Literal["column", "blocks"] | pd.Series
Parts: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class LabeledRows:
    """The labeled rows of a scene table, split.

    Attributes:
        table: the scenes.
        codes: ``(M,)`` int64 class of every row, -1 without a label.
        names: of the classes, in the order of their codes.
        train, val, test: rows with a label; val may be empty.
    """

    table: pd.DataFrame
    codes: np.ndarray
    names: list[Any]
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def trained(self) -> np.ndarray:
        """Codes ``(C,)`` of the classes that have training rows."""
        return np.unique(self.codes[self.train])

    @property
    def targets(self) -> Tensor:
        """Class ``(M,)`` of every row as its place in `trained`, -1 for all other rows."""
        return torch.from_numpy(pd.Index(self.trained).get_indexer(self.codes))

    def probabilities(self, of_trained: np.ndarray) -> np.ndarray:
        """Probabilities ``(N, len(names))`` from those of the trained classes ``(N, C)``."""
        result = np.zeros((len(of_trained), len(self.names)), of_trained.dtype)
        result[:, self.trained] = of_trained
        return result


def labeled_rows(
    table: pd.DataFrame, label: str, *, split: Split, test_split: str, block_deg: float, seed: int
) -> LabeledRows:
    """Return the rows with a label, split; needs two classes in the training rows."""
    require_label(table, label)
    codes, names = scenes.label_codes(table[label])
    parts = split_rows(
        table, codes >= 0, label=label, split=split, test_split=test_split, block_deg=block_deg,
        seed=seed,
    )  # fmt: skip
    classes = len(np.unique(codes[parts[0]]))
    if classes < 2:
        raise ValueError(
            f"Training needs two classes or more of {label!r}, got {classes} in {len(parts[0])} "
            "training rows. Choose another `label` or `split`."
        )
    return LabeledRows(table, codes, names, *parts)


def split_rows(
    table: pd.DataFrame,
    known: np.ndarray,
    *,
    label: str,
    split: Split,
    test_split: str,
    block_deg: float,
    seed: int,
) -> Parts:
    """Return the rows of train, val (may be empty) and test whose label is known ``(M,)``.

    Where the test is on val, nothing is left to choose on.
    """
    if isinstance(split, pd.Series):
        names = split
    elif split == "blocks":
        names = scenes.split_by_blocks(table, block_deg=block_deg, seed=seed)
    else:
        names = get_column(table, "split")
    if len(names) != len(table):
        raise ValueError(f"`split` must have {len(table)} rows, got {len(names)}.")
    if split_name(test_split) == "train":
        raise ValueError(f"`test_split` must not be that of the training, got {test_split!r}.")
    train, val, test = (
        np.flatnonzero(is_in_split(names, part) & known) for part in ("train", "val", test_split)
    )
    for part, rows in (("train", train), (test_split, test)):
        if len(rows) == 0:
            held_out = {str(word) for word in names[known].dropna()} - set(names.iloc[train])
            if part != "train" and len(train) and held_out:
                advice = f"Pass one of {sorted(held_out)} as `test_split`."
            else:
                other = ", e.g. split='blocks'" if table["lon"].notna().all() else ""
                advice = f"Use a `split` with labeled 'train' and {test_split!r} rows{other}."
            raise ValueError(
                f"No row of split {part!r} has a {label!r} ({count_values(names)}). {advice}"
            )
    return train, np.setdiff1d(val, test), test


def require_label(table: pd.DataFrame, label: str) -> None:
    """Raise unless a table has labels in this column."""
    if label not in table:
        raise ValueError(
            f"`label` must be one of the columns {list(table.columns)}, got {label!r}."
        )
    if table[label].isna().all():
        raise ValueError(f"`label` needs a column with labels, but {label!r} has none in "
                         f"{len(table)} rows.")  # fmt: skip
    if pd.api.types.is_float_dtype(table[label].dtype) and (table[label].dropna() % 1 != 0).any():
        raise ValueError(
            f"`label` needs a column of classes, but {label!r} holds numbers such as "
            f"{table[label].dropna().iloc[0]:g}. Group them first, e.g. with pandas.cut()."
        )


def get_column(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column, or one of missing values if the table lacks it."""
    return table[name] if name in table else pd.Series([None] * len(table), dtype=object)


def count_values(values: pd.Series) -> str:
    """Return how many rows each split has, for a message."""
    counts = {str(name): int(n) for name, n in values.value_counts().items()}
    return f"{len(values)} rows: {counts or 'no row has a split'}"


def require_finite(embeddings: Embeddings) -> None:
    """Raise if a vector has NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(embeddings.vectors).all(1))
    if len(bad):
        raise ValueError(
            f"`embeddings` must be finite, but {len(bad)} of {len(embeddings)} vectors have NaN or "
            f"infinity, the first in row {bad[0]}. Did the training diverge?"
        )


def hold_out_validation(
    table: pd.DataFrame, train: np.ndarray, kind: np.ndarray, *, label: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split a fifth of the training locations off for validation.

    Args:
        table: the scenes.
        train: training rows.
        kind: ``(M,)`` class of every row; of each, one training location stays.
        label: column of the classes, for the message.
        seed: of which locations.

    Returns:
        The rows that stay in training, and the others.
    """
    locations = scenes.location_codes(table)[train]
    shuffled = np.random.default_rng(seed).permutation(np.unique(locations))
    rank = np.argsort(shuffled)[np.searchsorted(np.sort(shuffled), locations)]  # in the shuffle
    last = pd.Series(rank).groupby(kind[train]).max()
    free = ~np.isin(np.arange(len(shuffled)), last)
    held_out = free[rank] & (rank < max(1, len(shuffled) // _VAL_SHARE))
    if not held_out.any():
        raise ValueError(
            "Choosing a penalty needs a 'val' split, or more training locations than classes of "
            f"{label!r} to make one, got {len(shuffled)} locations. Pass one `l2`."
        )
    return train[~held_out], train[held_out]
