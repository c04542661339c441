from pathlib import Path

import numpy as np
import pytest
from tile_folders import read, tile2vec_folder

from geossl.datasets.raster.window import pixel_info
from geossl.datasets.tile2vec import tile2vec


@pytest.mark.parametrize("first", [0, 1])
def test_tile2vec_labels_start_at_the_first_tile(tmp_path, first):
    table = tile2vec(tile2vec_folder(tmp_path, first))
    assert table["location"].tolist() == [f"{first + i}tile" for i in range(3)]
    assert table["label"].tolist() == [111, 24, 24]
    assert set(table["split"]) <= {"train", "test"}
    assert tile2vec(tmp_path, test_share=1)["split"].eq("test").all()
    assert tile2vec(tmp_path, test_share=0)["split"].isna().all()
    assert table[["lon", "lat"]].isna().all(axis=None)
    chips = read(table, 12)
    wanted = np.load(tmp_path / f"{first + 1}tile.npy")[..., :4].transpose(2, 0, 1)
    assert (chips[1] == wanted).all()
    info = pixel_info(table)
    assert info["bands"] == ["red", "green", "blue", "nir"] and info["rgb"] == [0, 1, 2]


def test_tile2vec_without_labels_with_gaps_and_bad_tiles(tmp_path):
    tile2vec_folder(tmp_path, y=None, bands=3)
    assert tile2vec(tmp_path)["label"].isna().all()
    np.save(tmp_path / "12tile.npy", np.zeros((12, 12, 3), np.uint8))
    (tmp_path / "1tile.npy").unlink()
    np.save(tmp_path / "y.npy", np.arange(11))
    with pytest.raises(
        ValueError, match=r"y.npy needs a label for each of tile 1 to 12 \(12 labels\), got 11"
    ):
        tile2vec(tmp_path)
    np.save(tmp_path / "y.npy", np.arange(12.0))
    assert tile2vec(tmp_path)["label"].tolist() == [1, 2, 11]
    np.save(tmp_path / "4tile.npy", np.zeros((12, 12, 4), np.uint8))
    np.save(tmp_path / "5tile.npy", np.zeros((12, 12), np.uint8))
    np.save(tmp_path / "6tile.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "7tile.npy").write_bytes(b"")
    (tmp_path / "8tile.npy").write_bytes(b"PK\3\4")
    for i, shape in ((9, "-" * 9_000 + "1"), (10, "(" * 900), (11, f"({10**30}, 3, 3)")):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        start = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little")
        (tmp_path / f"{i}tile.npy").write_bytes(start + header)
    with pytest.raises(
        ValueError, match="4tile.npy: it has 4 bands of uint8, the first tile 3 of uint8"
    ):
        tile2vec(tmp_path)
    table = tile2vec(tmp_path, skip_bad=True)
    assert table["label"].tolist() == [1, 2, 11]
    skipped = [Path(path).name for path in table.attrs["skipped"]]
    assert skipped == [f"{i}tile.npy" for i in range(4, 12)]
    for labels in (np.zeros((3, 2)), np.array([{}] * 12)):
        np.save(tmp_path / "y.npy", labels, allow_pickle=True)
        with pytest.raises(ValueError, match="y.npy"):
            tile2vec(tmp_path, skip_bad=True)


def test_tiles_of_other_types_need_a_scale(tmp_path):
    for i in (1, 2):
        np.save(tmp_path / f"{i}tile.npy", np.full((8, 8, 4), i / 4))
    with pytest.raises(ValueError, match="got float64. Pass `scale="):
        tile2vec(tmp_path)
    chips = read(tile2vec(tmp_path, scale=(0.0, 1.0)), 8)
    assert chips[:, 3, 0, 0] == pytest.approx([1 + 65534 / 4, 1 + 65534 / 2], abs=1)
