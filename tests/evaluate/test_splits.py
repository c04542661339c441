import numpy as np
import pandas as pd
import pytest
from vectors import embeddings

from geossl import evaluate
from geossl.data.splits import is_in_split
from geossl.embeddings import Embeddings
from geossl.evaluate import splits


def test_splits_by_blocks_and_by_a_series():
    found = embeddings()
    table = found.scenes.drop(columns="split")
    bare = Embeddings(found.vectors, table)
    with pytest.raises(ValueError, match="split='blocks'"):
        evaluate.linear(bare)
    blocks = evaluate.linear(bare, split="blocks", seed=1)
    assert blocks.n_train and blocks.n_test
    series = evaluate.linear(bare, split=found.scenes["split"])
    assert series.value == evaluate.linear(found).value


def test_a_stand_in_val_leaves_every_class_in_training():
    table = pd.DataFrame({"location": np.repeat(np.arange(30), 2)})
    kind = np.minimum(np.arange(60) // 2, 20)  # 20 classes of one location, one of ten
    for seed in range(10):
        train, val = splits.hold_out_validation(table, np.arange(60), kind, label="x", seed=seed)
        assert set(kind[train]) == set(range(21)) and set(kind[val]) == {20}
        assert not set(table["location"][train]) & set(table["location"][val])
        assert sorted([*train, *val]) == list(range(60))
    with pytest.raises(ValueError, match="more training locations than classes of 'x'"):
        splits.hold_out_validation(table, np.arange(40), kind, label="x", seed=0)


def test_words_of_splits_are_found_by_their_meaning():
    words = pd.Series(["Train", "VALID", None, "fold 1", "dev"], dtype=object)
    for name, rows in (("train", [0]), ("Train", [0]), ("val", [1, 4]), ("dev", [4]), ("x", [])):
        assert np.flatnonzero(is_in_split(words, name)).tolist() == rows


@pytest.mark.parametrize("measure", [evaluate.linear, evaluate.knn])
def test_another_split_can_be_the_test_and_is_then_not_chosen_on(measure):
    """As on fMoW, whose published test images have no labels: the paper measures on val."""
    found = embeddings()
    table = found.scenes
    as_fmow = table["split"].replace({"test": "val", "val": "train"})
    train_only = table["split"].replace({"val": "train"})
    given = measure(found, split=as_fmow, test_split="val")
    wanted = measure(found, split=train_only)
    assert (
        given.value == wanted.value
        and given.n_test == wanted.n_test == (table["split"] == "test").sum()
    )
    assert set(given.predictions["row"]) == set(np.flatnonzero(table["split"] == "test"))
    gt = measure(found, split=table["split"].replace({"test": "test_gt"}), test_split="test_gt")
    assert gt.value == measure(found).value and gt.more == measure(found).more
    several = table["split"].replace({"test": "valid", "val": "dev"})  # two words for one split
    again = measure(found, split=several, test_split="valid")
    other = measure(found, split=table["split"])
    assert again.value == other.value and again.more == other.more
    # Not to blocks: the table has a split to test on.
    with pytest.raises(
        ValueError, match=r"'test' has a .* Pass one of \['val'\] as `test_split`.$"
    ):
        measure(found, split=as_fmow)
    with pytest.raises(
        ValueError, match="`test_split` must not be that of the training, got 'Train'"
    ):
        measure(found, test_split="Train")
    with pytest.raises(ValueError, match=r"Pass one of \['test', 'val'\] as `test_split`"):
        measure(found, test_split="fold 2")
