import asyncio
import io
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sites import scenes_of
from test_pretrain import write_store

from geossl import evaluate
from geossl.clusters import GeoClusters
from geossl.embeddings import Embeddings, embed, neighbors
from geossl.models import load_encoder, with_bands
from geossl.viz.projection import project
from geossl.viz.widgets import EmbeddingExplorer, background
from geossl.viz.widgets.explorer import linked
from geossl.viz.widgets.explorer.finder import embed_picture


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


def seen_embeddings(places=60, seed=0, **changes):
    given = table(places, seed=seed).assign(**changes)
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(given), 8)) + 3 * (given["lat"] > 0).to_numpy()[:, None]
    return Embeddings(vectors.astype(np.float32), given)


def choose(explorer, rows):
    """What the front end does when a box is drawn."""
    explorer.set_state({"selected_rows": memoryview(np.asarray(rows, "<u4").tobytes())})


def ask(explorer, kind, buffers=(), **fields):
    """What Python answers to a question of the front end: a message and its buffers."""
    answers = []
    explorer.send = lambda content, buffers=None: answers.append((content, buffers))
    explorer._handle_custom_msg({"type": kind, "id": "1", **fields}, list(buffers))
    (answer,) = answers
    assert answer[0]["id"] == "1"
    return answer


def column(explorer, name):
    """The codes of a column, and what it says of them."""
    names = [c["name"] for c in explorer.columns]
    codes = np.frombuffer(explorer.codes, np.uint8).reshape(len(names), -1)
    return codes[names.index(name)], explorer.columns[names.index(name)]


def words(explorer, name):
    """A column as the words that the panel of its categories shows."""
    codes, meaning = column(explorer, name)
    return [meaning["entries"][code]["text"] for code in codes]


def test_a_selection_reaches_python_and_is_set_from_it():
    found = seen_embeddings()
    seen = EmbeddingExplorer(found)
    choose(seen, [3, 4, 50])
    assert seen.selection.tolist() == [3, 4, 50]
    assert np.array_equal(seen.selected.vectors, found.vectors[[3, 4, 50]])
    choose(seen, [])
    assert len(seen.selection) == 0
    seen.selection = [7]
    assert seen.chosen_by_python["rows"] == [7] and seen.selection.tolist() == [7]


def test_a_selection_may_be_a_mask_and_must_be_of_its_rows():
    seen = EmbeddingExplorer(seen_embeddings())
    seen.selection = np.arange(120) % 40 == 3
    assert seen.selection.tolist() == [3, 43, 83]  # not the rows 0 and 1, False and True
    for wrong in ([120], [-1], ["a"], [1.5], np.ones(3, bool), [[1]]):
        with pytest.raises(ValueError, match="`selection` must be row numbers from 0 to 119"):
            seen.selection = wrong
    assert seen.selection.tolist() == [3, 43, 83]
    for packed in (b"123", np.array([120], "<u4").tobytes()):
        seen.set_state({"selected_rows": memoryview(packed)})
        with pytest.raises(ValueError, match="not among these 120. Run the cell again"):
            _ = seen.selected


@pytest.mark.parametrize("kind", ["pictures", "similar", "label", "like"])
def test_a_page_that_asks_for_rows_that_are_not_there_gets_a_sentence(kind):
    seen = EmbeddingExplorer(seen_embeddings())
    for wrong in (120, -1, 10**30, 1.5, True, "a", None, [1]):
        answer, _ = ask(seen, kind, rows=[wrong], row=wrong, name="a", like=True)
        assert answer["rows"] == [] and seen.is_error
        assert re.search("The page asked for .+ Run the cell again, and close", seen.status)
    assert seen.labels["names"] == [] and seen._liked == ([], [])


def test_a_question_that_is_not_known_gets_a_sentence():
    seen = EmbeddingExplorer(seen_embeddings())
    for fields in ({"kind": "dance"}, {"kind": "search"}, {"kind": "label", "rows": [1]}):
        ask(seen, **fields)
        assert seen.is_error and "The page asked for" in seen.status
    ask(seen, "image", [b"1"], name="a.png")
    assert "A picture needs `encoder` and `store`" in seen.status


