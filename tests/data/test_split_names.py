import pandas as pd
import pytest

from geossl.data import scenes
from geossl.data.splits import is_in_split, name_splits, split_name

WORDS = {
    "train": ["Train", "TRAIN", "training", " train ", "train_set", "TrainSet", "trn"],
    "val": ["VALID", "valid", "validation", "Dev", "development", "val-split"],
    "test": ["Test", "testing", "TST", "Test set"],
}
OTHERS = ["fold 1", "seq", "id_val", "holdout", "trainer", "latest", "set"]


@pytest.mark.parametrize("name", WORDS)
def test_words_of_splits_mean_what_they_say(name):
    assert {split_name(word) for word in WORDS[name]} == {name}
    assert set(name_splits(pd.Series(WORDS[name]))) == {name}


def test_other_words_stay_and_blank_ones_are_missing():
    column = pd.Series([*OTHERS, None, " ", 3], dtype=object)
    named = name_splits(column)
    assert named.tolist()[: len(OTHERS)] == OTHERS and named.tolist()[-1] == 3
    assert named.isna().sum() == 2
    assert name_splits(pd.Series(["train", None])).tolist()[0] == "train"


def test_a_table_has_the_names_that_training_looks_for(tmp_path):
    words = ["Train", "VALID", "testing", "fold 1", None]
    table = pd.DataFrame({"location": range(5), "lon": 1.0, "lat": 2.0, "split": words})
    table.to_csv(tmp_path / "t.csv", index=False)
    for found in (scenes.check(table), scenes.read(tmp_path / "t.csv")):
        assert found["split"].tolist()[:4] == ["train", "val", "test", "fold 1"]
        assert pd.isna(found["split"][4])
    for split in ("train", "Train"):
        assert scenes.rows_of_split(table, split).tolist() == [0]
    with pytest.raises(ValueError, match=r"`split` must be one of \['fold 1', 'test', 'train'"):
        scenes.rows_of_split(table, "holdout")


def test_splits_that_are_numbers_are_chosen_by_their_digits():
    for numbers in ([0, 1, 1], [0.0, 1.0, 1.0], pd.Categorical([0, 1, 1])):
        table = pd.DataFrame({"location": range(3), "split": numbers})
        assert is_in_split(table["split"], "1").tolist() == [False, True, True]
        assert scenes.rows_of_split(table, "0").tolist() == [0]
        with pytest.raises(ValueError, match=r"`split` must be one of \['0', '1'\], got 'train'"):
            scenes.rows_of_split(table, "train")


def test_a_word_that_no_row_has_means_its_split():
    splits = pd.Series(["train", "test", "dev", "val"])
    assert is_in_split(splits, "Testing").tolist() == [False, True, False, False]
    assert is_in_split(splits, "dev").tolist() == [False, False, True, False]
    assert is_in_split(splits, "val").tolist() == [False, False, True, True]
