import warnings

from vectors import embeddings

from geossl import evaluate


def test_compare_keeps_the_order_and_a_measured_result():
    found = embeddings()
    measured = evaluate.knn(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = evaluate.compare({"z": found, "a": measured})
    assert table["method"].tolist() == ["z", "a"]
    assert table["value"].tolist() == [evaluate.linear(found).value, measured.value]