def test_pictures_come_with_their_words(tmp_path):
    store = write_store(tmp_path / "chips")
    vectors = np.random.default_rng(0).normal(size=(len(store), 4)).astype(np.float32)
    seen = EmbeddingExplorer(Embeddings(vectors, store.scenes), store=store)
    answer, pictures = ask(seen, "pictures", rows=[3, 1])
    assert answer["rows"] == [3, 1] and len(pictures) == 2
    for picture, row in zip(pictures, [3, 1], strict=True):
        chip = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float)
        assert np.abs(chip - store.preview([row])[0]).mean() < 20  # a lossy file of noise
    assert answer["words"][0].startswith(f"location {store.scenes['location'][3]}, 20")
    bare = EmbeddingExplorer(Embeddings(vectors, store.scenes))
    answer, pictures = ask(bare, "pictures", rows=[3, 1])
    assert len(answer["words"]) == 2 and pictures == []
    assert "Pass `store` to see the chips." in bare.status


@pytest.mark.parametrize("dates", ["any date", "the same date", "other dates"])
def test_places_like_this_are_the_nearest_at_the_dates_asked_for(dates):
    found = seen_embeddings()
    seen = EmbeddingExplorer(found)
    seen.dates = dates
    ask(seen, "similar", row=11)
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    similar = unit @ unit[11]
    times = found.scenes["time"]
    allowed = {"any date": times == times, "the same date": times == times[11],
               "other dates": times != times[11]}[dates].to_numpy(copy=True)  # fmt: skip
    allowed[11] = False
    want = [i for i in np.argsort(-similar) if allowed[i]][:31]
    assert seen.answer["rows"] == [11, *want] and seen.answer["query"] == 11
    assert seen.answer["captions"][1] == f"{similar[want[0]]:.2f}"
    assert len(seen.answer["captions"]) == 32 and "cosine similarity" in seen.answer["note"]


def test_colors_follow_label_cluster_purity_and_probe():
    found = seen_embeddings(places=90)
    found.scenes["split"] = np.where(found.scenes["location"] % 2, "train", "test")
    clusters, result = GeoClusters.fit(found.scenes, k=4), evaluate.knn(found, k=5)
    seen = EmbeddingExplorer(found, clusters=clusters, probe=result)
    for name in ("label", "geo cluster", "probe error", "neighbor purity", "time", "split"):
        seen.color = name
        assert len(column(seen, name)[0]) == len(found)
    assert words(seen, "probe error").count("not tested") == len(found) - result.n_test
    assert words(seen, "label") == found.scenes["label"].tolist()
    assert words(seen, "geo cluster") == [
        str(n) for n in clusters.assign(found.scenes["lon"], found.scenes["lat"])
    ]
    label = found.scenes["label"].to_numpy()
    rows, _ = neighbors(found, np.arange(len(found)), k=10)
    want = (label[rows] == label[:, None]).mean(1)
    np.testing.assert_allclose(seen.values["neighbor purity"], want)
    codes, meaning = column(seen, "neighbor purity")
    np.testing.assert_allclose(
        [float(meaning["edges"][c]) for c in codes], want, atol=1 / 64 + 1e-3
    )


def test_traits_that_belong_together_arrive_together():
    seen, sent = EmbeddingExplorer(seen_embeddings()), []
    seen._send = lambda message, buffers=None: sent.append(message)
    seen.color = "neighbor purity"
    seen.projection = "tsne"
    states = [{*m["state"], *(path[0] for path in m["buffer_paths"])} for m in sent]
    assert any({"columns", "codes"} <= state for state in states)
    for pair in ({"columns", "codes"}, {"first", "titles"}):
        assert all(pair <= state or not pair & state for state in states)


