import re

import numpy as np
import pytest
from vectors import RNG, embeddings

from geossl import evaluate


def test_leakage_is_the_distance_by_brute_force():
    from geossl.geo import great_circle_km

    found = embeddings(places=90)
    rng = RNG(0)
    at = {"lon": rng.uniform(-180, 180, 90), "lat": np.degrees(np.arcsin(rng.uniform(-1, 1, 90)))}
    at["lon"][:2], at["lat"][:2] = [179.9, -179.9], [10, 10]  # 22 km over the antimeridian
    table = found.scenes.assign(**{k: v[found.scenes["location"]] for k, v in at.items()})
    split = table["split"].copy()
    split[table["location"] == 0], split[table["location"] == 1] = "test", "train"
    split[table["location"] == 2] = ["train", "test"]  # a place in both
    report = evaluate.leakage(table, split=split)
    first = table.assign(split=split).drop_duplicates(["location", "split"])
    test, train = (first[first["split"] == name] for name in ("test", "train"))
    far = great_circle_km(
        test["lon"].to_numpy()[:, None], test["lat"].to_numpy()[:, None],
        train["lon"].to_numpy(), train["lat"].to_numpy(),
    )  # fmt: skip
    places = report.locations.set_index("location")
    assert places["km"][test["location"]].tolist() == pytest.approx(far.min(1).tolist())
    want = train["location"].to_numpy()[far.argmin(1)]
    assert places["nearest"][test["location"]].tolist() == want.tolist()
    assert places["nearest"][0] == 1 and places["km"][0] == pytest.approx(21.9, abs=0.1)
    assert places["km"][2] == 0 and report.n_shared == 1 and report.n_train == len(train)
    assert report.share_below(100) == pytest.approx((far.min(1) < 100).mean())
    assert report.quantiles()[0.5] == pytest.approx(np.median(far.min(1)))
    words = (
        f"{len(test)} test locations .* nearest of {len(train)} training locations: "
        ".*1 locations are"
    )

    assert re.search(words, str(report)), str(report)


def test_leakage_of_blocks_and_of_tables_it_cannot_measure():
    found = embeddings()
    apart = evaluate.leakage(found, split="blocks", block_deg=30.0)
    assert apart.n_shared == 0 and apart.share_below(1) == 0 and "in both" not in str(apart)
    with pytest.raises(ValueError, match="must have coordinates in every row for distances"):
        evaluate.leakage(found.scenes.assign(lon=np.nan))
    with pytest.raises(ValueError, match="No row of split 'test'"):
        evaluate.leakage(found.scenes.assign(split="train"))
