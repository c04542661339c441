import numpy as np
import pytest
from vectors import embeddings

from geossl import evaluate


@pytest.fixture(scope="module")
def result():
    return evaluate.linear(embeddings(places=160, classes=7, noise=1.5))


def test_the_table_per_class_and_the_lines_for_people():
    result = evaluate.linear(embeddings(noise=2.0))
    table = result.per_class.set_index("label")
    seen = result.predictions
    for name, row in table.iterrows():
        assert row["recall"] == pytest.approx(seen["hit"][seen["truth"] == name].mean())
        assert row["precision"] == pytest.approx(seen["hit"][seen["predicted"] == name].mean())
    assert f"{result.value:.3f}" in str(result) and "95 %" in result._repr_html_()


def test_figures_are_scikit_learns(result):
    from sklearn import metrics

    seen, p = result.predictions, result.probabilities
    names = list(result.classes.index)
    onehot = (seen["truth"].to_numpy()[:, None] == np.array(names)).astype(int)
    want = {
        "top-1": metrics.accuracy_score(seen["truth"], seen["predicted"]),
        "top-5": metrics.top_k_accuracy_score(seen["truth"], p, k=5, labels=names),
        "macro F1": metrics.f1_score(seen["truth"], seen["predicted"], average="macro"),
        "mAP": metrics.average_precision_score(onehot, p, average="macro"),
    }
    table = result.all_metrics(resamples=50).set_index("metric")
    assert list(table.index) == [*want, "calibration error"]
    for name, value in want.items():
        assert table["value"][name] == pytest.approx(value), name
        assert table["low"][name] < value < table["high"][name]
    assert table.loc["top-1", ["low", "high"]].tolist() == [result.low, result.high]
    confusion = metrics.confusion_matrix(seen["truth"], seen["predicted"], labels=names)
    assert np.array_equal(result.confusion, confusion) and list(result.confusion.columns) == names
    f1 = metrics.f1_score(seen["truth"], seen["predicted"], average=None)
    assert result.per_class["f1"].tolist() == pytest.approx(f1)


def test_calibration_table_and_error_agree(result):
    seen, table = result.predictions, result.calibration(bins=10)
    assert table["chips"].sum() == len(seen) and (table["chips"] > 0).all()
    for line in table.itertuples():
        there = seen["confidence"].between(line.low, line.high, inclusive="right")
        assert line.chips == there.sum()
        assert line.accuracy == pytest.approx(seen["hit"][there].mean())
        assert line.confidence == pytest.approx(seen["confidence"][there].mean())
    wide = result.calibration()
    error = (wide["chips"] * (wide["accuracy"] - wide["confidence"]).abs()).sum() / len(seen)
    figures = result.all_metrics(resamples=2).set_index("metric")["value"]
    assert figures["calibration error"] == pytest.approx(error)


def test_knn_has_figures_and_retrieval_has_none():
    found = embeddings(classes=7)
    table = evaluate.knn(found).all_metrics(resamples=5)
    assert len(table) == 5 and table.notna().to_numpy().all()
    again = evaluate.same_location(found)
    for call in (again.all_metrics, again.calibration, lambda: again.confusion):
        with pytest.raises(
            ValueError, match="needs the result of a classifier.*recall@1.* no prob"
        ):
            call()
    assert {"recall", "f1"} <= set(again.per_class) and "train_chips" not in again.per_class