def test_two_encoders_stand_side_by_side():
    one, two = seen_embeddings(), seen_embeddings(seed=1)
    seen = EmbeddingExplorer(one, other=Embeddings(two.vectors, one.scenes), names=("a", "b"))
    assert seen.titles == ["map", "a: PCA", "b: PCA"]
    flat = np.frombuffer(seen.second, "<f4").reshape(-1, 2)
    np.testing.assert_allclose(flat, project(Embeddings(two.vectors, one.scenes)), rtol=1e-5)
    seen.projection = "tsne"
    assert seen.titles[1] == "a: t-SNE" and "t-SNE of 120 vectors" in seen.status


def test_a_projection_tells_how_far_it_is_and_is_kept(monkeypatch):
    seen, told = EmbeddingExplorer(seen_embeddings()), []
    seen.observe(lambda change: told.append(change["new"]), "progress")
    seen.projection = "tsne"
    assert told[0] == 0.0 and told[-1] == -1.0
    assert len(told) > 9 and told[:-1] == sorted(told[:-1])
    drawn = seen.first
    seen.projection = "pca"
    assert seen.first != drawn
    told.clear()
    seen.projection = "tsne"  # again, without the work
    assert seen.first == drawn and told == []
    monkeypatch.setitem(sys.modules, "umap", None)
    seen.projection = "umap"
    assert "umap-learn" in seen.status and seen.is_error and seen.progress < 0


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
        drawn = seen.first
        seen.projection = "tsne"
        assert seen.progress >= 0
        assert "computing t-SNE of 120 vectors" in seen.status
        await wait_until(lambda: seen.progress > 0.05)
        ask(seen, "cancel")
        assert seen.progress < 0
        assert seen.projection == "pca" and seen.first == drawn
        assert "stopped; the picture is still PCA" in seen.status
        await wait_until(lambda: ended == ["tsne"])
        seen.projection = "tsne"
        await wait_until(lambda: seen.progress > 0)
        seen.projection = "umap"  # another choice stops the first, and this one fails
        await wait_until(lambda: "no such luck" in seen.status)
        await wait_until(lambda: sorted(ended) == ["tsne", "tsne", "umap"])
        assert seen.projection == "pca" and seen.progress < 0
        assert seen.first == drawn and seen.titles[1] == "encoder: PCA"
        monkeypatch.setattr(linked, "project", project)
        seen.projection = "tsne"
        await wait_until(lambda: "t-SNE of 120 vectors in" in seen.status)

    monkeypatch.setattr(linked, "project", endless)
    seen = EmbeddingExplorer(seen_embeddings())
    monkeypatch.setattr(background, "in_notebook", lambda: True)
    with ThreadPoolExecutor(1) as pool:  # tests of the browser leave a loop in this thread
        pool.submit(asyncio.run, use(seen)).result()
    points = project(seen.embeddings, method="tsne").astype("<f4").tobytes()
    assert seen.first == points and seen.progress < 0


def test_what_was_not_fitted_is_said(monkeypatch):
    monkeypatch.setattr(linked, "SAMPLE", 100)
    seen = EmbeddingExplorer(seen_embeddings())
    seen.projection = "tsne"
    assert "t-SNE of 120 vectors, fitted to 100 of them, in" in seen.status


def test_rows_that_cannot_be_shown_are_left_out_and_said():
    found = seen_embeddings()
    broken = found.vectors.copy()
    broken[5] = np.nan
    table_ = found.scenes.copy()
    table_.loc[8, "lat"] = np.nan
    table_["label"] = [f"class {i} <script>" for i in range(len(table_))]  # as many as rows
    seen = EmbeddingExplorer(Embeddings(broken, table_))
    assert "2 rows without a position or a finite vector are left out" in seen.status
    assert "20 more" not in seen.status and len(column(seen, "label")[1]["entries"]) == 20
    choose(seen, [5])  # the sixth that is shown: row 6 of what was given
    assert seen.selection.tolist() == [6]
    with pytest.raises(ValueError, match="`embeddings` needs rows with finite vectors, got none"):
        EmbeddingExplorer(Embeddings(np.full_like(broken, np.nan), table_))
    table_[["lon", "lat"]] = np.nan
    nowhere = EmbeddingExplorer(Embeddings(found.vectors, table_))
    assert "left out" not in nowhere.status and "no row has a position" in nowhere.titles[0]
    assert np.isfinite(nowhere.region).all()  # json has no nan: the widget would stay empty
    with pytest.raises(
        ValueError, match="`other` must have the same 120 rows as the embeddings, got 118"
    ):
        EmbeddingExplorer(found, other=found.subset(np.arange(118)))


