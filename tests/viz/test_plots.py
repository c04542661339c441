import base64
import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sites import scenes_of
from test_pretrain import write_store

from geossl.embeddings import Embeddings
from geossl.viz import plots


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("plots") / "chips", places=6)


@pytest.fixture(autouse=True)
def settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(plots.figure_png(figure))).convert("RGB"))


def shown(ax):
    return ax.images[0].get_array()


def test_chips_are_shown_with_their_dates(store):
    figure = plots.plot_chips(store, [3, 0], columns=3)
    assert np.array_equal(shown(figure.axes[0]), store.preview([3])[0])
    assert [ax.get_title() for ax in figure.axes] == ["2020-04-10", "2020-01-01", ""]
    assert pixels(figure).std() > 5


def test_pairs_stand_under_each_other(store):
    figure = plots.plot_pairs(store, {"temporal": ([0, 2], [1, 3])}, count=2)
    for ax, chip in zip(figure.axes, [0, 2, 1, 3], strict=True):
        assert np.array_equal(shown(ax), store.preview([chip])[0])


def test_losses_have_units_and_a_legend():
    logs = pd.DataFrame({"step": [1, 2, 3], "contrastive_loss": [3.0, 2.0, 1.5]})
    ax = plots.plot_losses({"a": logs, "b": logs + 1})
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    assert ax.lines[1].get_ydata().tolist() == [4.0, 3.0, 2.5]
    assert "nats" in ax.get_ylabel() and "steps" in ax.get_xlabel()
    own = Figure().subplots()
    assert plots.plot_losses({"a": logs}, ax=own) is own


