import numpy as np
import pandas as pd
import pytest
from fmow_folders import square

from geossl.datasets.shared.table import draw_split, footprint_centers


@pytest.mark.parametrize(
    ("shape", "lon", "lat"),
    [
        (square(180 - 0.005, 3).replace("180.005", "-179.995"), 179.995, 3),
        (square(-179.999, 3).replace("-180.009", "179.991"), -179.999, 3),
        (square(0, 3).replace("-0.01", "359.99"), 0, 3),
        (square(200, 3), 200, 3),
        ("point(3 4)", 3, 4),
        ("MULTIPOLYGON (((1 1, 3 1, 3 3, 1 3, 1 1)))", 2, 2),
        ("POLYGON ((5 5, 5 5, 5 5, 5 5))", 5, 5),
        ("POLYGON ((0 0, 3 0, 0 3, 0 0))", 1, 1),
        ("POINT EMPTY", np.nan, np.nan),
        ("LINESTRING (1 1, 2 2)", np.nan, np.nan),
        ("", np.nan, np.nan),
        (None, np.nan, np.nan),
    ],
)
def test_middles_of_shapes(shape, lon, lat):
    found = footprint_centers(pd.Series([square(7, 8), shape, square(-7, 8)]))
    np.testing.assert_allclose(found[0], [7, lon, -7], atol=1e-6)
    np.testing.assert_allclose(found[1], [8, lat, 8], atol=1e-6)


def test_a_location_keeps_its_drawn_split():
    names = pd.Series([f"img{i}" for i in range(4_000)]).repeat(2)
    split = draw_split(names, test_share=0.28)
    assert abs(split.eq("test").mean() - 0.28) < 0.03 and set(split) == {"train", "test"}
    assert split.groupby(names).nunique().max() == 1
    some = names.sample(50, random_state=0)
    assert (
        draw_split(some, test_share=0.28).tolist()
        == split[~split.index.duplicated()][some.index].tolist()
    )
    wider = draw_split(names, test_share=0.5)
    assert wider[split.eq("test")].eq("test").all()  # a larger share keeps those of a smaller one
    assert draw_split(names, test_share=0) is None
    assert draw_split(names, test_share=1).eq("test").all()
