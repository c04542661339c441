from pathlib import Path

import pytest
from PIL import Image

from geossl.datasets.geoimagenet import geoimagenet
from geossl.datasets.raster import chips as images


def test_geoimagenet_joins_photos_and_places_by_id(tmp_path):
    for name in ("n01/11.jpg", "n01/12.jpg", "n02/11.jpg", "n02/13.JPG", "n02/14.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name, "JPEG")
    (tmp_path / "n02" / "readme.txt").write_text("x")
    (tmp_path / "meta.csv").write_text(
        '11,48.5,2.25,2009,"a, b"\n12,-1000,-1000\n13,10,\n99,1,1\n11,0,0\nx,y,z\n'
    )
    found = geoimagenet(tmp_path)
    assert found["location"].tolist() == ["11", "11"] and found["label"].tolist() == ["n01", "n02"]
    assert found["lat"].tolist() == [48.5] * 2 and found["lon"].tolist() == [2.25] * 2
    assert found["split"].nunique() == 1  # a photo in two classes is one location
    assert geoimagenet(tmp_path, test_share=0)["split"].isna().all()
    assert found.attrs["without_position"] == 3
    assert {Path(p).name for p in found.attrs["skipped"]} == {"12.jpg", "13.JPG", "14.jpg"}
    kept = geoimagenet(tmp_path, missing="keep")
    assert len(kept) == 5 and kept["lon"].isna().sum() == 3 and not kept.attrs["skipped"]
    assert kept["lat"].isna().sum() == 3 and kept.attrs["without_position"] == 3
    assert not images.read_chips(kept, size_px=4).bad
    (tmp_path / "meta.csv").write_text("99,1,1\n")
    with pytest.raises(ValueError, match="None of the 5 photos with a position"):
        geoimagenet(tmp_path)
    (tmp_path / "meta.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="meta.csv"):
        geoimagenet(tmp_path)
    (tmp_path / "other.csv").write_text("1,2,3\n")
    with pytest.raises(FileNotFoundError, match="must contain one csv of .*, got meta.csv, other"):
        geoimagenet(tmp_path)