def test_an_error_in_a_callback_is_shown(monkeypatch):
    seen = EmbeddingExplorer(seen_embeddings())
    monkeypatch.setattr(seen, "_show_similar", lambda row: 1 / 0)
    answer, _ = ask(seen, "similar", row=1)  # and the front end does not wait for ever
    assert seen.is_error and "division by zero" in seen.status and answer["rows"] == []
    seen.color = "climate"
    assert seen.is_error and "`color` must be one of" in seen.status


@pytest.mark.parametrize("has_times", [True, False])
def test_data_without_labels_open_in_color_and_are_explored(has_times):
    found = seen_embeddings()
    bare = found.scenes.drop(columns="label")
    bare["label"] = None
    if not has_times:
        bare["time"] = pd.NaT
    seen = EmbeddingExplorer(Embeddings(found.vectors, bare))
    assert seen.color == ("month" if has_times else "")
    assert "label" not in [c["name"] for c in seen.columns] and "neighbor purity" not in seen.lazy
    ask(seen, "similar", row=0)
    assert seen.answer["rows"][0] == 0 and not seen.is_error


def test_a_thousand_classes_and_odd_words():
    odd = ("<script>alert(1)</script>", "say \"hi\" & 'bye'", "🌍 emoji", "森林", "x" * 300)
    found = seen_embeddings(places=1000)
    names = [*odd, *(f"class {i}" for i in range(995))]
    found.scenes["label"] = np.array(names, dtype=object)[found.scenes["location"]]
    seen = EmbeddingExplorer(found)
    meaning = column(seen, "label")[1]
    assert meaning["distinct"] == 1000 and meaning["entries"][-1]["text"] == "981 others"
    answer, _ = ask(seen, "pictures", rows=np.flatnonzero(found.scenes["location"] < 5).tolist())
    for word in odd:
        assert any(text.endswith(word) for text in answer["words"])


