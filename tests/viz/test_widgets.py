import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sites import scenes_of
from test_pretrain import TINY, run_of, write_store

from geossl import pairs
from geossl.clusters import GeoClusters
from geossl.transforms import Views
from geossl.viz.widgets import (
    ClusterExplorer,
    PairExplorer,
    TrainingMonitor,
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
def test_a_thousand_classes_and_odd_words():
    scenes = table(1000)
    names = [*ODD, *(f"class {i}" for i in range(995))]
    scenes["label"] = np.array(names, dtype=object)[scenes["location"]]
    told = "".join(w.value for w in every_html(ClusterExplorer(scenes)))
    assert "<script>alert" not in told
    assert "988 more" in told  # the bars stop after twelve classes


def every_html(widget):
    import ipywidgets

    for child in getattr(widget, "children", ()):
        yield from [child] if isinstance(child, ipywidgets.HTML) else every_html(child)


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
