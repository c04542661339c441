"""Pictures of any bands: which are red, green and blue, and how dark ones are brightened."""

import numpy as np
import pandas as pd
import pytest

from geossl.data.natural_color import Stretch, named_colors, shown_bands
from geossl.data.readers import FunctionReader, register_reader
from geossl.data.store import ChipStore, fields_of


@pytest.mark.parametrize(
    ("names", "bands"),
    [
        (["red", "green", "blue", "nir"], [0, 1, 2]),
        (["Blue (490 nm)", "Green", "Red", "Red edge 1", "NIR"], [2, 1, 0]),
        (["coastal blue", "blue", "green", "red"], [3, 2, 1]),
        (["B01", "B02", "B03", "B04", "B8A"], [3, 2, 1]),
        (["SR_B2", "SR_B3", "SR_B4", "SR_B5"], [2, 1, 0]),
        (["B12", "B8A", "B4"], []),
        (["red edge", "green", "blue"], []),
        (["infrared", "green", "blue"], []),
    ],
)
def test_colors_are_found_by_their_names(names, bands):
    assert named_colors(names) == bands
    assert shown_bands(names) == (bands or [0, 1, 2])


def test_numbered_bands_of_sentinel_2_are_known_and_several_are_never_gray():
    numbered = {n: shown_bands([f"band_{i + 1}" for i in range(n)]) for n in range(1, 15)}
    assert numbered[12] == numbered[13] == [3, 2, 1] and numbered[10] == [2, 1, 0]
    assert numbered[1] == [0] and numbered[2] == [0, 1, 0]
    assert all(numbered[n] == [0, 1, 2] for n in (3, 4, 5, 6, 7, 8, 9, 11, 14))
    assert shown_bands(["vv", "vh"]) == [0, 1, 0]


def test_a_stretch_is_linear_where_nothing_hides_the_rest():
    pixels = np.stack([np.arange(1001.0), 5 * np.arange(1001.0)])
    stretch = Stretch.fit(pixels)
    assert stretch.gamma == 1
    picture = stretch.apply(pixels[:, None])
    expected = np.clip((np.arange(1001) - 20) / 960, 0, 1) * 255
    assert picture.dtype == np.uint8 and np.abs(picture[:, 0] - expected).max() <= 0.5
    flat = Stretch.fit(np.full((3, 9), 7.0))
    assert (flat.apply(np.full((3, 2, 2), 7.0)) == 0).all()


def test_snow_in_some_chips_does_not_make_the_others_black():
    rng = np.random.default_rng(0)
    land = rng.uniform(300, 1500, (3, 900))
    snow = rng.uniform(8000, 12000, (3, 100))
    stretch = Stretch.fit(np.concatenate([land, snow], axis=1))
    seen = stretch.apply(land[:, None])
    assert stretch.gamma < 1 and 60 < np.median(seen) < 140
    assert np.ptp(seen) > 60 and (np.diff(seen[0, 0, np.argsort(land[0])].astype(int)) >= 0).all()


def test_a_store_of_twelve_bands_shows_natural_color(tmp_path):
    rng = np.random.default_rng(0)
    reflectance = rng.integers(300, 1500, (20, 12, 8, 8)).astype(np.uint16)
    reflectance[:2] += 8000  # snow
    table = pd.DataFrame({"location": range(20), "lon": 0.0, "lat": 0.0})

    def read(rows, *, size_px):
        return reflectance[rows["location"]]

    register_reader("twelve_bands", FunctionReader(read))
    table = table.assign(path="-", reader="twelve_bands")
    store = ChipStore.build(tmp_path / "store", table, size_px=8, progress=False)
    assert store.rgb == [3, 2, 1]
    seen = store.preview(np.arange(20))
    assert 60 < np.median(seen[2:]) < 140
    order = np.argsort(reflectance[2:, 3], axis=None)
    assert (np.diff(seen[2:, ..., 0].ravel()[order].astype(int)) >= 0).all()
    older = fields_of(store.info | {"rgb": [0, 1, 2]})  # as version 0.1 wrote it
    assert older["rgb"] == [3, 2, 1]


def test_a_store_of_two_bands_is_not_gray(tmp_path):
    radar = np.random.default_rng(0).integers(0, 255, (4, 2, 8, 8), dtype=np.uint8)
    read = FunctionReader(lambda rows, *, size_px: radar[rows["location"]])
    register_reader("radar", read)
    table = pd.DataFrame({"location": range(4), "lon": 0.0, "lat": 0.0, "path": "-"})
    store = ChipStore.build(
        tmp_path / "radar", table.assign(reader="radar"), size_px=8, progress=False
    )
    assert store.rgb == [0, 1, 0]
    assert np.array_equal(store.preview([1])[0, ..., 1], radar[1, 1])
