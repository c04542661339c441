"""Clusters of several centers: merged, split, nested, by density; and what to choose them by."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from shapely import Point, union_all
from test_clusters import places
from test_pretrain import TINY, write_store

from geossl import geo, pretrain
from geossl.clusters import (
    GeoClusters,
    balance,
    group_by_density,
    match_clusters,
    measure,
    measure_k,
)
from geossl.clusters.space import condense, group_centers
from geossl.embeddings import Embeddings
from geossl.evaluate import place_information


def clumps(seed=0, around=((10, 50), (179.9, -40), (-70, 5)), noise=30):
    """Crowds of 60 locations within some km, and some lonely ones."""
    rng = np.random.default_rng(seed)
    spots = np.concatenate([np.array(c) + rng.normal(0, 0.05, (60, 2)) for c in around])
    lonely = np.column_stack([rng.uniform(-180, 180, noise), rng.uniform(-60, 60, noise)])
    lon, lat = np.concatenate([spots, lonely]).T
    table = pd.DataFrame({"location": np.arange(len(lon)), "lon": geo.wrap_lon(lon), "lat": lat})
    return table, np.repeat([0, 1, 2, -1], [60, 60, 60, noise])


def check_cells(clusters, probes):
    """Check that cells cover the world once, and hold the positions that are assigned to them."""
    cells, own = clusters.cells(), clusters.assign(probes["lon"], probes["lat"])
    for lon, lat, i in zip(probes["lon"], probes["lat"], own, strict=True):
        assert cells[i].distance(Point(lon, lat)) < 0.05
    assert union_all(cells).area == pytest.approx(360 * 180, rel=1e-3)
    assert sum(cell.area for cell in cells) == pytest.approx(360 * 180, rel=2e-3)


@pytest.mark.parametrize("on", ["sphere", "degrees"])
def test_merging_and_splitting_leave_all_other_clusters_as_they_are(on, tmp_path):
    table, probes = places(400), places(300, seed=1)
    before = GeoClusters.fit(table, k=12, seed=0, on=on)
    was = before.assign(probes["lon"], probes["lat"])
    merged = before.merge([7, 2, 4])
    number = np.array([0, 1, 2, 3, 2, 4, 5, 2, 6, 7, 8, 9])
    assert np.array_equal(merged.assign(probes["lon"], probes["lat"]), number[was])
    assert merged.sizes.sum() == 400 and merged.sizes[2] == before.sizes[[2, 4, 7]].sum()
    area = union_all([before.cells()[i] for i in (2, 4, 7)]).area
    assert merged.cells()[2].area == pytest.approx(area, rel=1e-6)
    split = merged.split(table, cluster=2, k=3, seed=0)  # of a cluster in several pieces
    now, then = split.assign(probes["lon"], probes["lat"]), number[was]
    assert np.array_equal(now[then != 2], then[then != 2])
    assert set(now[then == 2]) == {2, 10, 11} and split.k == 12
    inside = merged.assign(table["lon"], table["lat"]) == 2
    parts = GeoClusters.fit(table[inside], k=3, seed=0, on=on).assign(table["lon"], table["lat"])
    want = np.array([2, 10, 11])[parts[inside]]
    assert np.array_equal(split.assign(table["lon"], table["lat"])[inside], want)
    twice = split.split(table, cluster=10).merge([0, 10])
    for clusters in (merged, split, twice):
        check_cells(clusters, probes)
        assert (
            clusters.sizes.tolist()
            == np.bincount(
                clusters.assign(table["lon"], table["lat"]), minlength=clusters.k
            ).tolist()
        )
        clusters.save(tmp_path / "c.json")
        back = GeoClusters.load(tmp_path / "c.json")
        for field in dataclasses.fields(clusters):
            assert np.array_equal(getattr(back, field.name), getattr(clusters, field.name))
        clusters.to_csv(tmp_path / "c.csv", table)
        written = pd.read_csv(tmp_path / "c.csv")["cluster"]
        assert np.array_equal(written, clusters.assign(table["lon"], table["lat"]))
        cells, colors = clusters.cells(), clusters.colors()
        for i, j in zip(*np.triu_indices(clusters.k, 1), strict=True):
            assert cells[i].intersection(cells[j]).length < 0.5 or colors[i] != colors[j]


def test_a_file_of_plain_clusters_is_as_it_was(tmp_path):
    clusters = GeoClusters.fit(places(50), k=5, seed=0)
    clusters.save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    assert set(content) == {"format", "on", "centers", "sizes"} and content["format"] == 1
    for change, words in (
        ({"cluster_of": [0, 1, 2, 3, 3]}, "`cluster_of` must be from 0 to 4"),
        ({"cluster_of": [0, 1]}, "`cluster_of` must be 5 integers"),
        ({"parent": [0, -1, -1, -1, -1]}, "`parent` must be -1 or the row of an earlier"),
        ({"parent": [-1, 0, -1, -1, -1]}, "`cluster_of` must be from 0 to 4"),
    ):
        (tmp_path / "c.json").write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=words):
            GeoClusters.load(tmp_path / "c.json")


def test_levels_are_nested_and_grouped_as_ward_does():
    table = places(500)
    levels = GeoClusters.hierarchy(table, k=(3, 30, 10), seed=0)
    assert [level.k for level in levels] == [3, 30, 10]
    fine = GeoClusters.fit(table, k=30, seed=0)
    assert np.array_equal(levels[1].assign(table["lon"], table["lat"]),
                          fine.assign(table["lon"], table["lat"]))  # fmt: skip
    for coarse, finer in ((levels[0], levels[2]), (levels[2], levels[1])):
        pairs = {*zip(finer.assign(table["lon"], table["lat"]),
                      coarse.assign(table["lon"], table["lat"]), strict=True)}  # fmt: skip
        assert len(pairs) == finer.k  # each lies in one
        assert coarse.sizes.sum() == 500
    points = np.random.default_rng(0).normal(size=(40, 3))
    for k, groups in zip((2, 5, 17), group_centers(points, np.ones(40), (2, 5, 17)), strict=True):
        wanted = fcluster(linkage(points, "ward"), k, "maxclust")
        assert len({*zip(groups, wanted, strict=True)}) == k
    # a center of weight three is three centers on one spot
    heavy = group_centers(points, np.r_[3, np.ones(39)], (6,))[0]
    spots = np.concatenate([points[:1], points[:1], points])
    wanted = fcluster(linkage(spots, "ward"), 6, "maxclust")[2:]
    assert len({*zip(heavy, wanted, strict=True)}) == 6


def test_clumps_are_found_and_noise_is_with_the_nearest():
    table, known = clumps()
    groups = group_by_density(table["lon"], table["lat"], min_size=20)
    for i in (0, 1, 2):  # one of them lies on both sides of the antimeridian
        assert len(set(groups[known == i]) - {-1}) == 1
    assert (groups[known == -1] == -1).mean() > 0.6 and groups.max() == 2
    clusters = GeoClusters.fit_density(table, min_size=20)
    own = clusters.assign(table["lon"], table["lat"])
    assert clusters.k == 3 and clusters.sizes.sum() == len(table)
    inside = np.flatnonzero(groups >= 0)
    assert len({*zip(own[inside], groups[inside], strict=True)}) == 3
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    away = geo.great_circle_km(lon[:, None], lat[:, None], lon[inside], lat[inside])
    assert np.array_equal(own, own[inside][away.argmin(1)])
    check_cells(clusters, places(100, seed=3))
    with pytest.raises(ValueError, match="`min_size` = 50 finds no clump among 30 loc.* Lower it"):
        GeoClusters.fit_density(table[known < 0], min_size=50)


@pytest.mark.parametrize("on", ["sphere", "degrees"])
@pytest.mark.parametrize("town", [None, (10, 50)])
def test_few_centers_say_who_is_nearest(on, town):
    table = places(600, town=town)
    groups = GeoClusters.fit(table, k=5, seed=0, on=on).assign(table["lon"], table["lat"])
    clusters = GeoClusters.from_groups(table["lon"], table["lat"], groups, on=on)
    assert len(clusters.centers) < 300
    probes = places(300, seed=1, town=town)
    points, own = clusters._points(), geo.unit_vectors(table["lon"], table["lat"])
    if on == "degrees":
        own = table[["lon", "lat"]].to_numpy()
    kept = condense(own, groups, on)
    assert len(kept) == len(points)
    asked = geo.unit_vectors(probes["lon"], probes["lat"])
    asked = asked if on == "sphere" else probes[["lon", "lat"]].to_numpy()
    nearest = ((asked[:, None] - own) ** 2).sum(2).argmin(1)
    number = clusters.assign(table["lon"], table["lat"])
    assert np.array_equal(clusters.assign(probes["lon"], probes["lat"]), number[nearest])
    assert len({*zip(number, groups, strict=True)}) == 5


def test_balance_purity_and_chance_by_hand():
    assert balance([4, 4]) == 1 and balance([9]) == 1 and balance([7, 0]) == 0
    assert balance([3, 1]) == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))
    table = places(400).assign(label=lambda t: np.where(t["lat"] > 0, "north", "south"))
    table.loc[:20, "label"] = None
    clusters = GeoClusters.fit(table, k=20, seed=0)
    got, rows = measure(clusters, table, permutations=20), clusters.purity(table)
    known = rows[rows["size"] > 0]
    for name in ("purity", "entropy_bits"):
        assert got[name] == pytest.approx(np.average(known[name], weights=known["size"]))
    # labels that are dealt out at random in clusters of 20 are pure by about .59, not .5
    assert 0.5 < got["purity_chance"] < 0.65 < got["purity"]
    assert got["entropy_bits"] < got["entropy_bits_chance"] <= 1
    assert got["balance"] == pytest.approx(balance(clusters.sizes))
    random = table.assign(label=np.random.default_rng(1).permutation(table["label"]))
    chance = measure(clusters, random, permutations=20)
    assert chance["purity"] == pytest.approx(chance["purity_chance"], abs=0.03)
    curve = measure_k(table, k=(20, 3, 900), permutations=20)
    assert curve["k"].tolist() == [3, 20] and curve.iloc[1]["purity"] == got["purity"]
    bare = measure_k(table.drop(columns="label"), k=(2, 8))
    assert bare["purity"].isna().all() and bare["mean_km"].is_monotonic_decreasing
    alone = measure(GeoClusters.fit(table[:1], k=1), table[:1])
    assert alone["mean_km"] == pytest.approx(0, abs=1e-6)


def test_a_renumbered_clustering_changes_nothing_and_degrees_change_the_antimeridian():
    table = places(500)
    one = GeoClusters.fit(table, k=9, seed=0)
    turned = dataclasses.replace(one, centers=one.centers[::-1].copy(), sizes=one.sizes[::-1])
    found = match_clusters(one, turned, table)
    assert not found["changed"].any() and (found["second"] == 8 - found["first"]).all()
    fewer = match_clusters(one, one.merge([0, 1]), table)
    assert fewer["changed"].sum() == one.sizes[[0, 1]].min()
    lon = np.concatenate([np.linspace(176, 180, 21)[:20], np.linspace(-180, -176, 20), [0.0] * 20])
    table = pd.DataFrame({"location": range(60), "lon": lon, "lat": np.tile(range(20), 3)})
    sphere, degrees = (GeoClusters.fit(table, k=2, on=on) for on in ("sphere", "degrees"))
    changed = match_clusters(sphere, degrees, table)["changed"]
    assert changed[:40].sum() == 20 and not changed[40:].any()


def test_pretraining_takes_clusters_of_every_kind(tmp_path):
    store = write_store(tmp_path / "chips")
    plain = GeoClusters.fit(store.scenes, k=4)
    kinds = {"plain": plain, "merged": plain.merge([0, 1]),
             "split": plain.split(store.scenes, cluster=int(plain.sizes.argmax())),
             "nested": GeoClusters.hierarchy(store.scenes, k=(2, 4))[0]}  # fmt: skip
    kinds["groups"] = GeoClusters.from_groups(
        store.scenes["lon"], store.scenes["lat"], store.scenes["location"] % 3
    )
    settings = set()
    for name, clusters in kinds.items():
        clusters.save(tmp_path / f"{name}.json")
        run = pretrain(store, pairs=None, geo=GeoClusters.load(tmp_path / f"{name}.json"),
                       config=TINY, seed=0)  # fmt: skip
        next(iter(run))
        objective = next(o for o in run.objectives if o.name == "geo")
        assert objective.num_classes == clusters.k
        assert objective.prepare(store.scenes).max() < clusters.k
        settings.add(json.dumps(objective.settings))
    assert len(settings) == 5  # a run does not resume with other regions


def test_place_explains_embeddings_that_are_places_and_not_random_ones():
    table = pd.concat([places(200)] * 2, ignore_index=True)
    clusters, rng = GeoClusters.fit(table, k=6, seed=0), np.random.default_rng(0)
    own = clusters.assign(table["lon"], table["lat"])
    spots = Embeddings(np.eye(6)[own] + rng.normal(0, 0.05, (400, 6)), table)
    found = place_information(spots, clusters, seed=0)
    assert found.ami == pytest.approx(1) and len(found.groups) == 200
    assert abs(found.chance) < 0.02
    noise = Embeddings(rng.normal(size=(400, 6)), table)
    assert abs(place_information(noise, clusters).ami) < 0.05
    with pytest.raises(ValueError, match="`k` must be <= 200, the number of distinct embed.* 201"):
        place_information(noise, clusters, k=201)
