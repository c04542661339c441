import functools

import numpy as np
import pandas as pd
import pytest
from vectors import embeddings, standard, without_class_in_training

from geossl import evaluate
from geossl.embeddings import Embeddings


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


def test_rows_without_a_label_are_left_out():
    found = embeddings()
    table = found.scenes.copy()
    table.loc[table["location"] % 5 == 0, "label"] = None
    result = evaluate.linear(Embeddings(found.vectors, table))
    assert not (result.predictions["location"] % 5 == 0).any()
    assert result.n_test == ((table["split"] == "test") & table["label"].notna()).sum()


@pytest.mark.parametrize("measure", [evaluate.linear, evaluate.knn])
def test_a_class_missing_from_training_is_missed_and_said(measure):
    found = without_class_in_training(embeddings())
    result = measure(found)
    seen = result.predictions
    assert (seen["truth"] == "b").any() and not seen["hit"][seen["truth"] == "b"].any()
    assert result.value == pytest.approx((seen["truth"] == seen["predicted"]).mean())
    assert "test classes without a training chip 1" in str(result)
    table = result.per_class.set_index("label")
    assert table["train_chips"]["b"] == 0 and table["recall"]["b"] == table["f1"]["b"] == 0
    assert result.probabilities.shape == (len(seen), 3) and not result.probabilities[:, 1].any()
    assert "without" not in str(measure(embeddings()))


def test_a_missing_class_leaves_the_others_as_scikit_learn_fits_them():
    from sklearn.linear_model import LogisticRegression

    found = without_class_in_training(embeddings(classes=4))
    table = found.scenes
    train = np.flatnonzero((table["split"] == "train") & table["label"].notna())
    x = standard(found, train)
    model = LogisticRegression(C=1 / (2 * 0.01 * len(train)), tol=1e-8, max_iter=5000)
    model.fit(x[train], table["label"][train])
    result = evaluate.linear(found, l2=0.01)
    want = model.predict_proba(x[result.predictions["row"]])
    np.testing.assert_allclose(result.probabilities[:, [0, 2, 3]], want, atol=2e-3)


BAD = {
    "column": (lambda e: evaluate.linear(e, label="koeppen"), "`label` .* columns .*'koeppen'"),
    "key": (lambda e: evaluate.same_location(e, key="first"), "`key` .*'last', 'other'., got 'f"),
    "split": (lambda e: evaluate.same_location(e, split="dry"), "`split` .* got 'dry' .*240 rows"),
    "l2": (lambda e: evaluate.linear(e, l2=0), "`l2` must be > 0, got 0"),
    "kind": (lambda e: evaluate.linear(e, split="random"), "`split` .*'blocks'., got 'random'"),
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
    with pytest.raises(ValueError, match="1 of 240 vectors .* row 5. Did the training diverge"):
        evaluate.linear(Embeddings(broken, found.scenes))
    with pytest.raises(ValueError, match="two classes or more"):
        evaluate.knn(Embeddings(found.vectors, found.scenes.assign(label="a")))
    one = found.subset(np.flatnonzero(np.tile([1, 0], 120)))
    with pytest.raises(ValueError, match="two locations with two dates, got 0 among 120"):
        evaluate.same_location(one)


@pytest.mark.parametrize("measure", [evaluate.linear, evaluate.knn, evaluate.cross_validate])
def test_labels_and_vectors_that_do_not_do(measure):
    found = embeddings()
    for label, words in ((None, "'label' has none in 240"), ("a", "two classes or more")):
        with pytest.raises(ValueError, match=words):
            measure(Embeddings(found.vectors, found.scenes.assign(label=label)))
    broken = found.vectors.copy()
    broken[7] = np.inf
    with pytest.raises(ValueError, match="`embeddings` must be finite, but 1 of 240 .* row 7"):
        measure(Embeddings(broken, found.scenes))
    with pytest.raises(ValueError, match="`label` must be one of the columns .*, got 'koeppen'"):
        measure(found, label="koeppen")


def test_one_class_in_training_and_unused_categories():
    found = embeddings()
    table = found.scenes.copy()
    table.loc[(table["split"] == "train"), "label"] = "a"
    for call in (evaluate.linear, evaluate.knn, functools.partial(evaluate.linear, solver="sgd")):
        with pytest.raises(ValueError, match="two classes or more of 'label'"):
            call(Embeddings(found.vectors, table))
    kinds = pd.Categorical(found.scenes["label"], categories=list("abcxyz"))
    result = evaluate.linear(Embeddings(found.vectors, found.scenes.assign(label=kinds)))
    assert list(result.classes.index) == ["a", "b", "c"]
    assert result.value == evaluate.linear(found).value and len(result.per_class) == 3


def test_measurements_are_no_classes():
    found = embeddings()
    heights = np.random.default_rng(0).normal(size=len(found))
    table = found.scenes.assign(height=heights, high=np.where(heights > 0, 1.0, 0.0))
    measured = Embeddings(found.vectors, table)
    with pytest.raises(ValueError, match="'height' holds numbers such as .*pandas.cut"):
        evaluate.linear(measured, label="height")
    assert evaluate.linear(measured, label="high").n_test > 0  # whole numbers may be classes
