import json
import warnings

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import rasterio.warp
from rasterio.transform import from_origin
from segment_scenes import GRIDS, NAMES, a_grid, tif

from geossl.tasks.segment.class_map import ClassMap

PLACES = {
    **{name: ("EPSG:32633", transform) for name, transform in GRIDS.items()},
    "degrees": ("EPSG:4326", from_origin(179.9, -10, 1e-3, 1e-3)),
    "no CRS": (None, None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_the_map_written_lies_on_its_scene_to_the_pixel(name, trained, tmp_path):
    _, scenes, tuned = trained
    crs, transform = PLACES[name]
    with rasterio.open(scenes["path"][0]) as file:
        pixels = file.read()
    pixels[:, 40:44, 3:9] = 0
    path = tmp_path / "scene.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        tif(path, pixels, crs=crs, transform=transform, nodata=0)
    out = tmp_path / "missing" / "folder" / "classes.tif"
    found = tuned.segment(path, output=out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as source, rasterio.open(out) as file:
            assert (file.crs, file.transform, file.shape) == (
                source.crs, source.transform, source.shape,
            )  # fmt: skip
            written = file.read(1)
            assert file.dtypes == ("uint8",) and file.nodata == 255 and file.count == 1
            assert file.profile["tiled"] and file.profile["compress"] == "deflate"
            colors = file.colormap(1)
            assert colors[0][:3] == (0xDD, 0xDD, 0xDD) and colors[1][:3] == (0, 0x72, 0xB2)
            assert file.tags(1)["class_1"] == "plant"
            assert json.loads(file.tags()["classes"]) == list(NAMES)
            outside = file.dataset_mask() == 0
            if crs is not None:  # the middle of the plant, through its coordinates
                with rasterio.open(scenes["mask"][0]) as mask:
                    truth = mask.read(1)
                rows, cols = np.nonzero(truth)
                hits = []
                for row, col in zip(rows, cols, strict=True):
                    x, y = source.transform @ (col + 0.5, row + 0.5)
                    hits.append(int(next(file.sample([(x, y)]))[0]))
                assert np.mean(np.array(hits) == 1) > 0.9
        rasterio.shutil.copy(out, tmp_path / "copy.vrt", driver="VRT")  # GDAL's own reading
    assert "<Category>plant</Category>" in (tmp_path / "copy.vrt").read_text()
    assert np.array_equal(written, found.values)
    assert np.array_equal(outside, (pixels == 0).all(0)) and (written[outside] == 255).all()
    with pytest.raises(ValueError, match="`output` must be another path than the scene's"):
        tuned.segment(path, output=path)
    with pytest.raises(ValueError, match="`output` must end in .tif"):
        tuned.segment(path, output=tmp_path / "map.png")
    names = {p.name for p in out.parent.iterdir()}
    assert names == {"classes.tif", "classes.tif.aux.xml"}  # no half-written file is left


def test_a_map_of_many_classes_and_odd_names(tmp_path):
    names = tuple(f"<{i}> & ü" for i in range(255))
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    found = ClassMap(values, names, a_grid(8, 32))
    found.write(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.array_equal(file.read(1), values)
        assert file.tags(1)["class_254"] == names[254]
        assert len({c[:3] for c in list(file.colormap(1).values())[:8]}) == 8
    assert found.shares.sum() == pytest.approx(1) and "..." in repr(found)
    nothing = ClassMap(np.full((2, 2), 255, np.uint8), NAMES, a_grid(2, 2))
    assert repr(nothing) == "ClassMap(2 x 2 px; no data)"
