"""The names of splits: "Train", "VALID" and "testing" mean train, val and test."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from geossl.utils.validate import validated

__all__ = ["is_in_split", "name_splits", "split_name", "split_texts"]

_WORDS = {
    "train": "train training trn",
    "val": "val valid validation validate dev devel development",
    "test": "test testing tst",
}
_NAMES = {word: name for name, words in _WORDS.items() for word in words.split()}


def split_name(word: Any) -> str | None:
    """Return "train", "val" or "test" for a word that means one of them, else None.

    Example:
        >>> split_name(" VALID "), split_name("Training_set"), split_name("fold 1")
        ('val', 'train', None)
    """
    if not isinstance(word, str):
        return None
    return _NAMES.get(re.sub(r"[\W_]*(?:set|split)$", "", word.strip().lower()))


@validated
def name_splits(splits: pd.Series) -> pd.Series:
    """Return a column of splits with "train", "val" and "test" for all words that mean them.

    Other words stay as they are; blank ones are missing.
    """
    words = {word: split_name(word) or word for word in splits.dropna().unique()}
    words |= {word: None for word in words if isinstance(word, str) and not word.strip()}
    if all(word == name for word, name in words.items()):
        return splits
    return splits.astype(object).map(words)


@validated
def split_texts(splits: pd.Series) -> pd.Series:
    """Return the names of splits as text, which `is_in_split` compares; numbers are "0", "1"."""
    named = name_splits(splits).astype(object)
    return named.map(lambda w: f"{w:g}" if isinstance(w, float) else str(w), na_action="ignore")


@validated
def is_in_split(splits: pd.Series, word: str) -> np.ndarray:
    """Return whether each row is of the split that a word means: ``(M,)``; missing ones are not.

    Example:
        >>> is_in_split(pd.Series(["testing", "Test", None, "train"]), "TEST").tolist()
        [True, True, False, False]
    """
    same, name = splits.eq(word), split_name(word) or word
    if name == word or not same.any():  # else a word that the column has stays its own
        same = split_texts(splits).eq(name)
    return same.fillna(False).to_numpy(bool)
