import matplotlib
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import rasterio.warp
import torch
from segment_scenes import small, tif
from sklearn.metrics import jaccard_score

from geossl.tasks import segment
from geossl.tasks.segment import evaluate
from geossl.tasks.segment.masks import IGNORE, Masks
from geossl.tasks.segment.model import Network
from geossl.viz import plots
from geossl.viz.plots import segmentation


def test_iou_is_sklearns_jaccard_on_random_cases():
    rng = np.random.default_rng(0)
    for case in range(40):
        classes = int(rng.integers(2, 7))
        pool = rng.permutation(classes)[: rng.integers(1, classes + 1)]  # some are absent
        truth, guess = (rng.choice(pool, (9, 13)).astype(np.uint8) for _ in range(2))
        truth[rng.random(truth.shape) < 0.2] = IGNORE
        guess[rng.random(guess.shape) < 0.1] = IGNORE
        found = evaluate.iou(evaluate.confusion(truth, guess, classes=classes)).numpy()
        known = (truth != IGNORE) & (guess != IGNORE)
        real, given = truth[known], guess[known]
        there = np.union1d(real, given)
        expected = jaccard_score(real, given, labels=there, average=None, zero_division=0)
        np.testing.assert_allclose(found[there], expected, err_msg=str(case))
        assert np.isnan(np.delete(found, there)).all()


def test_confusion_counts_in_parts(monkeypatch):
    truth, guess = np.array([0, 1, 2, 2, IGNORE]), np.array([0, 2, 2, IGNORE, 1])
    whole = evaluate.confusion(truth, guess, classes=3)
    assert whole.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    monkeypatch.setattr(evaluate, "_CHUNK", 2)
    assert torch.equal(evaluate.confusion(truth, guess, classes=3), whole)
    assert evaluate.confusion(truth[:0], guess[:0], classes=3).sum() == 0


@pytest.mark.slow
def test_the_figures_of_a_result_are_those_of_its_pixels(trained):
    folder, scenes, tuned = trained
    table = scenes.assign(location=[0, 0, 1, 1, 2, 2])
    result = segment.measure(tuned, table, seed=3)
    truth, guess = [], []
    for path, mask in zip(scenes["path"], scenes["mask"], strict=True):
        truth.append(rasterio.open(mask).read(1).ravel())
        guess.append(tuned.segment(path).values.ravel())
    each = [jaccard_score(t, g, average="macro") for t, g in zip(truth, guess, strict=True)]
    np.testing.assert_allclose(result.scenes["miou"], each)
    truth, guess = np.concatenate(truth), np.concatenate(guess)
    assert result.value == pytest.approx(jaccard_score(truth, guess, average="macro"))
    assert result.accuracy == pytest.approx((truth == guess).mean())
    assert result.chance == pytest.approx((truth == 0).mean() / 2)
    table = result.per_class.set_index("class")
    np.testing.assert_allclose(table["iou"], jaccard_score(truth, guess, average=None))
    assert table.loc["plant", "recall"] == pytest.approx(guess[truth == 1].mean())
    assert table.loc["plant", "precision"] == pytest.approx(truth[guess == 1].mean())
    assert "3 locations" in str(result) and repr(result) == str(result)
    again = segment.measure(tuned, scenes.assign(location=7))
    assert again.low == again.high == pytest.approx(again.value)  # one place: nothing to draw
    with pytest.raises(ValueError, match="`mask` must be one of the columns .*, got 'mask'"):
        segment.measure(tuned, scenes.drop(columns="mask"))


@pytest.mark.slow
def test_pictures_show_truth_prediction_and_errors(trained):
    _, scenes, tuned = trained
    before = dict(matplotlib.rcParams)
    figure = segmentation.plot_segmentation(tuned, scenes, count=2)
    assert len(figure.axes) == 8 and dict(matplotlib.rcParams) == before
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles[0] == "scene0" and titles[1].startswith("truth: background")
    truth = rasterio.open(scenes["mask"][0]).read(1)
    guess = tuned.segment(scenes["path"][0]).values
    score = jaccard_score(truth.ravel(), guess.ravel(), average="macro")
    assert f"mIoU {score:.2f}" in titles[2]
    assert f"errors: {(truth != guess).mean():.1%}" in titles[3]
    kinds = np.asarray(figure.axes[3].images[0].get_array())
    missed = (kinds == (0xD5, 0x5E, 0)).all(-1)
    assert np.array_equal(missed, (truth == 1) & (guess == 0))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["plant", "error: missed", "error: invented"]
    html = figure._repr_html_()
    assert "alt=" in html and "truth: background" in html
    assert plots.figure_png(figure)[:4] == b"\x89PNG"


def test_pictures_without_masks_of_many_bands_and_classes(tmp_path):
    rng = np.random.default_rng(0)
    path = tif(tmp_path / "a.tif", rng.integers(1, 3000, (4, 40, 700), dtype=np.uint16), nodata=0)
    net = Network(small(bands=4), classes=3, head="fpn", width=8).eval()
    reading = {"bands": "1,2,3,4", "band_names": "blue,green,red,nir", "dtype": "uint16",
               "scale_low": np.nan, "scale_high": np.nan}  # fmt: skip
    names = ("forest", "water", "town")
    tuned = segment.Segmenter(net, Masks(names), reading, pd.Series([1, 1, 1], index=names))
    figure = segmentation.plot_segmentation(tuned, pd.DataFrame({"path": [path]}))
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == 2 and shown[0].images[0].get_array().shape == (20, 350, 3)
    assert "error: another class" in [t.get_text() for t in figure.legends[0].get_texts()]
    codes = tif(tmp_path / "m.tif", rng.integers(0, 3, (40, 700), dtype=np.uint8))
    figure = segmentation.plot_segmentation(tuned, pd.DataFrame({"path": [path], "mask": [codes]}))
    assert len([ax for ax in figure.axes if ax.axison]) == 4
    with pytest.raises(ValueError, match="at least one row"):
        segmentation.plot_segmentation(tuned, pd.DataFrame({"path": []}))