def test_training_shows_whatever_metrics_a_log_has():
    fixed = {"epoch": 1.0, "loss": 2.0, "feature_std": 0.9, "effective_rank": [3.0, 7.0],
             "knn": [np.nan, 0.4], "pairs_per_s": 9.0, "seconds": 1.0,
             "seconds_left": 1.0}  # fmt: skip
    own = {"contrastive_loss": [3.0, 2.0], "mine_loss": [1.0, 0.5], "geo_accuracy": [0.1, 0.2],
           "mine_variance": [0.3, 0.2], "label_loss": np.nan}  # fmt: skip
    logs = pd.DataFrame({"step": [1, 2], **fixed, **own})
    loss, accuracy, others, *collapse = plots.plot_training(logs).axes
    lines = {
        ax.get_title(): {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
        for ax in (loss, accuracy, others, *collapse)
    }
    assert lines == {
        "loss": {"contrastive (nats)": [3.0, 2.0], "mine": [1.0, 0.5]},
        "accuracy": {"geo": [0.1, 0.2], "kNN": [0.4]},
        "mine variance": {"mine variance": [0.3, 0.2]},
        "feature std (1 even, 0 collapse)": {"feature std": [0.9, 0.9]},
        "effective rank (1 is collapse)": {"effective rank": [3.0, 7.0]},
    }
    ax = plots.plot_losses({"a": logs, "b": logs[["step", "contrastive_loss"]]})
    assert [line.get_label() for line in ax.lines] == [
        "a: contrastive loss (nats)", "a: mine loss", "b: contrastive loss (nats)",
    ]  # fmt: skip
    styles = [(line.get_color(), line.get_linestyle()) for line in ax.lines]
    assert len(set(styles)) == 3 and styles[0][1] == styles[2][1] and ax.get_ylabel() == "loss"


@pytest.mark.parametrize(
    ("names", "axis", "title"),
    [
        (["contrastive"], "contrastive loss (nats)", "loss (nats)"),
        (["seco"], "seco loss (nats)", "loss (nats)"),
        (["geo", "label", "satclip"], "loss (nats)", "loss (nats)"),
        (["georank"], "georank loss", "loss"),
        (["triplet"], "triplet loss", "loss"),
        (["contrastive", "position"], "loss", "loss"),
        ([], "loss", "loss"),
    ],
)
def test_only_cross_entropies_are_in_nats(names, axis, title):
    own = {f"{name}_loss": [2.0, 1.0] for name in names}
    known = {"loss": 1.0, "feature_std": 0.9, "effective_rank": 3.0, "knn": np.nan}
    logs = pd.DataFrame({"step": [1, 2]} | known | own)
    assert plots.plot_losses({"a": logs}).get_ylabel() == axis
    assert plots.plot_training(logs).axes[0].get_title() == title


def test_results_show_value_interval_and_chance():
    table = pd.DataFrame({
        "method": ["random", "ours"], "metric": "top-1", "value": [0.3, 0.6], "low": [0.2, 0.55],
        "high": [0.4, 0.7], "chance": 0.1,
    })  # fmt: skip
    ax = plots.plot_results(table)
    (bars,) = ax.containers
    segments = bars.lines[2][0].get_segments()
    assert [s[:, 0].round(6).tolist() for s in segments] == [[0.2, 0.4], [0.55, 0.7]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["random", "ours"]
    assert {"0.300", "0.600", "chance"} <= {t.get_text() for t in ax.texts}


def test_retrievals_frame_the_hits_and_search_last_dates_only(store):
    vectors = np.repeat(np.eye(6), 2, axis=0) + 0.01 * np.arange(12)[:, None]
    found = Embeddings(vectors.astype(np.float32), store.scenes)
    figure = plots.plot_retrievals(store, found, [0, 4], k=2)
    grid = np.array(figure.axes).reshape(2, 3)
    for line, query in enumerate((0, 4)):
        assert np.array_equal(shown(grid[line, 0]), store.preview([query])[0])
        assert np.array_equal(shown(grid[line, 1]), store.preview([query + 1])[0])
        edges = [ax.spines["left"].get_linewidth() for ax in grid[line, 1:]]
        assert edges == [3, 0.5]
    few = found.scenes["location"].isin(found.scenes["location"].iloc[[0, 4]]).to_numpy()
    figure = plots.plot_retrievals(store, found, [0], among=few, k=2)
    assert np.array_equal(shown(figure.axes[2]), store.preview([5])[0])  # the only other place


@pytest.mark.slow
def test_the_world_is_drawn_with_a_point_for_every_place(store):
    rng = np.random.default_rng(0)
    found = Embeddings(rng.normal(size=(12, 8)).astype(np.float32), store.scenes)
    ax = plots.plot_world(found)
    places = ax.collections[0].get_offsets()
    want = store.scenes.drop_duplicates("location")[["lon", "lat"]].to_numpy()
    np.testing.assert_allclose(places, want)
    assert pixels(ax).std() > 5


def test_a_notebook_shows_figures_and_axes_with_their_words(store):
    figure = plots.plot_chips(store, [3, 0], columns=3)
    logs = pd.DataFrame({"step": [1, 2], "contrastive_loss": [3.0, 2.0]})
    drawn = plots.plot_losses({"<a>": logs})
    for shown_, words in (
        (figure, "figure: 2020-04-10; 2020-01-01"),
        (drawn, "figure: contrastive loss (nats) optimizer steps &lt;a&gt;"),
    ):
        page = shown_._repr_html_()
        assert f'alt="{words}"' in page
        png = base64.b64decode(page.split("base64,")[1].split('"')[0])
        assert Image.open(io.BytesIO(png)).size[0] > 300


@pytest.mark.parametrize("name", ["300 m", "400 km over 180", "near the pole", "world"])
def test_the_world_is_cut_to_the_places(name):
    scenes = scenes_of(name).assign(path="own.tif")
    ax = plots.plot_world(Embeddings(np.eye(50, 4, dtype=np.float32) + 1, scenes))
    places, lon, lat = ax.collections[0].get_offsets(), ax.get_xlim(), ax.get_ylim()
    turns = (places[:, 0] - scenes["lon"]) / 360
    np.testing.assert_allclose(turns, turns.round(), atol=1e-9)
    np.testing.assert_allclose(places[:, 1], scenes["lat"])
    assert (lon[0] < places[:, 0]).all() and (places[:, 0] < lon[1]).all()
    assert (lat[0] < places[:, 1]).all() and (places[:, 1] < lat[1]).all()
    assert np.ptp(places[:, 1]) > np.ptp(lat) / 2
    left, right, bottom, top = ax.images[0].get_extent()
    assert left <= lon[0] and lon[1] <= right and bottom - 0.01 <= lat[0] and lat[1] <= top + 0.01
    assert ax.texts[0].get_text() == "Imagery: NASA Blue Marble"
