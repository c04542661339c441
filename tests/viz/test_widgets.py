import asyncio
import base64
import io
import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sites import scenes_of
from test_pretrain import TINY, run_of, write_store

from geossl import evaluate, pairs
from geossl.clusters import GeoClusters
from geossl.embeddings import Embeddings, neighbors
from geossl.transforms import Views
from geossl.viz.projection import project
from geossl.viz.widgets import (
    ClusterExplorer,
    EmbeddingExplorer,
    PairExplorer,
    TrainingMonitor,
    common,
    embedding_explorer,
)
from geossl.viz.widgets.training_monitor import describe_state


def table(places=300, dates=2, seed=0):
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, places), rng.uniform(-70, 70, places)
    location = np.repeat(np.arange(places), dates)
    return pd.DataFrame({
        "path": [f"{i}.tif" for i in range(places * dates)], "location": location,
        "time": pd.to_datetime(np.tile(["2019-05-01", "2021-06-01"], places), utc=True),
        "lon": lon[location], "lat": lat[location],
        "label": np.where(lat > 0, "north", "south")[location],
    })  # fmt: skip


def status(explorer):
    return explorer._status.widget.value


@pytest.mark.slow
def test_sliding_k_clusters_anew_as_the_library_does():
    given = table()
    seen = ClusterExplorer(given, k=5, seed=3)
    for k, on in ((9, "sphere"), (9, "degrees"), (3, "degrees")):
        seen.method.value, seen.k_slider.value = on, k
        want = GeoClusters.fit(given, k=k, seed=3, on=on)
        assert np.array_equal(seen.clusters.centers, want.centers) and seen.clusters.on == on
        assert len(seen.table.options) == k + 1
    curves = seen._controls.curves.value
    assert "mean purity and mean entropy by K" in curves and "degrees K=3" in curves


@pytest.mark.slow
def test_trying_many_k_draws_curves_and_leaves_the_map():
    given = table()
    seen = ClusterExplorer(given, k=6)
    before = seen.map.page
    seen.sweep_button.click()
    curves = seen._controls.curves.value
    told = dict(re.findall(r"sphere K=(\d+) ([\d.]+) \(by chance", curves))
    assert set(told) == {"5", "6", "10", "20", "40", "80", "120", "200"}
    assert seen.clusters.k == 6 and seen.map.page == before
    purity = GeoClusters.fit(given, k=40).purity(given).dropna()
    assert told["40"] == f"{np.average(purity['purity'], weights=purity['size']):.2f}"
    bare = ClusterExplorer(given.drop(columns="label"), k=6)
    bare.sweep_button.click()
    assert "sphere K=40 balance 0.9" in bare._controls.curves.value


@pytest.mark.slow
@pytest.mark.parametrize("way", ["map", "table", "place", "label"])
def test_lighting_a_cluster_tells_map_chips_facts_and_python(way):
    given = table()
    seen = ClusterExplorer(given, k=6)
    own = seen.clusters.assign(given["lon"], given["lat"])
    page = seen.map.page
    if way == "map":
        wanted = 2
        seen.map.set_state({"highlight": 2})  # what the front end does after a click on a cell
    elif way == "table":
        seen.table.index = 3
        wanted = seen.table.value
    elif way == "place":
        wanted, seen.search.value = own[120], str(given["location"][120])
    else:
        wanted = np.bincount(own[given["label"] == "south"]).argmax()
        seen.search.value = "SOUTH"
    assert seen.cluster == seen.map.highlight == seen.table.value == wanted
    assert seen.map.page == page  # no new page: zoom and pan stay
    assert np.array_equal(seen.rows, np.flatnonzero(own == wanted))
    count = given["location"][own == wanted].nunique()
    assert f"cluster {wanted}: {count:,} locations" in status(seen)
    most = given["label"][own == wanted].value_counts()
    assert (
        f">{most.index[0]}</td>" in seen._controls.facts.value
        and f">{most.iloc[0]:,}</td>" in seen._controls.facts.value
    )
    seen.table.value = -1
    assert seen.cluster is None and len(seen.rows) == len(given)


