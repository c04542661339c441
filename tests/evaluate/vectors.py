"""Embeddings with known clusters, for the tests of the probes."""

import numpy as np
import pandas as pd

from geossl.embeddings import Embeddings

RNG = np.random.default_rng


def embeddings(places=120, dates=2, classes=3, width=6, noise=1.0, seed=0):
    """Vectors around one center per class, and one offset per place."""
    rng = RNG(seed)
    label = np.arange(places) % classes
    centers = rng.normal(0, 1, (classes, width))
    own = centers[label] + rng.normal(0, 0.4, (places, width))
    location = np.repeat(np.arange(places), dates)
    split = np.array(["train", "train", "val", "test"])[(np.arange(places) // classes) % 4]
    times = pd.to_datetime("2020-01-01", utc=True) + pd.to_timedelta(
        np.tile(np.arange(dates) * 50, places), "D"
    )
    vectors = own[location] + noise * rng.normal(0, 1, (places * dates, width))
    table = pd.DataFrame({
        "location": location, "lon": location % 60 * 5.0 - 150, "lat": location // 60 * 40.0 - 60,
        "time": times, "label": np.array(list("abcdefgh"))[label][location],
        "split": split[location],
    })  # fmt: skip
    return Embeddings(vectors.astype(np.float32), table)


def rows(found, name):
    return np.flatnonzero(found.scenes["split"] == name)


def standard(found, train):
    part = found.vectors[train].astype(float)
    return (found.vectors - part.mean(0)) / part.std(0)


def without_class_in_training(found, name="b"):
    table = found.scenes.copy()
    table.loc[(table["label"] == name) & (table["split"] != "test"), "label"] = None
    return Embeddings(found.vectors, table)


def multi(places=90, seed=0):
    """Vectors whose signs say which of three labels a chip has, with noise."""
    found = embeddings(places=places, noise=1.0, seed=seed)
    has = found.vectors[:, :3] + RNG(seed + 1).normal(0, 1, (len(found), 3)) > 0
    labels = ["|".join(np.array(["sea", "ice", "wood"])[row]) for row in has]
    return Embeddings(found.vectors, found.scenes.assign(labels=labels))
