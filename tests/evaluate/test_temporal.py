import numpy as np
import pytest
from vectors import embeddings

from geossl import evaluate
from geossl.embeddings import Embeddings


def test_temporal_sums_the_probabilities_of_a_place():
    single = evaluate.linear(embeddings(dates=4, noise=3.0))
    places = evaluate.temporal(single)
    seen = single.predictions
    names = np.array(single.classes.index)
    hits = []
    for place, part in seen.groupby("location", sort=False):
        guess = names[single.probabilities[part.index].sum(0).argmax()]
        line = places.predictions[places.predictions["location"] == place].iloc[0]
        assert (line["predicted"], line["images"], line["row"]) == (guess, 4, part["row"].iloc[0])
        hits.append(guess == part["truth"].iloc[0])
    assert places.value == np.mean(hits) and places.n_test == len(hits)
    assert places.value > single.value + 0.05 and places.low < places.value < places.high
    assert "images per location 4" in str(places)
    assert places.all_metrics(resamples=5)["value"].iloc[0] == places.value


def test_temporal_refuses_what_it_cannot_sum():
    found = embeddings()
    with pytest.raises(
        ValueError,
        match="`result` must come .* one class per chip.*got 'same loc",
    ):
        evaluate.temporal(evaluate.same_location(found))
    table = found.scenes.assign(label=np.tile(["a", "b"], 120))
    with pytest.raises(ValueError, match="one class per location .* 30 locations have several"):
        evaluate.temporal(evaluate.knn(Embeddings(found.vectors, table)))
