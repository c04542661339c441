from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tile_folders import flat, read, spacenet_folder, tif

from geossl.data.store import ChipStore
from geossl.datasets.raster.window import pixel_info
from geossl.datasets.spacenet import spacenet


@pytest.mark.parametrize("polygons", ["geojson", "vectordata/geojson"])
def test_spacenet_counts_buildings(tmp_path, polygons):
    table = spacenet(spacenet_folder(tmp_path, polygons))
    assert table["location"].tolist() == [f"AOI_1_RIO_img{i}" for i in (1, 2, 10, 11, 100)]
    assert set(table["split"]) <= {"train", "test"}
    assert spacenet(tmp_path, test_share=0.9)["split"].eq("test").sum() > 2
    assert spacenet(tmp_path, test_share=0)["split"].isna().all()
    assert table["buildings"].tolist() == [3, 0, 0, 1, pd.NA]
    assert Path(table["polygons"][3]).name == "Geo_AOI_1_RIO_img11.geojson"
    assert Path(table["polygons"][3]).is_file() and pd.isna(table["polygons"][4])
    assert table.loc[2, ["lon", "lat"]].tolist() == pytest.approx((-43.5895, -22.9005), abs=1e-9)
    assert read(table, 32)[:, 0, 0, 0].tolist() == [1, 2, 10, 11, 100]
    store = ChipStore.build(tmp_path / "s", table, size_px=32, progress=False)
    assert store.preview([0])[0, 0, 0].tolist() == [1, 50, 60]
    assert store.scenes["buildings"].tolist() == [3, 0, 0, 1, pd.NA]


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["{", "[" * 100_000, "[]", "{}", '{"features": 3}', '{"features": [3]}', '{"features": "ab"}',
     '{"features": [{"geometry": [1]}]}', '{"features": [{"geometry": {"kind": 1}}]}', "\0"],
)  # fmt: skip
def test_spacenet_names_bad_polygons(tmp_path, text):
    bad = spacenet_folder(tmp_path) / "geojson" / "Geo_AOI_1_RIO_img2.geojson"
    bad.write_text(text)
    with pytest.raises(ValueError, match="img2.tif: .*img2.geojson (cannot be read|has no)"):
        spacenet(tmp_path)
    table = spacenet(tmp_path, skip_bad=True)
    assert len(table) == 4 and len(table.attrs["skipped"]) == 1


def test_spacenet_of_eight_bands(tmp_path):
    spacenet_folder(tmp_path)
    for i in (1, 7):
        pixels = flat(np.arange(1, 9) * i, 8, bands=8)
        tif(tmp_path / "8band" / f"8band_AOI_1_RIO_img{i}.tif", pixels, crs="EPSG:4326",
            left=-43.6, top=-22.9, px=0.001 / 8)  # fmt: skip
    table = spacenet(tmp_path, kind="8band")
    assert table["buildings"].tolist() == [3, pd.NA]
    info = pixel_info(table)
    assert [info["bands"][i] for i in info["rgb"]] == ["red", "green", "blue"]
    assert read(table, 8)[1, info["rgb"], 0, 0].tolist() == [35, 21, 14]
    with pytest.raises(
        ValueError, match=r"`kind` must be one of \['3band', '8band'\], got '4band'"
    ):
        spacenet(tmp_path, kind="4band")
    tif(tmp_path / "8band" / "8band_AOI_1_RIO_img9.tif", flat(1, 8, bands=3))
    with pytest.raises(ValueError, match="img9.tif: it has 3 bands of uint16, not 8 of uint16"):
        spacenet(tmp_path, kind="8band")
