import pytest
from PIL import Image

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
