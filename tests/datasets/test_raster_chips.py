import re
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from geossl.data.files import DatasetError
from geossl.data.scenes import BOX
from geossl.datasets.raster import chips
from geossl.datasets.raster.files import open_raster
from geossl.datasets.raster.window import pixel_info


def table(paths, boxes=None, **about):
    rows = pd.DataFrame({"path": [str(p) for p in paths]})
    if boxes is not None:
        rows[list(BOX)] = np.asarray(boxes, float)
    return chips.add_pixel_columns(rows, reader="images", **about)


def smooth(height, width, bands=3, top=255):
    y, x = np.mgrid[:height, :width]
    parts = [(x / width, y / height, (x + y) / (height + width))[i % 3] for i in range(bands)]
    return np.round(np.stack(parts, -1) * top)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
@pytest.mark.parametrize("size", [(64, 64), (200, 129), (65, 400)])
def test_the_middle_square_is_averaged_down(tmp_path, kind, size):
    pixels = smooth(*size).astype(np.uint8)
    path = tmp_path / f"ä b.{kind}"
    Image.fromarray(pixels).save(path, **({"quality": 95} if kind == "jpg" else {}))
    found = chips.read_chips(table([path]), size_px=16)
    side = min(size)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    square = pixels[top : top + side, left : left + side]
    wanted = np.asarray(Image.fromarray(square).resize((16, 16), Image.Resampling.BOX))
    assert not found.bad and found.valid.all() and found.chips.dtype == np.uint8
    assert np.abs(found.chips[0].transpose(1, 2, 0).astype(int) - wanted).max() <= 6


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "npy"])
@pytest.mark.parametrize(
    ("box", "square"),  # left, top, right, bottom -> left, top, side
    [
        ((10, 20, 30, 30), (10, 15, 20)),
        ((0, 0, 10, 40), (0, 0, 40)),  # moved to lie within
        ((60, 50, 80, 60), (60, 40, 20)),  # likewise, at the other end
        ((-5, -5, 90, 70), (12, 0, 60)),  # longer than the file is high
        ((30, 30, 30.4, 30.4), (30, 30, 1)),
    ],
)
def test_a_box_is_cut_square_within_the_file(tmp_path, kind, box, square):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / f"one.{kind}"
    if kind == "npy":
        np.save(path, pixels)
    else:
        if kind == "jpg":
            pixels = smooth(60, 80).astype(np.uint8)
        Image.fromarray(pixels).save(path, **({"quality": 100} if kind == "jpg" else {}))
    left, top, side = square
    found = chips.read_chips(table([path], [box]), size_px=side)
    wanted = pixels[top : top + side, left : left + side].transpose(2, 0, 1).astype(int)
    assert np.abs(found.chips[0] - wanted).max() <= (4 if kind == "jpg" else 0)


def test_a_scaled_jpg_shows_the_same_box(tmp_path):
    pixels = smooth(512, 640).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "big.jpg", quality=95)
    found = chips.read_chips(table([tmp_path / "big.jpg"], [(100, 40, 356, 296)]), size_px=32)
    square = Image.fromarray(pixels[40:296, 100:356])
    wanted = np.asarray(square.resize((32, 32), Image.Resampling.BOX)).transpose(2, 0, 1)
    assert np.abs(found.chips[0].astype(int) - wanted).max() <= 4


def test_odd_pictures_become_three_colors(tmp_path):
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgba = np.dstack([gray, gray.T, 255 - gray, np.where(gray < 100, 0, 255).astype(np.uint8)])
    files = {
        "gray": Image.fromarray(gray),
        "rgba": Image.fromarray(rgba),
        "palette": Image.fromarray(rgba[..., :3]).convert("P"),
        "one_bit": Image.fromarray(gray > 127),
        "cmyk": Image.fromarray(rgba[..., :3]).convert("CMYK"),
    }
    paths = []
    for name, picture in files.items():
        paths.append(tmp_path / f"{name}.{'tif' if name == 'cmyk' else 'png'}")
        if name == "cmyk":
            paths[-1] = paths[-1].with_suffix(".jpg")
        picture.save(paths[-1])
    found = chips.read_chips(table(paths), size_px=16)
    assert not found.bad
    assert (found.chips[0] == gray).all()
    assert (found.valid[1] == (gray >= 100)).all() and (
        found.chips[1, 0] == gray * (gray >= 100)
    ).all()
    assert set(np.unique(found.chips[3])) == {0, 255}
    assert found.extra["nodata_share"][1] == pytest.approx(100 / 256)


@pytest.mark.parametrize("way", range(1, 9))
def test_photos_are_turned_as_their_exif_says_unless_a_box_counts_pixels(tmp_path, way):
    pixels = smooth(40, 40).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = way
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = chips.read_chips(table([tmp_path / "turned.png"]), size_px=40).chips[0]
    raw = chips.read_chips(table([tmp_path / "turned.png"], [(0, 0, 40, 40)]), size_px=40).chips[0]
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "turned.png")))
    assert (raw == pixels.transpose(2, 0, 1)).all()
    assert (upright == wanted.transpose(2, 0, 1)).all()