def test_what_cannot_be_found_or_saved_is_said(tmp_path):
    seen = ClusterExplorer(table(), k=4)
    seen.search.value = "<script>"
    assert "no label or location matches" in status(seen) and "<script>" not in status(seen)
    seen.save_name.value = str(tmp_path / "c.xlsx")
    seen.save_button.click()
    assert 'role="alert"' in status(seen) and ".json, .csv or .geojson" in status(seen)


@pytest.mark.slow
def test_saved_cells_and_csv_are_those_shown(tmp_path):
    given = table()
    seen = ClusterExplorer(given, k=4)
    seen.save(tmp_path / "c.csv")
    found = pd.read_csv(tmp_path / "c.csv")
    assert found["cluster"].tolist() == seen.clusters.assign(given["lon"], given["lat"]).tolist()
    seen.save(tmp_path / "c.geojson")
    cells = json.loads((tmp_path / "c.geojson").read_text())["features"]
    assert [c["properties"]["places"] for c in cells] == seen.clusters.sizes.tolist()


@pytest.mark.slow
def test_rows_without_a_position_are_left_out_and_words_are_escaped():
    given = table()
    given.loc[given["location"] < 10, "lon"] = np.nan
    given["label"] = '<img src=x onerror=alert(1)> 好 😀 "'
    seen = ClusterExplorer(given, k=4)
    assert "20 rows without a position are left out" in status(seen)
    assert 20 <= seen.rows.min() and len(seen.rows) == len(given) - 20
    assert "<img src=x" not in seen._controls.facts.value
    assert "好 😀" in seen._controls.facts.value
    with pytest.raises(
        ValueError, match="`scenes` needs at least two locations with a position, got 0"
    ):
        ClusterExplorer(given.assign(lat=np.nan))


@pytest.mark.slow
def test_chips_are_those_of_the_cluster_and_a_lost_store_keeps_the_rest(tmp_path, monkeypatch):
    store = write_store(tmp_path / "chips")
    seen = ClusterExplorer(store.scenes, store=store, k=3)
    seen.table.value = 1
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", seen._controls.chips.value)
    assert len(pictures) == min(24, len(seen.rows))
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    assert first.shape == (16, 16, 3)
    monkeypatch.setattr(
        type(store), "preview", lambda *a, **k: (_ for _ in ()).throw(OSError("gone"))
    )
    seen.table.value = 2
    assert "cannot be read: gone" in seen._controls.chips.value and seen._controls.facts.value
    with pytest.raises(ValueError, match="`store` must have one chip for each of the 4 rows"):
        ClusterExplorer(store.scenes[:4], store=store)


def test_the_monitor_runs_the_run_and_tells_a_terminal(tmp_path, capsys):
    store = write_store(tmp_path / "chips")
    monitor = TrainingMonitor(run_of(store, config=TINY), every_s=0)
    run = monitor.watch()
    assert run.step == run.steps
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == describe_state(run) and "finished" in said[-1]
    assert f"step {run.steps} of {run.steps}" in said[-1] and "effective rank" in said[-1]
    alone = run_of(store, config=TINY).finish(progress=False)
    assert run.logs["loss"].tolist() == alone.logs["loss"].tolist()


def test_the_monitor_says_in_words_how_long_it_takes(tmp_path):
    run = run_of(write_store(tmp_path / "chips"), config=TINY)
    log = next(iter(run))
    for seconds, words in ((125.0, "about 2.1 minutes left"), (40.2, "about 40 seconds left")):
        run._records[-1]["seconds_left"] = seconds
        assert describe_state(run).split(", ")[-1] == words
    assert log.seconds_left > 0


def test_an_interrupt_ends_the_watching_and_not_the_run(tmp_path, capsys):
    store = write_store(tmp_path / "chips")
    monitor = TrainingMonitor(run_of(store, config=TINY), every_s=0)
    logs = monitor.run.__iter__()

    class Stopped:
        """A run that is interrupted after its second record."""

        def __getattr__(self, name):
            return getattr(monitor_run, name)

        def __iter__(self):
            yield next(logs)
            yield next(logs)
            raise KeyboardInterrupt

    monitor_run, monitor.run = monitor.run, Stopped()
    seen = list(monitor)
    assert len(seen) == 2 and monitor.interrupted
    assert "watching again continues" in capsys.readouterr().err
    monitor.run = monitor_run
    assert monitor.watch().step == monitor_run.steps and not monitor.interrupted


