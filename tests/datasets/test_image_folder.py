import numpy as np
import pytest
from PIL import Image
from rasters import noise, tif

from geossl.datasets.image_folder import image_folder
from geossl.datasets.raster import chips as images


def test_image_folder_keeps_equal_names_of_two_splits_apart(tmp_path):
    for name in ("train/ä/p1_2019.png", "train/ä/p1_2020.png", "val/ä/p1_2019.png",
                 "val/b/deep/p2_2020.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "train" / "ä" / ".p.png").write_text("hidden")
    (tmp_path / "train" / "ä" / "notes.txt").write_text("no image")
    found = image_folder(tmp_path)
    assert found["location"].nunique() == 4 and found["lon"].isna().all()
    assert found["label"].tolist() == ["ä", "ä", "b", "ä"]
    assert found["split"].tolist() == ["train", "train", "val", "val"]
    assert not images.read_chips(found, size_px=4).bad
    places = image_folder(tmp_path, location=r"/(p\d)_[^/]*$")["location"]
    assert places.tolist() == ["p1", "p1", "p2", "p1"]
    flat = image_folder(tmp_path / "train")
    assert flat["split"].isna().all() and flat["label"].tolist() == ["ä", "ä"]
    with pytest.raises(ValueError, match="`location` does not match 'val/b/deep/p2_2020.png'"):
        image_folder(tmp_path, location=r"(p1)_")
    assert len(image_folder(tmp_path, location=r"(p1)_", skip_bad=True)) == 3
    with pytest.raises(ValueError, match="regular expression"):
        image_folder(tmp_path, location="(")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="There are no images <class>/<file>"):
        image_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="The folder .* does not exist"):
        image_folder(tmp_path / "absent")


def test_georeferenced_files_keep_their_coordinates_and_flat_ones_have_no_class(tmp_path):
    for name, left in (("farm/a.tif", 10.0), ("wood/b.tif", 20.0), ("wood/c.tif", None)):
        tif(tmp_path / name, noise(), left=left, top=50.0)
    Image.new("RGB", (60, 40)).save(tmp_path / "flat.png")
    found = image_folder(tmp_path)
    assert found["label"].tolist() == ["farm", "wood", "wood"]
    np.testing.assert_allclose(found["lon"], [10.03, 20.03, np.nan])
    np.testing.assert_allclose(found["lat"], [49.98, 49.98, np.nan])
    assert not images.read_chips(found, size_px=4).bad
    flat = image_folder(tmp_path / "wood")
    assert flat["label"].isna().all() and flat["lon"].isna().tolist() == [False, True]


def test_splits_of_any_word_and_links_between_classes(tmp_path):
    for name in ("Training/a/1.png", "VALID/a/2.png", "dev/b/3.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "dev" / "c").symlink_to(tmp_path / "Training" / "a")  # no image twice
    (tmp_path / "dev" / "b" / "up").symlink_to(tmp_path)
    found = image_folder(tmp_path)
    assert found["split"].tolist() == ["train", "val", "val"]
    assert found["label"].tolist() == ["a", "a", "b"]
