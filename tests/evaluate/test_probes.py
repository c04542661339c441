import warnings

import numpy as np
import pandas as pd
import pytest

from geossl import evaluate
from geossl.embeddings import Embeddings
from geossl.evaluate import bootstrap

RNG = np.random.default_rng


def embeddings(places=120, dates=2, classes=3, width=6, noise=1.0, seed=0):
    """Vectors around one center per class, and one offset per place."""
    rng = RNG(seed)
    label = np.arange(places) % classes
    centers = rng.normal(0, 1, (classes, width))
    own = centers[label] + rng.normal(0, 0.4, (places, width))
    location = np.repeat(np.arange(places), dates)
    split = np.array(["train", "train", "val", "test"])[(np.arange(places) // classes) % 4]
    times = pd.to_datetime("2020-01-01", utc=True) + pd.to_timedelta(
        np.tile(np.arange(dates) * 50, places), "D"
    )
    vectors = own[location] + noise * rng.normal(0, 1, (places * dates, width))
    table = pd.DataFrame({
        "location": location, "lon": location % 60 * 5.0 - 150, "lat": location // 60 * 40.0 - 60,
        "time": times, "label": np.array(list("abcdefgh"))[label][location],
        "split": split[location],
    })  # fmt: skip
    return Embeddings(vectors.astype(np.float32), table)


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_the_linear_probe_is_scikit_learns_logistic_regression(l2):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    found = embeddings()
    table = found.scenes
    train, test = ((table["split"] == s).to_numpy() for s in ("train", "test"))
    scaler = StandardScaler().fit(found.vectors[train])
    model = LogisticRegression(C=1 / (2 * l2 * train.sum()), max_iter=5000, tol=1e-8)
    model.fit(scaler.transform(found.vectors[train]), table["label"][train])
    standard = scaler.transform(found.vectors[test])
    want = model.predict(standard)
    result = evaluate.linear(found, l2=l2)
    assert result.predictions["predicted"].tolist() == want.tolist()
    sure = model.predict_proba(standard).max(1)
    np.testing.assert_allclose(result.predictions["confidence"], sure, atol=2e-3)
    assert result.value == pytest.approx((want == table["label"][test]).mean())
    assert result.n_train == train.sum() and result.n_test == test.sum() == len(want)


def test_the_penalty_is_chosen_on_val_and_never_on_test():
    found = embeddings(noise=2.0)
    swept = evaluate.linear(found)
    shares = {l2: evaluate.linear(found, l2=l2) for l2 in evaluate.L2}
    assert swept.more["val"] == max(r.more["val"] for r in shares.values())
    chosen = shares[swept.more["l2"]]
    assert swept.value == pytest.approx(chosen.value, abs=0.02)  # a warm start, the same optimum
    other = found.scenes.copy()
    test = other["split"] == "test"
    other.loc[test, "label"] = other.loc[test, "label"].map({"a": "b", "b": "c", "c": "a"})
    blind = evaluate.linear(Embeddings(found.vectors, other))
    assert blind.more == swept.more
    assert blind.predictions["predicted"].tolist() == swept.predictions["predicted"].tolist()


def test_knn_is_a_weighted_vote():
    found = embeddings()
    table = found.scenes
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    train, test = (np.flatnonzero(table["split"] == s) for s in ("train", "test"))
    result = evaluate.knn(found, k=7)
    for row, guess in zip(test, result.predictions["predicted"], strict=True):
        similar = unit[train] @ unit[row]
        near = np.argsort(-similar)[:7]
        votes = pd.Series(np.exp(similar[near] / 0.07)).groupby(
            table["label"].to_numpy()[train][near]
        )
        assert guess == votes.sum().idxmax()


@pytest.mark.parametrize("key", ["last", "other"])
def test_same_place_is_recall_by_brute_force(key):
    found = embeddings(places=40, dates=3, noise=0.3)
    table = found.scenes
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    date = np.tile([0, 1, 2], 40)
    gallery = np.flatnonzero(date == 2 if key == "last" else date > 0)
    location = table["location"].to_numpy()
    hits = {1: [], 5: []}
    for query in np.flatnonzero(date == 0):
        order = gallery[np.argsort(-(unit[gallery] @ unit[query]))]
        for k, list_ in hits.items():
            list_.append(location[query] in location[order[:k]])
    result = evaluate.same_place(found, key=key)
    assert result.value == pytest.approx(np.mean(hits[1]))
    assert result.more["recall@5"] == pytest.approx(np.mean(hits[5]))
    assert result.chance == pytest.approx((1 if key == "last" else 2) / len(gallery))
    assert 0 < result.value < 1


def test_centering_takes_out_what_a_date_does_to_all():
    found = embeddings(places=60, noise=0.05)
    shift = np.where(np.tile([0, 1], 60)[:, None] == 1, 30.0, 0.0) * np.eye(6)[0]
    moved = Embeddings((found.vectors + shift).astype(np.float32), found.scenes)
    plain, centered = (evaluate.same_place(moved, center_dates=c).value for c in (False, True))
    assert plain < 0.5 < 0.9 < centered


def test_the_interval_is_that_of_places_and_covers_the_truth():
    """Draws of whole places: of 300 samples about 95 % of the intervals cover the true share."""
    rng, covered, widths = RNG(0), 0, []
    for sample in range(300):
        ease = rng.uniform(0, 1, 80)  # mean .5; chips of one place are alike
        hit = np.repeat(ease, 4) > np.repeat(rng.uniform(0, 1, 80), 4)
        value, low, high = bootstrap.interval(hit, np.repeat(np.arange(80), 4), sample)
        assert low <= value == hit.mean() <= high
        covered += low <= 0.5 <= high
        widths.append(high - low)
    assert 0.91 < covered / 300 < 0.98
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(80), rel=0.1)  # 80, not 320


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


def test_rows_without_a_label_are_left_out():
    found = embeddings()
    table = found.scenes.copy()
    table.loc[table["location"] % 5 == 0, "label"] = None
    result = evaluate.linear(Embeddings(found.vectors, table))
    assert not (result.predictions["location"] % 5 == 0).any()
    assert result.n_test == ((table["split"] == "test") & table["label"].notna()).sum()


def test_the_table_per_class_and_the_lines_for_people():
    result = evaluate.linear(embeddings(noise=2.0))
    table = result.per_class.set_index("label")
    seen = result.predictions
    for name, row in table.iterrows():
        assert row["recall"] == pytest.approx(seen["hit"][seen["truth"] == name].mean())
        assert row["precision"] == pytest.approx(seen["hit"][seen["predicted"] == name].mean())
    assert f"{result.value:.3f}" in str(result) and "95 %" in result._repr_html_()


BAD = {
    "column": (lambda e: evaluate.linear(e, label="koeppen"), "a column 'koeppen' of labels, came"),
    "key": (lambda e: evaluate.same_place(e, key="first"), "last or other"),
    "split": (lambda e: evaluate.same_place(e, split="dev"), "split 'dev', came none among"),
    "l2": (lambda e: evaluate.linear(e, l2=0), "l2 > 0"),
    "kind": (lambda e: evaluate.linear(e, split="random"), "column, blocks or a Series"),
}


@pytest.mark.parametrize("kind", BAD)
def test_arguments_that_do_not_do(kind):
    call, words = BAD[kind]
    with pytest.raises(ValueError, match=words):
        call(embeddings())


def test_data_that_does_not_do():
    found = embeddings()
    broken = found.vectors.copy()
    broken[5, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 240 have NaN .* row 5; did the training diverge"):
        evaluate.linear(Embeddings(broken, found.scenes))
    with pytest.raises(ValueError, match="two classes or more"):
        evaluate.knn(Embeddings(found.vectors, found.scenes.assign(label="a")))
    one = found.subset(np.flatnonzero(np.tile([1, 0], 120)))
    with pytest.raises(ValueError, match="two places with two dates, came 0"):
        evaluate.same_place(one)


def test_compare_keeps_the_order_and_a_measured_result():
    found = embeddings()
    measured = evaluate.knn(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = evaluate.compare({"z": found, "a": measured})
    assert table["method"].tolist() == ["z", "a"]
    assert table["value"].tolist() == [evaluate.linear(found).value, measured.value]
