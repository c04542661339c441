import functools

import numpy as np
import pandas as pd
import pytest
from vectors import embeddings, multi

from geossl import evaluate
from geossl.embeddings import Embeddings


def test_every_location_is_tested_once_by_other_blocks():
    from geossl.geo import block_ids

    found = embeddings()
    table = found.scenes.copy()
    table.loc[table["location"] % 10 == 0, "label"] = None
    found = Embeddings(found.vectors, table)
    seen_splits = []

    def spy(some, *, label, split, seed):
        block = block_ids(some.scenes["lon"], some.scenes["lat"], block_deg=20.0)
        assert not set(block[split == "train"]) & set(block[split == "test"])
        assert set(split) == {"train", "test"} and (label, seed) == ("label", 3)
        seen_splits.append((some, split))
        return evaluate.knn(some, label=label, split=split, seed=seed)

    result = evaluate.cross_validate(found, folds=4, block_deg=20.0, measure=spy, seed=3)
    assert len(seen_splits) == 4
    known = np.flatnonzero(table["label"].notna())
    assert result.predictions["row"].tolist() == known.tolist() and result.n_test == len(known)
    seen = result.predictions
    assert (seen["location"].to_numpy() == table["location"].to_numpy()[known]).all()
    assert (seen.groupby("location")["fold"].nunique() == 1).all()
    for fold, (some, split) in enumerate(seen_splits):
        alone = evaluate.knn(some, split=split, seed=3)
        part = seen[seen["fold"] == fold]
        assert part["predicted"].tolist() == alone.predictions["predicted"].tolist()
        assert np.array_equal(result.probabilities[part.index], alone.probabilities)
    assert result.value == pytest.approx(seen["hit"].mean()) and "4 folds" in result.metric
    assert result.n_train == round(0.75 * len(known))
    assert result.all_metrics(resamples=3)["value"].iloc[0] == result.value


@pytest.mark.slow
def test_cross_validation_of_other_measures_and_of_too_little():
    many = multi()
    result = evaluate.cross_validate(
        many, label="labels", folds=3, block_deg=30.0,
        measure=functools.partial(evaluate.multi_label, l2=0.1),
    )  # fmt: skip
    has = many.scenes["labels"].str.get_dummies("|")[["ice", "sea", "wood"]].to_numpy()
    from sklearn.metrics import average_precision_score

    assert result.value == pytest.approx(average_precision_score(has, result.probabilities))
    found = embeddings()
    one_block = found.scenes.copy()
    one_block.loc[found.scenes["label"] == "b", ["lon", "lat"]] = 179.0, 89.0
    lonely = evaluate.cross_validate(
        Embeddings(found.vectors, one_block), folds=3, measure=evaluate.knn, block_deg=5.0
    )
    assert lonely.classes["b"] == 0 and "without a training chip 1" in str(lonely)
    for folds, table, words in [
        (1, found.scenes, "`folds` must be >= 2, got 1"),
        (
            5,
            found.scenes.assign(lon=0.0, lat=0.0),
            "`block_deg` = 10.0 gives 1 blocks, but the splits .* need one each",
        ),
        (5, found.scenes.assign(label=None), "'label' has none in 240"),
        (5, found.scenes.assign(lon=np.nan), "must have coordinates in every row"),
    ]:
        with pytest.raises(ValueError, match=words):
            evaluate.cross_validate(Embeddings(found.vectors, table), folds=folds)


def spy_of(found, seen):
    def spy(given, *, label, split, seed):
        assert given is found
        seen.append(split)
        return evaluate.knn(given, label=label, split=split, seed=seed)

    return spy


