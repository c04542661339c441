import json

import pytest
from rasters import noise, tif

from geossl.datasets.raster import chips as images
from geossl.datasets.xview import xview


@pytest.fixture
def xview_set(tmp_path):
    def feature(bounds, image="5.tif", kind=73):
        about = {"bounds_imcoords": bounds, "image_id": image, "type_id": kind, "cat_id": kind}
        place = {"type": "Polygon", "coordinates": [[[1, 2], [1, 3], [2, 3], [1, 2]]]}
        return {"type": "Feature", "properties": about, "geometry": place}

    scene = tif(tmp_path / "train_images" / "5.tif", noise(), left=-70.0, top=20.0)
    tif(tmp_path / "train_images" / "7.tif", noise(seed=3))
    features = [feature("10,4,18,12"), feature("[]"), feature("", "7.tif"),
                feature("-2,30,3,39", "7.tif", 18)]  # fmt: skip
    path = tmp_path / "xView_train.geojson"

    def write(*more):
        content = {"type": "FeatureCollection", "features": [*features, *more]}
        path.write_text(json.dumps(content))
        return path

    write()
    return path, scene, write, feature


def test_xview_boxes_and_images(xview_set):
    path, scene, _, _ = xview_set
    boxes = xview(path, boxes=True, names={73: "Building"})
    assert boxes["label"].tolist() == ["Building", 18] and boxes.attrs["empty_boxes"] == 2
    assert boxes["location"].tolist() == ["5.tif#0", "7.tif#0"]
    assert boxes["lon"][0] == pytest.approx(-69.986) and boxes["lat"][0] == pytest.approx(19.992)
    assert boxes["lon"].isna().tolist() == [False, True]
    chips = images.read_chips(boxes, size_px=8)
    assert not chips.bad and (chips.chips[0] == scene[:, 4:12, 10:18]).all()
    whole = xview(path.parent)
    assert whole["n_boxes"].tolist() == [1, 1] and whole["lon"][0] == pytest.approx(-69.97)


def test_xview_features_that_cannot_be_used(xview_set):
    path, _, write, feature = xview_set
    for bad in (feature("1,2,3"), feature("9,9,3,12"), feature(None), feature("a,b,c,d"),
                feature("1,2,3,4", kind="x"), feature("1,2,3,4", image=5), "text",
                feature("1,2,3,4", image="../../out.tif")):  # fmt: skip
        write(bad)
        with pytest.raises(ValueError, match="xView_train.geojson, (feature 4|image)"):
            xview(path, boxes=True)
        found = xview(path, boxes=True, skip_bad=True)
        assert len(found) == 2 and len(found.attrs["skipped"]) == 1
    path.write_text('{"features": {}}')
    with pytest.raises(ValueError, match="list of 'features'"):
        xview(path)
