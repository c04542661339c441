"""Words of data are shown as they are on every page: they are neither template, HTML nor script."""

import io
import types

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_pretrain import write_store

from geossl import evaluate
from geossl.clusters import GeoClusters
from geossl.embeddings import Embeddings
from geossl.tasks.compare import Row
from geossl.viz import maps, plots, report
from geossl.viz.pages import render
from geossl.viz.widgets import (
    ClusterExplorer,
    EmbeddingExplorer,
    PairExplorer,
    comparison,
    training_monitor,
)
from geossl.viz.widgets.map_view import MapView

ODD = (
    '{{ 6*7 }} {% raw %} {# #} {#1 ${x} <script>alert(1)</script> </script> ]]> <!-- --> \u2028 " '
    "' ` \\ &lt; $x_1^2$ \x07\x1b\x7f é 森 🌍 {{ cycler.__init__.__globals__.os.getpid() }}"
)
NUL = "\x00 "  # in scripts; HTML itself has no way to hold one


def table(word):
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "location": [word, *map(str, range(1, 20))], "lon": rng.uniform(-60, 60, 20),
        "lat": rng.uniform(-50, 60, 20), "time": pd.Timestamp("2020-01-01", tz="UTC"),
        "label": [word, "b"] * 10, word: [word, "c"] * 10, "split": ["train"] * 8 + ["test"] * 12,
    })  # fmt: skip


def embeddings(word):
    scenes = table(word)
    return Embeddings(np.random.default_rng(1).normal(size=(len(scenes), 6)), scenes)


def probe_map(word):
    return maps.map_probe(evaluate.knn(embeddings(word), k=1), embeddings(word))


MAPS = {
    "scenes": lambda word: maps.map_scenes(table(word), color=word),
    "embeddings": lambda word: maps.map_embeddings(embeddings(word)),
    "column": lambda word: maps.map_embeddings(embeddings(word), color=word),
    "similarity": lambda word: maps.map_embeddings(embeddings(word), color="similarity", to=0),
    "neighbors": lambda word: maps.map_neighbors(embeddings(word), 0, k=3),
    "probe": probe_map,
}


def texts(page, selector):
    return page.evaluate(
        "(s) => [...document.querySelectorAll(s)].map((e) => e.textContent)", selector
    )


@pytest.mark.parametrize("name", MAPS)
def test_maps_show_the_words_of_their_data(visit, tmp_path, name):
    word = NUL + ODD
    MAPS[name](word).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    assert page.errors == []
    markers = page.locator("path[role=button]")
    labels = [markers.nth(i).get_attribute("aria-label") for i in range(markers.count())]
    first = next(i for i, text in enumerate(labels) if f"label {word}" in text or word in text)
    markers.nth(first).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".leaflet-popup-content")
    rows = texts(page, ".leaflet-popup-content .geossl-card > div")
    assert any(row.endswith(f" {word}") for row in rows), rows
    if name in ("scenes", "column"):
        assert texts(page, ".geossl-legend b") == [word]
        assert f"{word} (10)" in texts(page, ".geossl-legend div")
        assert f"{word} {word}" in rows and f"location {word}" in rows
    assert page.errors == []


def test_the_map_of_clusters_shows_the_words_of_its_table(visit, tmp_path):
    word = NUL + ODD
    scenes = table(word)
    maps.map_clusters(GeoClusters.fit(scenes, k=2), scenes, label=word).save(tmp_path / "m.html")
    page = visit(tmp_path / "m.html")
    assert word[:24] in texts(page, ".geossl-table td")
    page.locator("path.leaflet-interactive").first.dispatch_event("click")
    page.wait_for_selector(".leaflet-popup-content")
    assert word in texts(page, ".geossl-bars span")
    assert page.errors == []


