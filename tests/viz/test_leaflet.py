import numpy as np
import pytest

from geossl.viz.maps import leaflet

pytest.importorskip("folium", reason="maps need geossl[notebooks]")


@pytest.mark.parametrize(
    "lon, lat, wanted",
    [([10, 20], [0, 5], True), ([-170, 170], [0, 0], False), ([179, -179], [0, 0], True),
     ([-100, 0, 100], [0, 0, 0], False), ([5], [88], True)],
)  # fmt: skip
def test_the_view_holds_its_places(lon, lat, wanted):
    lon, lat = np.array(lon, float), np.array(lat, float)
    box = leaflet.fit_view(lon, lat)
    wide = np.ptp(np.where(lon < 0, lon + 360, lon)) if np.ptp(lon) > 180 else np.ptp(lon)
    assert (box is not None) == (wide <= 180)
    if box is None:
        assert not wanted
        return
    (south, west), (north, east) = box
    shifted = np.where(lon < west, lon + 360, lon)
    assert (west < shifted).all() and (shifted < east).all()
    assert (south < lat).all() and ((lat < north) | (lat > leaflet.MAX_LAT)).all()
    assert abs(south) <= leaflet.MAX_LAT and abs(north) <= leaflet.MAX_LAT


def test_a_raster_has_the_mean_color_of_its_places():
    lon, lat = np.array([0.0, 0.0, 90.0]), np.array([0.0, 0.0, -60.0])
    rgb = np.array([[0, 0, 100], [100, 0, 0], [7, 8, 9]], np.uint8)
    picture = _pixels(leaflet.overview_url(lon, lat, rgb, size_px=256))
    row = int((0.5 - np.arcsinh(np.tan(np.radians(-60))) / (2 * np.pi)) * 256)
    y, x = np.indices(picture.shape[:2])
    for at, column, color in ((128, 128, [50, 0, 50, 255]), (row, 192, [7, 8, 9, 255])):
        diamond = abs(y - at) + abs(x - column) <= 2  # a lonely place is five pixels across
        assert (picture[diamond] == color).all()
        picture[diamond] = 0
    assert not picture.any()


def test_a_raster_leaves_a_full_pixel_to_its_own_places():
    lon, lat = np.array([0.0, 360 / 256]), np.zeros(2)
    picture = _pixels(
        leaflet.overview_url(lon, lat, np.array([[1, 2, 3], [4, 5, 6]], np.uint8), size_px=256)
    )
    assert picture[128, 128].tolist() == [1, 2, 3, 255]
    assert picture[128, 129].tolist() == [4, 5, 6, 255]


def _pixels(url):
    import base64
    import io

    from PIL import Image

    return np.array(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))