@pytest.mark.slow
def test_in_a_notebook_one_picture_is_drawn_over_again(tmp_path, monkeypatch):
    import IPython.display
    from IPython.core import getipython

    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append(bundle)

    class Shell:
        kernel = object()

    monkeypatch.setattr(getipython, "get_ipython", Shell)
    monkeypatch.setattr(
        IPython.display, "display", lambda b, raw, display_id: shown.append(b) or Handle()
    )
    TrainingMonitor(run_of(write_store(tmp_path / "chips"), config=TINY), every_s=0).watch()
    assert len(shown) > 2
    assert 'alt="training curves: step' in shown[-1]["text/html"]
    assert "finished" in shown[-1]["text/plain"]


@pytest.mark.slow
def test_a_notebook_turned_into_a_page_keeps_the_last_picture(tmp_path):
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    write_store(tmp_path / "chips")
    code = (
        "import geossl\nstore = geossl.ChipStore.open('chips')\n"
        "config = geossl.PretrainConfig(epochs=2, batch_size=8, queue_size=16, device='cpu')\n"
        "run = geossl.pretrain(store, pairs=geossl.pairs.same_image(), config=config)\n"
        "run = geossl.viz.widgets.TrainingMonitor(run, every_s=0).watch()"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    ExecutePreprocessor(timeout=120).preprocess(book, {"metadata": {"path": str(tmp_path)}})
    page, _ = HTMLExporter().from_notebook_node(book)
    pictures = re.findall(r'<img[^>]*alt="training curves: step [^"]*finished[^"]*"[^>]*>', page)
    assert len(pictures) == 1 and "data:image/" in pictures[0]


ODD = ("<script>alert(1)</script>", "say \"hi\" & 'bye'", "🌍 emoji", "森林", "x" * 300)


@pytest.mark.slow
@pytest.mark.parametrize("explorer", [ClusterExplorer, EmbeddingExplorer])
def test_a_thousand_classes_and_odd_words(explorer):
    found = seen_embeddings(places=1000)
    names = [*ODD, *(f"class {i}" for i in range(995))]
    found.scenes["label"] = np.array(names, dtype=object)[found.scenes["location"]]
    seen = explorer(found.scenes if explorer is ClusterExplorer else found)
    told = "".join(w.value for w in every_html(seen))
    assert "<script>alert" not in told
    assert "988 more" in told  # the bars stop after twelve classes
    if explorer is EmbeddingExplorer:
        choose(seen, np.flatnonzero(found.scenes["location"] < 5))
        assert "993 others" in told  # seven classes have a color
        words = "".join(w.value for w in every_html(seen))
        assert "&lt;script&gt;" in words and "森林" in words and "🌍" in words
        assert any("森林" in chip["words"] for chip in seen.gallery.chips)


def every_html(widget):
    import ipywidgets

    for child in getattr(widget, "children", ()):
        yield from [child] if isinstance(child, ipywidgets.HTML) else every_html(child)


def seen_embeddings(places=60, seed=0, **changes):
    given = table(places, seed=seed).assign(**changes)
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(given), 8)) + 3 * (given["lat"] > 0).to_numpy()[:, None]
    return Embeddings(vectors.astype(np.float32), given)


def choose(explorer, rows):
    """What the front end does when a box is drawn."""
    explorer.views.set_state({"selection": memoryview(np.asarray(rows, "<u4").tobytes())})