def test_a_report_shows_the_words_of_its_data(visit, tmp_path):
    drawing = maps.map_scenes(table(ODD))
    buffer = io.BytesIO()
    Figure((1, 1)).savefig(buffer)
    frame = pd.DataFrame({ODD: [ODD, "b"], "value": [0.5, 1.0]})
    blocks = [
        report.table_block(frame, caption=ODD, best=0), ODD,
        report.figure_block(buffer.getvalue(), alt=ODD, caption=ODD),
        report.map_block(drawing, alt=ODD, caption=ODD),
    ]  # fmt: skip
    section = report.Section(ODD, ODD, blocks)
    report.write_page(tmp_path / "p.html", title=ODD, lead=ODD, sections=[section], foot=ODD)
    page = visit(tmp_path / "p.html")
    for selector in ("title", "h1", "p.lead", "h2", "h2 + p", "footer", "th:first-child"):
        assert texts(page, selector) == [ODD], selector
    assert texts(page, "tr.best td") == [ODD, "0.500"]
    assert texts(page, "figcaption") == [ODD] * 3
    assert page.get_attribute("img", "alt") == page.get_attribute("iframe", "title") == ODD
    assert texts(page, "main")[0].count(ODD) == 11  # the loose block too is text
    page.locator("iframe").scroll_into_view_if_needed()
    (frame,) = (f for f in page.frames if f is not page.main_frame)
    frame.wait_for_selector("path[role=button]")
    assert any(ODD in text for text in frame.locator(".geossl-legend").all_inner_texts())
    assert page.errors == []


def values(widget):
    for child in getattr(widget, "children", ()):
        if isinstance(child, MapView):
            yield render("map_frame.html", page=child.page, alt=child.alt, height_px=200)
        else:
            yield from [child.value] if isinstance(child, ipywidgets.HTML) else values(child)


@pytest.mark.filterwarnings("ignore:Glyph")  # the font of the plots has no such characters
@pytest.mark.filterwarnings("ignore:constrained_layout")  # nor room for so long a word
def test_widgets_show_the_words_of_their_data(visit, tmp_path):
    store = write_store(tmp_path / "chips", places=6)
    scenes = store.scenes.assign(label=ODD)
    object.__setattr__(store, "scenes", scenes)
    clusters = ClusterExplorer(scenes, store=store, k=2)
    clusters.search.value = "nothing is called " + ODD
    pairs = PairExplorer(store, policies={ODD: evaluate_pairs()})
    row = Row(ODD, 0, ODD, 0.5, 0.4, 0.6, 10, 1.0, None, None)
    logs = pd.DataFrame({
        "step": [1, 2], "loss": 1.0, f"{ODD}_score": [0.1, 0.2], "knn": np.nan, "feature_std": 1.0,
        "effective_rank": 5.0, "pairs_per_s": 9.0, "seconds": 1.0, "seconds_left": 0.0,
        "epoch": 1.0,
    })  # fmt: skip
    run = types.SimpleNamespace(logs=logs, step=2, steps=2)
    pages = [
        *values(clusters), *values(pairs), comparison._page([row], ODD),
        training_monitor._page(logs, training_monitor.describe_state(run)),
    ]  # fmt: skip
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>t</title>'
    (tmp_path / "p.html").write_text(head + "".join(pages), "utf-8")
    page = visit(tmp_path / "p.html")
    assert ODD in texts(page, "td") and ODD in texts(page, "[role=status]")
    assert any("nothing is called" in text and "42" not in text for text in texts(page, "div"))
    spoken = page.evaluate("[...document.images].map((e) => e.alt)")
    assert sum(ODD in text for text in spoken) > 6
    assert page.errors == []


def test_an_explorer_shows_the_words_of_its_data(visit, tmp_path):
    store = write_store(tmp_path / "chips", places=6)
    scenes = store.scenes.assign(label=ODD, **{ODD: range(len(store))})
    object.__setattr__(store, "scenes", scenes)
    vectors = np.random.default_rng(0).normal(size=(len(scenes), 6))
    explorer = EmbeddingExplorer(Embeddings(vectors, scenes), store=store)
    explorer.save(tmp_path / "p.html", title=ODD)
    page = visit(tmp_path / "p.html")
    page.wait_for_selector(".geossl-gallery img")
    assert texts(page, "h1") == [ODD] and ODD in texts(page, ".geossl-entry span")
    assert ODD in texts(page, ".geossl-panel b")
    spoken = page.evaluate(
        "[...document.querySelectorAll('.geossl-gallery button')].map((e) => e.ariaLabel)"
    )
    assert all(ODD in text for text in spoken) and len(spoken) == len(scenes)
    assert page.errors == []


def evaluate_pairs():
    from geossl import pairs

    return pairs.same_image()


@pytest.mark.filterwarnings("ignore:Glyph")  # the font of the plots has no such characters
@pytest.mark.filterwarnings("ignore:constrained_layout")
def test_words_with_dollars_are_words_in_figures():
    ax = plots.plot_losses({
        word: pd.DataFrame({"step": [1, 2], "contrastive_loss": [2.0, 1.0]})
        for word in ("$5 to $10", r"$\nothing$", ODD)
    })  # fmt: skip
    assert plots.figure_png(ax)[:4] == b"\x89PNG"