def test_few_labels_are_drawn_by_places_and_classes():
    found, seen = embeddings(places=240), []
    table = evaluate.label_efficiency(
        found, shares=(0.01, 0.1, 0.5, 1), seeds=(0, 1), measure=spy_of(found, seen)
    )
    assert (
        len(table) == len(seen) == 8
        and table["share"].tolist() == np.repeat([0.01, 0.1, 0.5, 1], 2).tolist()
    )
    place, label = found.scenes["location"], found.scenes["label"]
    for name, column, each in (("train", "locations", 40), ("val", "val_locations", 20)):
        there = [set(place[(split == name).to_numpy()]) for split in seen]
        for line, places in zip(table.itertuples(), there, strict=True):
            want = max(1, round(line.share * each))  # of each of three classes
            of_class = label[place.drop_duplicates().index[sorted(places)]].value_counts()
            assert of_class.tolist() == [want] * 3 and getattr(line, column) == 3 * want
            assert places <= set(place[found.scenes["split"] == name])
        assert there[0] < there[2] < there[4] < there[6] and there[4] != there[5]
    for split in seen:
        assert ((split == "test") == (found.scenes["split"] == "test")).all()
        both = pd.DataFrame({"place": place, "split": split.fillna("none")})
        assert (both.groupby("place")["split"].nunique() == 1).all()
    whole = evaluate.knn(found)
    last = table.iloc[-2]
    assert (last["value"], last["low"], last["n_train"]) == (whole.value, whole.low, whole.n_train)


def test_few_labels_by_number_and_with_the_default_probe():
    found = embeddings(places=240)
    table = evaluate.label_efficiency(found, per_class=(2, 1000), seeds=(0,))
    assert table["per_class"].tolist() == [2, 1000] and "share" not in table
    assert table["locations"].tolist() == [6, 120] and table["val_locations"].tolist() == [3, 60]
    assert table["value"].iloc[1] == evaluate.linear(found).value
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert table["value"].iloc[0] <= table["value"].iloc[1]


def test_few_labels_by_the_number_of_locations():
    found = embeddings(places=240)  # 120 to train on, 40 of each class
    measure = functools.partial(evaluate.knn, k=1)
    table = evaluate.label_efficiency(found, locations=(6, 60, 500), seeds=(0, 1), measure=measure)
    assert table["locations"].tolist() == [6, 6, 60, 60, 120, 120]
    by_share = evaluate.label_efficiency(
        found, shares=(0.05, 0.5, 1), seeds=(0, 1), measure=measure
    )
    pd.testing.assert_frame_equal(table, by_share)
    odd = evaluate.label_efficiency(found, locations=(7, 50), seeds=(0,), measure=measure)
    assert odd["locations"].tolist() == [7, 50]  # 40 of each class: 3 + 2 + 2, 17 + 17 + 16


def test_labels_needed_are_read_off_the_curve():
    curve = pd.DataFrame({
        "share": [0.1, 0.1, 0.4, 0.4, 1.0, 1.0],
        "seed": [0, 1, 0, 1, 0, 1],
        "locations": [10, 10, 40, 40, 160, 160],
        "value": [0.4, 0.5, 0.6, 0.5, 0.7, 0.8],  # means .45, .55, .75
    })  # fmt: skip
    assert evaluate.labels_needed(curve, 0.3) == pytest.approx(10)
    assert evaluate.labels_needed(curve, 0.5) == pytest.approx(20)  # half way on a log scale
    assert evaluate.labels_needed(curve, 0.65) == pytest.approx(80)
    assert evaluate.labels_needed(curve, 0.76) == float("inf")


def test_few_labels_refuse_what_is_no_share():
    found = embeddings()
    given_by = ({"shares": (0.0,)}, {"shares": (2,)}, {"shares": ()}, {"per_class": (0,)})
    for given in (*given_by, {"locations": (0,)}, {"locations": ()}):
        (name,) = given
        with pytest.raises(ValueError, match=rf"`{name}(\[0\])?` must "):
            evaluate.label_efficiency(found, **given)
    with pytest.raises(ValueError, match="exclude each other"):
        evaluate.label_efficiency(found, per_class=(1,), locations=(1,))
    with pytest.raises(ValueError, match="`seeds` must have at least one value"):
        evaluate.label_efficiency(found, seeds=())
    bare = Embeddings(found.vectors, found.scenes.replace({"split": {"val": None}}))
    with pytest.raises(ValueError, match="Pass one `l2`"):
        evaluate.label_efficiency(bare, per_class=(1,))
    one = functools.partial(evaluate.linear, l2=1e-2)
    assert len(evaluate.label_efficiency(bare, per_class=(1,), seeds=(0,), measure=one)) == 1