def test_a_selection_reaches_python_gallery_and_counts():
    found = seen_embeddings()
    seen = EmbeddingExplorer(found)
    choose(seen, [3, 4, 50])
    assert seen.selection.tolist() == [3, 4, 50]
    assert np.array_equal(seen.selected.vectors, found.vectors[[3, 4, 50]])
    assert [chip["row"] for chip in seen.gallery.chips] == [3, 4, 50]
    for name, count in found.scenes["label"].iloc[[3, 4, 50]].value_counts().items():
        assert f">{name}</td>" in seen._counts.value and f">{count}</td>" in seen._counts.value
    assert "3 selected" in status(seen)
    choose(seen, [])
    assert len(seen.selection) == 0 and len(seen.gallery.chips) == 32
    assert "nothing selected" in status(seen)
    seen.selection = [7]
    assert seen.views.rows().tolist() == [7]


@pytest.mark.parametrize("dates", ["any date", "the same date", "other dates"])
def test_places_like_this_are_the_nearest_at_the_dates_asked_for(dates):
    found = seen_embeddings()
    seen = EmbeddingExplorer(found)
    seen.dates.value = dates
    seen.gallery.set_state({"chosen": 11, "times": 1})
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    similar = unit @ unit[11]
    times = found.scenes["time"]
    allowed = {"any date": times == times, "the same date": times == times[11],
               "other dates": times != times[11]}[dates].to_numpy(copy=True)  # fmt: skip
    allowed[11] = False
    want = [i for i in np.argsort(-similar) if allowed[i]][:31]
    assert [c["row"] for c in seen.gallery.chips] == [11, *want]
    assert seen.gallery.chips[1]["caption"] == f"similarity {similar[want[0]]:.2f}"


def test_colors_follow_label_cluster_purity_and_probe():
    found = seen_embeddings(places=90)
    found.scenes["split"] = np.where(found.scenes["location"] % 2, "train", "test")
    clusters, result = GeoClusters.fit(found.scenes, k=4), evaluate.knn(found, k=5)
    seen = EmbeddingExplorer(found, clusters=clusters, probe=result)
    for name in ("label", "geo cluster", "probe error", "neighbor purity", "time", "split"):
        seen.color.value = name
        assert len(seen.views.codes) == len(found) and name in seen._legend.value
    seen.color.value = "probe error"
    assert f"not tested ({len(found) - result.n_test})" in seen._legend.value
    label = found.scenes["label"].to_numpy()
    rows, _ = neighbors(found, np.arange(len(found)), k=10)
    want = (label[rows] == label[:, None]).mean(1)
    np.testing.assert_allclose(seen._neighbor_purity(), want)


def test_two_encoders_stand_side_by_side():
    one, two = seen_embeddings(), seen_embeddings(seed=1)
    seen = EmbeddingExplorer(one, other=Embeddings(two.vectors, one.scenes), names=("a", "b"))
    assert seen.views.titles == ["map", "a: PCA", "b: PCA"]
    flat = np.frombuffer(seen.views.second, "<f4").reshape(-1, 2)
    np.testing.assert_allclose(flat, project(Embeddings(two.vectors, one.scenes)), rtol=1e-5)
    seen.projection.value = "tsne"
    assert seen.views.titles[1] == "a: t-SNE" and "t-SNE of 120 vectors" in status(seen)


def test_a_projection_tells_how_far_it_is_and_is_kept(monkeypatch):
    seen, told = EmbeddingExplorer(seen_embeddings()), []
    seen.progress.observe(lambda change: told.append(change["new"]), "value")
    seen.progress.layout.observe(lambda change: told.append(change["new"]), "display")
    seen.projection.value = "tsne"
    shares = [t for t in told if not isinstance(t, str)]
    assert told[0] == "" and told[-2:] == ["none", 0.0]
    assert len(shares) > 9 and shares[:-1] == sorted(shares[:-1])
    drawn = seen.views.first
    seen.projection.value = "pca"
    assert seen.views.first != drawn
    told.clear()
    seen.projection.value = "tsne"  # again, without the work
    assert seen.views.first == drawn and told == []
    monkeypatch.setitem(sys.modules, "umap", None)
    seen.projection.value = "umap"
    assert "umap-learn" in status(seen) and seen.progress.layout.display == "none"