def test_sixteen_bits_and_one_file_a_band(tmp_path):
    import rasterio
    from affine import Affine

    bands = np.random.default_rng(1).integers(0, 60_000, (2, 24, 24)).astype(np.uint16)
    for name, band in zip(("B02", "B11"), bands, strict=True):
        part = band if name == "B02" else band[::2, ::2]  # a coarser band
        with rasterio.open(
            tmp_path / f"x_{name}.tif", "w", driver="GTiff", width=part.shape[1],
            height=part.shape[0], count=1, dtype="uint16", crs="EPSG:32633",
            transform=Affine(10, 0, 0, 0, -10, 0),
        ) as file:  # fmt: skip
            file.write(part, 1)
    rows = table(
        [tmp_path / "x_{band}.tif"], bands=("B02", "B11"), band_names=("blue", "swir"),
        dtype="uint16",
    )  # fmt: skip
    found = chips.read_chips(rows, size_px=24)
    assert (found.chips[0, 0] == bands[0]).all() and found.chips.dtype == np.uint16
    coarse = found.chips[0, 1].astype(int)
    assert np.abs(coarse[1:-1:2, 1:-1:2] - bands[1, ::2, ::2][:11, :11]).mean() < 15_000
    assert pixel_info(rows)["bands"] == ["blue", "swir"]
    Image.fromarray(bands[0]).save(tmp_path / "deep.png")
    deep = table([tmp_path / "deep.png"], bands=(1,), band_names=("value",), dtype="uint16")
    assert (chips.read_chips(deep, size_px=24).chips[0, 0] == bands[0]).all()


def test_float_arrays_are_scaled_and_nan_is_no_data(tmp_path):
    values = smooth(20, 20, bands=4, top=1)
    values[3, 4, 2] = np.nan
    np.save(tmp_path / "chw.npy", values.transpose(2, 0, 1).astype(np.float32))
    rows = table(
        [tmp_path / "chw.npy"], bands=(1, 3), band_names=("a", "c"), dtype="uint16",
        scale=(0.0, 1.0),
    )  # fmt: skip
    found = chips.read_chips(rows, size_px=20)
    assert not found.bad and found.valid.sum() == 399 and found.chips[0, :, 3, 4].tolist() == [0, 0]
    wanted = 1 + np.nan_to_num(values[..., [0, 2]]).transpose(2, 0, 1) * 65534
    assert np.abs(found.chips[0] - wanted)[:, found.valid[0]].max() <= 1


def test_files_that_cannot_become_a_chip_are_named(tmp_path):
    whole = tmp_path / "whole.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "magic.tif").write_bytes(b"II*\0 no more")
    (tmp_path / "text.jpg").write_text("not a picture")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    head = bytearray(whole.read_bytes())
    head[16:24] = (60_000).to_bytes(4, "big") * 2  # a bomb: 3.6 thousand million pixels
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bytes(head))
    names = ["whole.png", "cut.jpg", "empty.png", "magic.tif", "text.jpg", "object.npy", "bomb.png",
             "absent.png"]  # fmt: skip
    found = chips.read_chips(table([tmp_path / n for n in names]), size_px=8)
    assert sorted(found.bad) == list(range(1, 8))
    assert all(names[i] in reason for i, reason in found.bad.items())
    # which of the two limits speaks depends on Pillow's own, which any library may have lifted
    assert re.search("too large to decode|pixels, which are more than", found.bad[6])
    assert not found.chips[1:].any() and not found.valid[1:].any()
    outside = chips.read_chips(table([whole] * 2, [(70, 0, 80, 9), (5, 5, 5, 9)]), size_px=8)
    assert all("does not lie in its 64 x 64 pixels" in text for text in outside.bad.values())


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"bands": (1, 2)}, "`band_names` must have a name for each"),
        ({"band_names": ("r", "g,", "b")}, "`band_names` must not contain commas"),
        ({"dtype": "float32"}, "uint8 or uint16, got float32. Pass `scale="),
        ({"scale": (1.0, 1.0)}, "`scale` must be .lowest, highest."),
    ],
)
def test_wrong_descriptions_are_refused(about, words):
    with pytest.raises(ValueError, match=words):
        table(["x.png"], **about)


def test_a_tif_that_names_another_file_is_no_tif(tmp_path):
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(tmp_path / "secret.png")
    (tmp_path / "innocent.tif").write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path / 'secret.png'}</SourceFilename>"
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    found = chips.read_chips(table([tmp_path / "innocent.tif"]), size_px=8)
    assert "innocent.tif" in found.bad[0] and not found.chips.any()


@pytest.mark.parametrize(
    "start", [b"PK\3\4", b"\x93NUMPY\1\0\xff\xff{", b"\x93NUMPY\1\0\6\0{'a':(\n"]
)
def test_arrays_that_are_none(tmp_path, start):
    (tmp_path / "x.npy").write_bytes(start + b" " * 40)
    found = chips.read_chips(table([tmp_path / "x.npy"]), size_px=8)
    assert "x.npy" in found.bad[0]


def test_threads_open_files_without_a_position_and_leave_the_filters_as_they_were(tmp_path):
    paths = [tmp_path / f"{i}.tif" for i in range(40)]
    for path in paths:
        Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(path)

    def corner(path):
        with open_raster(path) as file:
            return int(file.read(1)[0, 0])

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(corner, paths * 5)) == [7] * 200
    assert warnings.filters == before


def test_a_file_of_another_kind_or_an_absent_one_is_named(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    (tmp_path / "cut.tif").write_bytes(b"II*\0 no more")
    for name, words in (
        ("a.gif", "cannot be read as .gif"),
        ("cut.tif", "cannot be read as a GeoTIFF"),
    ):
        with pytest.raises(DatasetError, match=f"{name} {words}"), open_raster(tmp_path / name):
            pass
    with pytest.raises(FileNotFoundError, match="b.tif does not exist"):
        with open_raster(tmp_path / "b.tif"):
            pass
