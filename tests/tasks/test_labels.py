import numpy as np
import pandas as pd
import pytest

from geossl.data.files import DatasetError
from geossl.embeddings import Embeddings
from geossl.tasks.labels import Labels


def embeddings(places=40, dates=2, seed=0):
    rng = np.random.default_rng(seed)
    location = np.repeat(np.arange(places), dates)
    kind = (location % 2)[:, None]
    vectors = rng.normal(size=(len(location), 6)) + 2.5 * (2 * kind - 1) * np.eye(6)[0]
    scenes = pd.DataFrame({
        "location": location, "lon": 0.5 * location, "lat": 10 + 0.1 * location,
        "time": pd.Timestamp("2020-01-01", tz="utc") + pd.to_timedelta(location, unit="D"),
    })  # fmt: skip
    return Embeddings(vectors.astype(np.float32), scenes)


def test_names_are_given_counted_and_taken_back_in_order():
    labels = Labels(embeddings())
    labels.give([3, 1, 3], "water")
    labels.give([4], "forest")
    labels.give([1], "forest")  # a correction
    assert labels.counts() == {"forest": 2, "water": 1} or labels.counts() == {
        "water": 1, "forest": 2,
    }  # fmt: skip
    assert labels.undo() == 1 and labels.names[1] == "water"
    labels.give([3], "  ")  # an empty name takes one away
    assert labels.names[3] is None
    assert [labels.undo() for _ in range(4)] == [1, 1, 2, 0]
    assert labels.counts() == {} and labels.predict() is None


@pytest.mark.parametrize("rows", [[], [80], [-1]])
def test_rows_that_are_not_there_are_a_sentence(rows):
    labels = Labels(embeddings())
    with pytest.raises(ValueError, match="`rows` (needs at least one image|must be from 0 to 79)"):
        labels.give(rows, "water")
    assert labels.undo() == 0


def test_a_few_names_teach_the_rest():
    found = embeddings()
    labels = Labels(found)
    odd = found.scenes["location"].to_numpy() % 2 == 1
    labels.give(np.flatnonzero(odd)[:12], "odd")
    labels.give(np.flatnonzero(~odd)[:12], "even")
    prediction = labels.predict()
    rest = np.arange(80) >= 24
    assert (prediction.names == np.where(odd, "odd", "even"))[rest].mean() > 0.8
    assert ((prediction.confidence >= 0.5) & (prediction.confidence <= 1)).all()
    asked = labels.least_certain(10)
    unnamed = pd.isna(labels.names)
    assert unnamed[asked].all() and len(set(found.scenes["location"].iloc[asked])) == 10
    each = pd.Series(prediction.confidence[unnamed]).groupby(
        found.scenes["location"].to_numpy()[unnamed]
    )
    np.testing.assert_allclose(
        prediction.confidence[asked], np.sort(each.min().to_numpy())[:10], rtol=1e-6
    )


def test_the_accuracy_is_of_locations_that_were_held_out():
    found = embeddings(places=24)
    rng = np.random.default_rng(1)
    noise = Labels(Embeddings(rng.normal(size=(48, 40)).astype(np.float32), found.scenes))
    truth, by_chance = Labels(found), rng.permutation(np.repeat([0, 1], 12))
    for place in range(24):
        rows = [2 * place, 2 * place + 1]
        truth.give(rows, ["even", "odd"][place % 2])
        noise.give(rows, ["even", "odd"][by_chance[place]])
    share, low, high, count = truth.accuracy()
    assert share > 0.75 and low < share < high + 1e-9 and count == 24
    share, low, high, _ = noise.accuracy()  # 40 numbers fit 48 chips: only held out it is chance
    assert low < 0.5 < high and 0.2 < share < 0.8
    # Wilson's interval of all right, by its closed form
    perfect = Labels(Embeddings(1e3 * np.eye(2, dtype=np.float32)[[0, 1] * 6], found.scenes[:12]))
    perfect.give(range(0, 12, 2), "a")
    with pytest.raises(ValueError, match="at least two names"):
        perfect.least_certain()
    perfect.give(range(1, 12, 2), "b")
    share, low, high, count = perfect.accuracy()
    z2 = 1.959963984540054**2
    assert (share, count) == (1.0, 6) and high == pytest.approx(1.0)
    assert low == pytest.approx(6 / (6 + z2))


def test_two_locations_of_a_name_are_too_few_to_measure():
    labels = Labels(embeddings())
    labels.give([0, 1, 2, 3], "a")
    labels.give([4, 6, 8], "b")
    assert labels.accuracy() is None and labels.predict() is not None


@pytest.mark.parametrize("suffix", ["csv", "parquet", "geoparquet", "geojson"])
def test_names_are_saved_with_their_table_and_restored(tmp_path, suffix):
    labels = Labels(embeddings())
    labels.give([0, 5], "say \"hi\", 'bye'; 🌍")
    labels.give([7], "forest")
    labels.save(tmp_path / f"labels.{suffix}")
    again = Labels(embeddings())
    assert again.load(tmp_path / f"labels.{suffix}") == 3
    assert again.names.tolist() == labels.names.tolist()
    again.undo()
    assert pd.isna(again.names).all()
    other = Labels(embeddings(places=30))
    with pytest.raises(DatasetError, match="is of other images: 80 rows, and these are 60"):
        other.load(tmp_path / f"labels.{suffix}")


def test_other_files_are_refused(tmp_path):
    labels = Labels(embeddings())
    labels.table().drop(columns="my_label").to_csv(tmp_path / "scenes.csv", index=False)
    with pytest.raises(DatasetError, match="has no column 'my_label'"):
        labels.load(tmp_path / "scenes.csv")
    with pytest.raises(ValueError, match="suffix"):
        labels.save(tmp_path / "labels.xlsx")
    assert not (tmp_path / "labels.xlsx").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "geoparquet", "geojson"])
def test_names_that_look_like_numbers_or_nothing_are_restored(tmp_path, suffix):
    labels = Labels(embeddings())
    odd = ["007", "1e3", "NA", "None", "True", "a,b", "  x ", "<b>"]
    for row, name in enumerate(odd):
        labels.give([row], name)
    labels.save(tmp_path / f"labels.{suffix}")
    again = Labels(embeddings())
    assert again.load(tmp_path / f"labels.{suffix}") == 8
    assert again.names[:8].tolist() == [name.strip() for name in odd]
    assert again.undo() == 8 and again.undo() == 0  # not all 80 rows


def test_a_file_of_other_dates_or_places_is_refused(tmp_path):
    nowhere, found = embeddings(), embeddings()
    nowhere.scenes[["lon", "lat"]] = np.nan
    for one in (nowhere, found):
        labels = Labels(one)
        labels.give([0], "a")
        labels.save(tmp_path / "labels.csv")
        table = labels.table()
        for name, changed in [
            ("places", table.assign(location=table["location"] + 1)),
            ("dates", table.assign(time=table["time"] + pd.Timedelta(days=1))),
            ("bare", table[["my_label"]]),
        ]:
            changed.to_csv(tmp_path / f"{name}.csv", index=False)
            with pytest.raises(DatasetError, match="is of other images"):
                labels.load(tmp_path / f"{name}.csv")
        assert labels.load(tmp_path / "labels.csv") == 1


def test_a_name_keeps_its_key_when_another_takes_its_first_chip():
    labels = Labels(embeddings())
    labels.give([5], "a")
    labels.give([6], "b")
    labels.give([7], "a")
    labels.give([5], "b")
    assert list(labels.counts()) == ["a", "b"]