def test_a_projection_in_a_notebook_can_be_cancelled_and_replaced(monkeypatch):
    ended = []

    def endless(embeddings, *, method, progress, **options):
        if method == "pca":
            return project(embeddings)
        try:
            for i in range(8_000):  # 40 s, unless it is stopped
                if method == "umap" and i == 5:
                    raise ValueError("no such luck")
                progress(min(i / 100, 0.9))
                time.sleep(0.005)
        finally:
            ended.append(method)

    async def wait_until(condition):
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until
            await asyncio.sleep(0.005)

    async def use(seen):
        drawn = seen.views.first
        seen.projection.value = "tsne"
        assert seen.cancel.layout.display == seen.progress.layout.display == ""
        assert "computing t-SNE of 120 vectors" in status(seen)
        await wait_until(lambda: seen.progress.value > 0.05)
        seen.cancel.click()
        assert seen.cancel.layout.display == seen.progress.layout.display == "none"
        assert seen.projection.value == "pca" and seen.views.first == drawn
        assert "stopped; the picture is still PCA" in status(seen) and seen.progress.value == 0
        await wait_until(lambda: ended == ["tsne"])
        seen.projection.value = "tsne"
        await wait_until(lambda: seen.progress.value > 0)
        seen.projection.value = "umap"  # another choice stops the first, and this one fails
        await wait_until(lambda: "no such luck" in status(seen))
        await wait_until(lambda: sorted(ended) == ["tsne", "tsne", "umap"])
        assert seen.projection.value == "pca" and seen.cancel.layout.display == "none"
        assert seen.views.first == drawn and seen.views.titles[1] == "encoder: PCA"
        monkeypatch.setattr(embedding_explorer, "project", project)
        seen.projection.value = "tsne"
        await wait_until(lambda: "t-SNE of 120 vectors in" in status(seen))

    monkeypatch.setattr(embedding_explorer, "project", endless)
    seen = EmbeddingExplorer(seen_embeddings())
    monkeypatch.setattr(common, "in_notebook", lambda: True)
    with ThreadPoolExecutor(1) as pool:  # tests of the browser leave a loop in this thread
        pool.submit(asyncio.run, use(seen)).result()
    points = project(seen._embeddings, method="tsne").astype("<f4").tobytes()
    assert seen.views.first == points and seen.cancel.layout.display == "none"


def test_what_was_not_fitted_is_said(monkeypatch):
    monkeypatch.setattr(embedding_explorer, "SAMPLE", 100)
    seen = EmbeddingExplorer(seen_embeddings())
    seen.projection.value = "tsne"
    assert "t-SNE of 120 vectors, fitted to 100 of them, in" in status(seen)


def test_rows_that_cannot_be_shown_are_left_out_and_said():
    found = seen_embeddings()
    broken = found.vectors.copy()
    broken[5] = np.nan
    table_ = found.scenes.copy()
    table_.loc[8, "lat"] = np.nan
    table_["label"] = [f"class {i} <script>" for i in range(len(table_))]  # as many as rows
    seen = EmbeddingExplorer(Embeddings(broken, table_))
    assert "2 rows without a position or a finite vector are left out" in status(seen)
    choose(seen, [5])  # the sixth that is shown: row 6 of what was given
    assert seen.selection.tolist() == [6]
    assert "<script>" not in seen._counts.value and "<script>" not in seen._legend.value
    with pytest.raises(ValueError, match="`embeddings` needs rows with finite vectors, got none"):
        EmbeddingExplorer(Embeddings(np.full_like(broken, np.nan), table_))
    table_[["lon", "lat"]] = np.nan
    nowhere = EmbeddingExplorer(Embeddings(found.vectors, table_))
    assert "left out" not in status(nowhere) and "no row has a position" in nowhere.views.titles[0]
    assert np.isfinite(nowhere.views.region).all()  # json has no nan: the widget would stay empty
    with pytest.raises(
        ValueError, match="`other` must have the same 120 rows as the embeddings, got 118"
    ):
        EmbeddingExplorer(found, other=found.subset(np.arange(118)))


def test_an_error_in_a_callback_is_shown(monkeypatch):
    seen = EmbeddingExplorer(seen_embeddings())
    monkeypatch.setattr(seen, "_show", lambda: 1 / 0)
    choose(seen, [1])
    assert 'role="alert"' in status(seen) and "division by zero" in status(seen)


