import numpy as np
import pytest
from vectors import embeddings

from geossl import evaluate
from geossl.embeddings import Embeddings


@pytest.mark.parametrize("key", ["last", "other"])
def test_same_location_is_recall_by_brute_force(key):
    found = embeddings(places=40, dates=3, noise=0.3)
    table = found.scenes
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    date = np.tile([0, 1, 2], 40)
    gallery = np.flatnonzero(date == 2 if key == "last" else date > 0)
    location = table["location"].to_numpy()
    hits = {1: [], 5: []}
    for query in np.flatnonzero(date == 0):
        order = gallery[np.argsort(-(unit[gallery] @ unit[query]))]
        for k, list_ in hits.items():
            list_.append(location[query] in location[order[:k]])
    result = evaluate.same_location(found, key=key)
    assert result.value == pytest.approx(np.mean(hits[1]))
    assert result.more["recall@5"] == pytest.approx(np.mean(hits[5]))
    assert result.chance == pytest.approx((1 if key == "last" else 2) / len(gallery))
    assert 0 < result.value < 1


def test_centering_takes_out_what_a_date_does_to_all():
    found = embeddings(places=60, noise=0.05)
    shift = np.where(np.tile([0, 1], 60)[:, None] == 1, 30.0, 0.0) * np.eye(6)[0]
    moved = Embeddings((found.vectors + shift).astype(np.float32), found.scenes)
    plain, centered = (evaluate.same_location(moved, center_dates=c).value for c in (False, True))
    assert plain < 0.5 < 0.9 < centered
