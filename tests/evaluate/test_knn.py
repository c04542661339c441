import numpy as np
import pandas as pd
from vectors import embeddings

from geossl import evaluate


def test_knn_is_a_weighted_vote():
    found = embeddings()
    table = found.scenes
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    train, test = (np.flatnonzero(table["split"] == s) for s in ("train", "test"))
    result = evaluate.knn(found, k=7)
    for row, guess in zip(test, result.predictions["predicted"], strict=True):
        similar = unit[train] @ unit[row]
        near = np.argsort(-similar)[:7]
        votes = pd.Series(np.exp(similar[near] / 0.07)).groupby(
            table["label"].to_numpy()[train][near]
        )
        assert guess == votes.sum().idxmax()
