import numpy as np
import pytest
from vectors import multi, rows, standard

from geossl import evaluate
from geossl.embeddings import Embeddings


def test_several_labels_are_scikit_learns_logistic_regressions():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score, f1_score

    found = multi()
    train, test = rows(found, "train"), rows(found, "test")
    x = standard(found, train)
    has = found.scenes["labels"].str.get_dummies("|")[["ice", "sea", "wood"]].to_numpy()
    result = evaluate.multi_label(found, l2=0.01)
    assert list(result.classes.index) == ["ice", "sea", "wood"]
    for c in range(3):
        model = LogisticRegression(C=1 / (2 * 0.01 * len(train)), tol=1e-8, max_iter=5000)
        want = model.fit(x[train], has[train, c]).predict_proba(x[test])[:, 1]
        np.testing.assert_allclose(result.probabilities[:, c], want, atol=2e-3)
    p, true = result.probabilities, has[test]
    assert result.value == pytest.approx(average_precision_score(true, p))
    micro = average_precision_score(true, p, average="micro")
    assert result.more["micro AP"] == pytest.approx(micro)
    assert result.chance == pytest.approx(true.mean()) and result.low < result.value < result.high
    table = result.all_metrics(resamples=5).set_index("metric")["value"]
    assert table["exact match"] == pytest.approx(((p > 0.5) == true).all(1).mean())
    assert table["mAP"] == pytest.approx(result.value)
    assert table["micro AP"] == pytest.approx(micro)
    assert table["macro F1"] == pytest.approx(f1_score(true, p > 0.5, average="macro"))
    each = f1_score(true, p > 0.5, average=None)
    assert result.per_class["f1"].tolist() == pytest.approx(each)
    assert result.per_class["train_chips"].tolist() == has[train].sum(0).tolist()
    assert result.calibration()["chips"].sum() == true.size
    with pytest.raises(ValueError, match="confusion matrix needs one class per chip"):
        _ = result.confusion


def test_several_labels_choose_their_penalty_and_know_odd_chips():
    found = multi()
    table = found.scenes.copy()
    test = rows(found, "test")
    table.loc[test[0], "labels"] = " sea |rare"  # a label that no training chip has
    table.loc[test[1], "labels"] = ""
    table.loc[test[2], "labels"] = None
    result = evaluate.multi_label(Embeddings(found.vectors, table))
    assert result.n_test == len(test) - 1 and result.more["l2"] in evaluate.L2
    assert result.predictions["truth"].iloc[0] == "rare|sea"
    assert result.predictions["truth"].iloc[1] == ""
    assert "test classes without a training chip 1" in str(result)
    lines = result.per_class.set_index("label")
    assert lines["recall"]["rare"] == 0 and lines["chips"]["rare"] == 1
    assert not result.probabilities[:, list(result.classes.index).index("rare")].any()
    bare = Embeddings(found.vectors, found.scenes.replace({"split": {"val": None}}))
    assert 0 < evaluate.multi_label(bare).more["val"] <= 1


def test_several_labels_refuse_none():
    found = multi()
    for labels in ("", "sea", None):
        table = found.scenes.assign(labels=labels)
        with pytest.raises(
            ValueError, match="some training chips have and others|'labels' has none"
        ):
            evaluate.multi_label(Embeddings(found.vectors, table))
    with pytest.raises(ValueError, match="`label` must be one of the columns .*, got 'tags'"):
        evaluate.multi_label(found, label="tags")
    with pytest.raises(ValueError, match="`l2` must be one or more penalties > 0, got"):
        evaluate.multi_label(found, l2=())
