from pathlib import Path

import numpy as np
import pytest
from tile_folders import (
    DATES,
    bigearthnet_folder,
    ms_folder,
    rgb_folder,
    seco_folder,
    spacenet_folder,
    ssl4eo_folder,
    tile2vec_folder,
)

from geossl.datasets.bigearthnet import bigearthnet
from geossl.datasets.bigearthnet import fits as bigearthnet_fits
from geossl.datasets.eurosat import eurosat
from geossl.datasets.eurosat import fits as eurosat_fits
from geossl.datasets.raster import chips as images
from geossl.datasets.seco import fits as seco_fits
from geossl.datasets.seco import seco
from geossl.datasets.spacenet import fits as spacenet_fits
from geossl.datasets.spacenet import spacenet
from geossl.datasets.ssl4eo import fits as ssl4eo_fits
from geossl.datasets.ssl4eo import ssl4eo
from geossl.datasets.tile2vec import fits as tile2vec_fits
from geossl.datasets.tile2vec import tile2vec

READERS = {
    "eurosat rgb": (eurosat, eurosat_fits, rgb_folder),
    "eurosat ms": (eurosat, eurosat_fits, ms_folder),
    "bigearthnet": (bigearthnet, bigearthnet_fits, bigearthnet_folder),
    "ssl4eo": (ssl4eo, ssl4eo_fits, ssl4eo_folder),
    "seco": (seco, seco_fits, seco_folder),
    "spacenet": (spacenet, spacenet_fits, spacenet_folder),
    "tile2vec": (tile2vec, tile2vec_fits, tile2vec_folder),
}


@pytest.mark.parametrize("name", READERS)
def test_only_its_own_reader_says_that_it_fits(tmp_path, name):
    folder = READERS[name][2](tmp_path / "ä b")
    said = {other: fits(folder) for other, (_, fits, _) in READERS.items()}
    own = [other for other in READERS if other.split()[0] == name.split()[0]]
    assert [other for other, reason in said.items() if reason] == own
    assert all(said[other].startswith("contains ") for other in own)


def test_odd_places_fit_none(tmp_path):
    (tmp_path / "file").write_bytes(b"\0")
    loops = tmp_path / "loops"
    for name in ("0000001", "000001", "River", "3band", "s1", "1tile.npy", "patch"):
        loops.mkdir(exist_ok=True)
        (loops / name).symlink_to(loops / name)
    category = tmp_path / "fmow" / "airport" / "airport_1"
    category.mkdir(parents=True)
    (category / "airport_1_0_rgb.jpg").write_bytes(b"\xff\xd8")
    for name in ("cats/cats_1.jpg", "River/Forest_1.jpg", "Forest/IMG_1.jpg"):
        (tmp_path / "imagefolder" / name).parent.mkdir(parents=True)
        (tmp_path / "imagefolder" / name).write_bytes(b"\xff\xd8")
    deep = Path("x" * 5_000)
    for _, fits, _ in READERS.values():
        for folder in ("file", "absent", "loops", "fmow", "imagefolder", "", "a\0b", deep):
            assert fits(tmp_path / folder) is None, folder
    (loops / "0000002" / DATES[0]).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{DATES[0]}: it has no band"):
        ssl4eo(loops)
    for reader in (bigearthnet, seco, spacenet, eurosat):
        with pytest.raises(FileNotFoundError):
            reader(loops)
    with pytest.raises(ValueError, match="cannot be read as an array"):
        tile2vec(loops)


@pytest.mark.parametrize("name", READERS)
def test_folders_without_the_files_are_refused_in_a_sentence(tmp_path, name):
    reader, _, _ = READERS[name]
    with pytest.raises(FileNotFoundError, match="The folder .*absent does not exist"):
        reader(tmp_path / "absent")
    with pytest.raises(
        FileNotFoundError, match="There are no .*. Pass the folder that contains them"
    ):
        reader(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_cost_no_more_than_their_rows(tmp_path, name):
    """Each file in turn is cut, emptied or replaced: an error in a sentence, or a smaller table."""
    reader, _, make = READERS[name]
    folder = make(tmp_path)
    rows = len(reader(folder))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rng = np.random.default_rng(0)
    for path in [files[i] for i in rng.permutation(len(files))[:3]]:
        whole = path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], whole[:9], rng.bytes(99), b"{" * 999):
            path.write_bytes(content)
            try:
                table = reader(folder, skip_bad=True)
            except ValueError as error:  # e.g. y.npy
                assert path.name in str(error) and "\n" not in str(error)
                continue
            found = images.read_chips(table, size_px=8)
            assert len(table) >= rows - 1 and len(table) - len(found.bad) >= rows - 2
            assert not found.chips[list(found.bad)].any()
        path.write_bytes(whole)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files