def test_pairs_are_those_of_the_policy_with_gap_and_distance(tmp_path):
    store = write_store(tmp_path / "chips")
    seen = PairExplorer(store, policies={"tp": pairs.temporal(), "same": pairs.same_image()})
    query, key = pairs.temporal().prepare(store.scenes)(torch.Generator().manual_seed(0))
    assert np.array_equal(seen.query, query[:8]) and np.array_equal(seen.key, key[:8])
    assert seen._pictures.value.count("100 days") == 8
    assert "0 of a chip with itself (0.0%)" in status(seen)
    before = seen.query
    seen.again.click()
    assert not np.array_equal(seen.query, before)
    seen.policy.value = "same"
    assert np.array_equal(seen.query, seen.key)
    assert "48 of a chip with itself (100.0%)" in status(seen)
    assert seen._pictures.value.count("the chip itself") == 8


def test_the_sliders_make_the_views_that_are_shown(tmp_path):
    store = write_store(tmp_path / "chips")
    seen = PairExplorer(store)
    plain = seen._pictures.value
    seen.augmented.value = True
    strong = seen._pictures.value
    assert strong != plain
    for slider in seen.strength.values():
        slider.value = 0
    seen.crop.value, seen.dihedral.value = 1.0, False
    views = seen.views
    assert views.crop == (1.0, 1.0) and views.brightness == views.hue == 0 and not views.dihedral
    assert views.flip == Views().flip  # what has no slider stays as it was given
    seen.strength["brightness"].value = 0.7
    assert seen.views.brightness == 0.7 and seen._pictures.value != strong
    seen.augmented.value = False
    assert seen._pictures.value == plain


def test_bands_that_are_no_colors_have_no_color_sliders(tmp_path):
    store = write_store(tmp_path / "chips", bands=5, dtype="uint16")
    seen = PairExplorer(store)
    assert not {"hue", "saturation", "grayscale"} & set(seen.strength)
    seen.augmented.value = True
    assert 'role="alert"' not in status(seen)


def test_a_policy_without_pairs_says_so(tmp_path):
    store = write_store(tmp_path / "chips", dates=1)
    seen = PairExplorer(store, policies={"same": pairs.same_image(), "tp": pairs.temporal()})
    seen.policy.value = "tp"
    assert 'role="alert"' in status(seen)


@pytest.mark.parametrize("name", ["300 m", "400 km over 180", "near the pole", "world"])
def test_the_linked_map_shows_the_area_of_its_places(name):
    scenes = scenes_of(name)
    seen = EmbeddingExplorer(Embeddings(np.eye(50, 4, dtype=np.float32) + 1, scenes))
    place, rest = (
        np.frombuffer(text, "<f4").reshape(-1, 2).astype(float)
        for text in (seen.views.place, seen.views.place_rest)
    )
    exact = place + rest
    turns = (exact[:, 0] - scenes["lon"]) / 360
    np.testing.assert_allclose(turns, turns.round(), atol=1e-10)
    np.testing.assert_allclose(exact[:, 1], scenes["lat"], rtol=0, atol=1e-9)
    left, bottom, right, top = seen.views.region
    assert ((left < exact[:, 0]) & (exact[:, 0] < right)).all()
    assert ((bottom < exact[:, 1]) & (exact[:, 1] < top)).all()
    assert np.ptp(exact, axis=0) @ [1, 0] > (right - left) * (0.8 if name != "world" else 0.5)


def test_a_highlighted_cluster_opens_in_view():
    seen = ClusterExplorer(scenes_of("5 km"), k=4)
    seen.table.value = 2
    assert seen.map.highlight == 2


def test_pairs_of_a_site_say_their_meters(tmp_path):
    store = write_store(tmp_path / "chips", places=2, dates=1)
    scenes = store.scenes.assign(lon=[7.44, 7.4402], lat=46.95, time=pd.NaT)
    object.__setattr__(store, "scenes", scenes)
    seen = PairExplorer(store, policies={"near": pairs.spatial(radius_km=1)})
    assert "<figcaption>15.2 m</figcaption>" in seen._pictures.value