def test_neighbors_in_common_are_those_of_a_slow_loop():
    one, two = seen_embeddings(places=40), seen_embeddings(places=40, seed=1)
    other = Embeddings(0.7 * one.vectors + 0.6 * two.vectors, one.scenes)
    seen = EmbeddingExplorer(one, other=other)
    first, second = (neighbors(e, np.arange(80), k=10)[0] for e in (one, other))
    want = [len(set(a) & set(b)) / 10 for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(seen.values["neighbors in common"], want)
    assert seen.color == "neighbors in common" and 0 < np.mean(want) < 1


def test_own_labels_teach_a_probe_and_are_saved_and_restored(tmp_path):
    found = seen_embeddings()
    seen = EmbeddingExplorer(found)
    north = found.scenes["lat"].to_numpy() > 0
    ask(seen, "label", rows=np.flatnonzero(north)[:8].tolist(), name="up")
    assert seen.labels["counts"] == [8] and "predicted" not in seen.values
    ask(seen, "label", rows=np.flatnonzero(~north)[:8].tolist(), name="down")
    assert seen.labels["names"] == ["up", "down"] and seen.color == "predicted"
    predicted = np.array(words(seen, "predicted"))
    assert (predicted == np.where(north, "up", "down")).mean() > 0.9
    assert "labeled locations held out" in seen.labels["note"]
    ask(seen, "uncertain")
    confidence = seen.values["confidence"].to_numpy()
    asked = seen.answer["rows"]
    assert (np.diff(confidence[asked]) >= 0).all() and len(asked) == 32
    assert seen.labeled["my_label"].isna().to_numpy()[asked].all()
    ask(seen, "save_labels", path=str(tmp_path / "labels.csv"))
    again = EmbeddingExplorer(found, labels=tmp_path / "labels.csv")
    assert again.labeled["my_label"].equals(seen.labeled["my_label"])
    ask(seen, "undo")
    assert seen.labels["names"] == ["up"] and "predicted" not in seen.values
    ask(seen, "label", rows=[], name="up")
    assert seen.is_error and "Choose one, or draw a box" in seen.status


def test_more_like_these_and_less_like_those():
    found = seen_embeddings()
    seen = EmbeddingExplorer(found)
    ask(seen, "like", rows=[2, 5], like=True)
    ask(seen, "like", rows=[9], like=False)
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    score = (unit[2] + unit[5]) @ unit.T / 2 - unit[9] @ unit.T
    want = [i for i in np.argsort(-score) if i not in (2, 5, 9)][:32]
    assert seen.answer["rows"] == want
    assert seen.answer["note"] == "Like 2 images, unlike 1, the best first."


def test_a_dropped_picture_finds_its_chip(tmp_path):
    store = write_store(tmp_path / "chips")
    encoder = with_bands(load_encoder("blue_marble"), store.bands, reads=store.bands)
    found = embed(store, encoder)
    seen = EmbeddingExplorer(found, store=store, encoder=encoder)
    file = io.BytesIO()
    Image.fromarray(store.gather([7])[0].numpy().transpose(1, 2, 0)).save(file, "PNG")
    ask(seen, "image", [file.getvalue()], name="mine.png")
    vector = embed_picture(file.getvalue(), "mine.png", encoder, store)
    np.testing.assert_allclose(vector, found.vectors[7], atol=1e-4)
    assert 7 in seen.answer["rows"][:2] and seen.answer["captions"][0] == "1.00"
    assert "most similar to mine.png" in seen.answer["note"]
    ask(seen, "image", [b"no picture"], name="notes.txt")
    assert seen.is_error and "notes.txt is no picture that can be read" in seen.status
    with pytest.raises(ValueError, match="`encoder` needs `store`"):
        EmbeddingExplorer(found, encoder=encoder)


def test_a_search_finds_locations_clusters_and_coordinates():
    found = seen_embeddings()
    clusters = GeoClusters.fit(found.scenes, k=4)
    seen = EmbeddingExplorer(found, clusters=clusters)
    ask(seen, "search", text="17")
    assert seen.answer["rows"] == [34, 35] and seen.answer["view"] == [34, 35]
    ask(seen, "search", text="cluster 2")
    number = clusters.assign(found.scenes["lon"], found.scenes["lat"])
    assert set(number[seen.answer["rows"]]) == {2}
    place = found.scenes.iloc[20]
    ask(seen, "search", text=f"{place['lat']:.4f}, {place['lon']:.4f}")
    assert seen.answer["rows"][0] == 20 and seen.answer["captions"][0] == "0.0 km"


def test_a_search_for_what_is_not_there_says_so():
    found = seen_embeddings()
    bare, seen = (
        EmbeddingExplorer(found),
        EmbeddingExplorer(found, clusters=GeoClusters.fit(found.scenes, k=4)),
    )
    for explorer, text, wanted in [
        (bare, "cluster 1", "There are no geo clusters"), (seen, "cluster 99", "they are 0 to 3"),
        (seen, "cluster \u00b2", "must name a place"), (seen, "", "must name a place"),
        (EmbeddingExplorer(seen_embeddings(lon=np.nan, lat=np.nan)), "1, 1", "No image has"),
    ]:  # fmt: skip
        ask(explorer, "search", text=text)
        assert explorer.is_error and wanted in explorer.status and not explorer.answer.get("rows")


def test_a_date_is_a_day_and_images_without_one_have_none():
    hours = pd.to_datetime(["2020-05-01 09:00", "2020-05-01 11:00", "2021-05-01 09:00", None] * 5)
    scenes = table(10).assign(time=hours.tz_localize("UTC"))
    seen = EmbeddingExplorer(Embeddings(np.eye(20, 4, dtype=np.float32) + 1, scenes))
    for dates, row, kinds in [("the same date", 0, {0, 1}), ("other dates", 0, {0, 2}),
                              ("the same date", 3, {3}), ("other dates", 3, {3})]:  # fmt: skip
        seen.dates = dates
        ask(seen, "similar", row=row)
        assert {r % 4 for r in seen.answer["rows"]} == kinds and not seen.is_error


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pd.to_timedelta([1, 2, 3, None], unit="D"), ["1 days", "2 days", "3 days", "no value"]),
        ([b"a", b"b", b"a", None], ["b'a'", "b'b'", "no value"]),
        ([1 + 1j, 2, 2, 1 + 1j], ["(1+1j)", "(2+0j)"]),
        (["", " ", "b", None], ["(empty)", "b", "no value"]),
        ([True, 1.5, "x", None], ["1.5", "True", "x", "no value"]),
    ],
)
def test_categories_of_odd_types_keep_their_words(values, texts):
    found = seen_embeddings(odd=pd.Series(list(values) * 30, dtype=None))
    shown = [e["text"] for e in column(EmbeddingExplorer(found), "odd")[1]["entries"]]
    assert [text.removesuffix(" 00:00:00") for text in shown] == texts


