import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from vectors import embeddings

from geossl import evaluate
from geossl.embeddings import Embeddings
from geossl.viz import plots
from geossl.viz.plots import evaluation


@pytest.fixture(autouse=True)
def settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


@pytest.fixture(scope="module")
def result():
    found = embeddings(places=200, classes=5, noise=1.5)
    table = found.scenes.copy()
    table.loc[table["location"] % 40 == 15, "label"] = None  # half of one class
    return evaluate.knn(Embeddings(found.vectors, table))


def test_confusion_shows_shares_of_the_true_class(result):
    ax = evaluation.plot_confusion(result)
    share = result.confusion.to_numpy() / result.confusion.sum(axis=1).to_numpy()[:, None]
    np.testing.assert_allclose(ax.images[0].get_array(), 100 * share)
    assert [t.get_text() for t in ax.get_xticklabels()] == list("abcde")
    assert [t.get_text() for t in ax.get_yticklabels()][0] == f"a ({result.per_class['chips'][0]})"
    assert len(ax.texts) == (share >= 0.005).sum()
    assert "%" in ax.figure.axes[1].get_ylabel()
    few = evaluation.plot_confusion(result, classes=2)
    assert np.asarray(few.images[0].get_array()).shape == (2, 2)
    assert plots.figure_png(few)[:4] == b"\x89PNG"


def test_calibration_has_a_dot_a_bin(result):
    table = result.calibration(bins=8)
    ax = evaluation.plot_calibration(result, bins=8)
    dots = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(dots, table[["confidence", "accuracy"]])
    sizes = ax.collections[0].get_sizes()
    assert sizes.argmax() == table["chips"].argmax()
    error = (table["chips"] * (table["confidence"] - table["accuracy"]).abs()).sum()
    assert f"{error / result.n_test:.3f}" in ax.get_title()
    own = Figure().subplots()
    assert evaluation.plot_calibration(result, ax=own) is own


def test_few_labels_show_means_dots_and_chance():
    found = embeddings(places=200)
    table = evaluate.label_efficiency(found, shares=(0.1, 1), seeds=(0, 1), measure=evaluate.knn)
    ax = evaluation.plot_label_efficiency({"ours": table, "theirs": table.assign(value=0.5)})
    mean = ax.lines[0]
    assert mean.get_ydata().tolist() == table.groupby("share")["value"].mean().tolist()
    assert mean.get_xdata().tolist() == table.groupby("share")["locations"].mean().tolist()
    assert len(ax.collections[1].get_offsets()) == len(table)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["ours", "theirs", "chance"]
    assert ax.get_xlabel() == "training locations with a label" and "top-1" in ax.get_ylabel()
    by_number = evaluate.label_efficiency(found, per_class=(1, 5), seeds=(0,), measure=evaluate.knn)
    assert len(evaluation.plot_label_efficiency({"a": by_number}).lines) == 2


def test_numbers_of_labels_that_lie_close_together_do_not_overlap():
    counts = [25, 100, 1_000, 1_150, 1_197]
    table = pd.DataFrame({
        "locations": counts, "seed": 0, "value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.2,
        "metric": "top-1",
    })  # fmt: skip
    table.insert(0, "share", np.divide(counts, 1_197))
    ax = evaluation.plot_label_efficiency({"ours": table})
    ax.figure.draw_without_rendering()
    assert ax.get_xticks().tolist() == counts
    labels = [label for label in ax.get_xticklabels() if label.get_text()]
    assert [label.get_text() for label in labels] == ["25", "100", "1,197"]
    boxes = [label.get_window_extent() for label in labels]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    apart = evaluation.plot_label_efficiency({"ours": table.iloc[[0, 1, 2]]})
    assert [label.get_text() for label in apart.get_xticklabels()] == ["25", "100", "1,000"]
