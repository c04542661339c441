import numpy as np
import pandas as pd
import pytest
from fmow_folders import square

from geossl.datasets.shared.table import footprint_centers


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