def test_numbers_as_large_as_floats_go_have_bins():
    found = seen_embeddings(
        odd=np.resize([-1.7e308, 0.0, 1.7e308], 120), one=np.resize([1e30], 120)
    )
    codes, meaning = column(EmbeddingExplorer(found, label="odd"), "odd")
    assert codes[:3].tolist() == [0, 32, 63] and "nan" not in meaning["edges"]
    codes, meaning = column(EmbeddingExplorer(found, label="one"), "one")
    assert set(codes) == {0} and meaning["edges"][0] == "1e+30"


def test_places_that_changed_most_are_shown_by_their_two_dates():
    found = seen_embeddings()
    vectors = found.vectors.copy()
    vectors[11] = -vectors[10]  # one place turns around
    seen = EmbeddingExplorer(Embeddings(vectors, found.scenes))
    ask(seen, "changed")
    assert sorted(seen.answer["rows"][:2]) == [10, 11]
    assert seen.values["change"].iloc[[10, 11]].nunique() == 1
    assert seen.values["change"].idxmax() in (10, 11)


def test_a_saved_page_is_data_and_script_apart(tmp_path):
    found = seen_embeddings()
    found.scenes["label"] = "</script><script>alert(1)</script>"
    seen = EmbeddingExplorer(found)
    seen.save(tmp_path / "explorer.html", title="<b>mine</b>")
    text = (tmp_path / "explorer.html").read_text("utf-8")
    assert "alert(1)" in text and "<script>alert" not in text and "&lt;b&gt;mine" in text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    with pytest.raises(ValueError, match=r"must be one of \['.html'\], got '.png'"):
        seen.save(tmp_path / "explorer.png")


@pytest.mark.parametrize("name", ["300 m", "400 km over 180", "near the pole", "world"])
def test_the_linked_map_shows_the_area_of_its_places(name):
    scenes = scenes_of(name)
    seen = EmbeddingExplorer(Embeddings(np.eye(50, 4, dtype=np.float32) + 1, scenes))
    place, rest = (
        np.frombuffer(text, "<f4").reshape(-1, 2).astype(float)
        for text in (seen.place, seen.place_rest)
    )
    exact = place + rest
    turns = (exact[:, 0] - scenes["lon"]) / 360
    np.testing.assert_allclose(turns, turns.round(), atol=1e-10)
    np.testing.assert_allclose(exact[:, 1], scenes["lat"], rtol=0, atol=1e-9)
    left, bottom, right, top = seen.region
    assert ((left < exact[:, 0]) & (exact[:, 0] < right)).all()
    assert ((bottom < exact[:, 1]) & (exact[:, 1] < top)).all()
    assert np.ptp(exact, axis=0) @ [1, 0] > (right - left) * (0.8 if name != "world" else 0.5)
