import pandas as pd
import pytest

from geossl.datasets.raster import chips as images
from geossl.datasets.raster.window import pixel_info


@pytest.mark.parametrize(
    ("names", "rgb"),
    [
        ("Red Green Blue", [0, 1, 2]),
        ("nir red green blue", [1, 2, 3]),
        ("B01 B02 B03 B04 B05", [3, 2, 1]),
        ("B1 B2 B3 B4 B8A", [3, 2, 1]),
        ("b02 b03 b04", [2, 1, 0]),
        ("B04 B03 B02 red green blue", [3, 4, 5]),
        ("B05 B8A B02 B03", [0, 1, 2]),  # no B04
        ("B40 B30 B20", [0, 1, 2]),
        ("B12 B13 B14 B4", [0, 1, 2]),
        ("VV VH", [0, 1, 0]),
        ("swir nir red green", [0, 1, 2]),
    ],
)
def test_visible_bands_are_found_by_name_or_number(names, rgb):
    rows = images.add_pixel_columns(
        pd.DataFrame({"path": ["x"]}), reader="images", bands=range(1, len(names.split()) + 1),
        band_names=names.split(),
    )  # fmt: skip
    assert pixel_info(rows)["rgb"] == rgb
