"""What pixels of users' files say by themselves: scales, no data, palettes, alpha, depth."""

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp

from geossl import ChipStore, datasets
from geossl.cli import main
from geossl.data.notices import DataWarning
from geossl.data.pixels import outward
from geossl.datasets.raster import chips

PLACE = {"crs": "EPSG:32631", "transform": Affine(10, 0, 440000, 0, -10, 5410000)}


def noise(dtype="uint8", low=1, high=255, bands=3, px=64, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(low, high, (bands, px, px)).astype(dtype)
    return rng.integers(low, high, (bands, px, px)).astype(dtype)


def tif(path, pixels, *, colors=None, interp=None, scales=None, offsets=None, **about):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype,
        **{**PLACE, **about},
    ) as file:  # fmt: skip
        file.write(pixels)
        if interp:
            file.colorinterp = interp
        if colors:
            file.write_colormap(1, colors)
        if scales:
            file.scales, file.offsets = scales, offsets
    return path


def dated(folder, pixels, **options):
    for year in (2019, 2020):
        tif(folder / f"s_{year}0101.tif", pixels, **options)
    return folder


def store_of(path, table, size_px=32, **options):
    return ChipStore.build(path, table, size_px=size_px, progress=False, **options)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int16", -300, 9_900), ("float32", 0.02, 0.97), ("float64", -1, 1), ("uint32", 0, 90_000),
     ("int8", -100, 100), ("int32", 0, 12)],
)  # fmt: skip
def test_the_scale_that_a_message_names_works_and_cuts_nothing_off(tmp_path, dtype, low, high):
    pixels = noise(dtype, low, high)
    folder = dated(tmp_path / "s", pixels)
    with pytest.raises(ValueError, match=rf"got {dtype}. Pass `scale=\(") as caught:
        datasets.geotiff(folder, chip_px=64)
    scale = eval(str(caught.value).split("`scale=")[1].split("`")[0])
    assert scale[0] <= np.percentile(pixels, 0.1) and np.percentile(pixels, 99.9) <= scale[1]
    assert scale[1] - scale[0] < 1.3 * (int(high) - int(low) or 1)
    store = store_of(tmp_path / "c", datasets.geotiff(folder, chip_px=64, scale=scale), 64)
    values = (store.chips[0].astype(float) - 1) / 65534 * (scale[1] - scale[0]) + scale[0]
    inside = (pixels >= scale[0]) & (pixels <= scale[1])
    assert np.abs(values - pixels)[inside].max() <= (scale[1] - scale[0]) / 65534


def test_arrays_of_bools_and_integers_name_a_scale_that_works(tmp_path):
    for number, (dtype, high) in enumerate([("bool", 2), ("int64", 500), ("float32", 3)]):
        folder = tmp_path / dtype
        (folder / "a").mkdir(parents=True)
        (folder / "b").mkdir()
        pixels = noise(dtype, 0, high).transpose(1, 2, 0)
        for name in "ab":
            np.save(folder / name / "1.npy", pixels)
        with pytest.raises(ValueError, match=rf"got {dtype}. Pass `scale=\(") as caught:
            datasets.image_folder(folder)
        scale = eval(str(caught.value).split("`scale=")[1].split("`")[0])
        table = datasets.image_folder(folder, scale=scale)
        store = store_of(tmp_path / f"c{number}", table, 64)
        wanted = 1 + (pixels.astype(float) - scale[0]) / (scale[1] - scale[0]) * 65534
        found = store.chips[0].transpose(1, 2, 0)
        assert np.abs(found - np.clip(wanted, 1, 65535)).max() <= 0.5


def test_a_scale_in_other_units_is_said_with_the_files_own_range_and_tags(tmp_path, capsys):
    pixels = noise("int16", 1, 10_000)
    folder = dated(tmp_path / "s", pixels, scales=[1e-4] * 3, offsets=[-0.1] * 3)
    with pytest.warns(DataWarning, match=r"100% above.*`scale=\(0, 10000\)`.*scale=\"tags\""):
        table = datasets.geotiff(folder, chip_px=64, scale=(0, 1))
    with pytest.warns(DataWarning, match="100.0% at its upper end.*wider `scale`"):
        store = store_of(tmp_path / "c", table, 64)
    assert store.scenes["above_scale"].min() > 0.99 and store.scenes["below_scale"].max() == 0
    table = datasets.geotiff(folder, chip_px=64, scale="tags")
    low, high = table["scale_low"].iloc[0], table["scale_high"].iloc[0]
    assert (low, high) == (-0.1, 0.9)
    store = store_of(tmp_path / "tags", table, 64)
    physical = (store.chips[0].astype(float) - 1) / 65534 * (high - low) + low
    assert np.abs(physical - (pixels * 1e-4 - 0.1)).max() < 1e-4
    for words in (["--scale", "0", "10000"], ["--scale", "tags"]):
        main(["scenes", "geotiff", str(folder), "-o", str(tmp_path / "t.parquet"), *words])
    main(["scenes", "geotiff", str(folder), "-o", str(tmp_path / "t.parquet"), "--scale", "0", "1"])
    assert "pass `--scale 0 10000`, or `--scale tags`" in capsys.readouterr().err


def test_tags_hold_where_chips_are_warped(tmp_path):
    pixels = noise("int16", 1, 10_000)
    folder = dated(tmp_path / "s", pixels, scales=[1e-4] * 3, offsets=[0.5] * 3)
    table = datasets.geotiff(folder, chip_px=32, scale="tags")
    shifted = table.assign(left=table["left"] + 5, right=table["right"] + 5)  # half a pixel
    chip = store_of(tmp_path / "c", shifted[:1]).chips[0]
    low, high = table["scale_low"].iloc[0], table["scale_high"].iloc[0]
    physical = (chip.astype(float) - 1) / 65534 * (high - low) + low
    wanted = (pixels[:, :32, :32].astype(float) + pixels[:, :32, 1:33]) / 2 * 1e-4 + 0.5
    assert np.abs(physical - wanted).max() < 2e-4
    folder = dated(tmp_path / "none", pixels)
    with pytest.raises(ValueError, match=r"has no scale tags. Pass `scale=\(0, 10000\)`"):
        datasets.geotiff(folder, chip_px=32, scale="tags")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "value", "high"),
    [("int16", -9999, 8000), ("int16", -32768, 8000), ("uint16", 65535, 9000),
     ("float32", -9999.0, 1.0), ("float32", np.float32(1e20), 300.0), ("float64", -1e308, 5.0),
     ("uint8", 0, 255), ("uint16", 0, 9000)],
)  # fmt: skip
def test_undeclared_values_for_no_data_are_suspected_and_can_be_declared(
    tmp_path, dtype, value, high
):
    pixels = noise(dtype, 1 if dtype[0] in "iu" else high / 100, high)
    pixels[:, :, :40] = value
    folder = dated(tmp_path / "s", pixels)
    scale = None if dtype in ("uint8", "uint16") else (0, high)
    with pytest.warns(DataWarning, match="does not declare. Pass `nodata=") as caught:
        datasets.geotiff(folder, chip_px=32, scale=scale)
    text = next(str(w.message) for w in caught if "`nodata=" in str(w.message))
    nodata = float(text.split("`nodata=")[1].split("`")[0])
    assert np.array(nodata, dtype) == np.array(value, dtype)
    table = datasets.geotiff(folder, chip_px=32, scale=scale, nodata=nodata)
    with pytest.warns(DataWarning, match="4 of 8 chips have no data.*left out"):
        store = store_of(tmp_path / "c", table)
    assert len(store) == 4 and store.scenes["nodata_share"].tolist() == [0.25] * 4
    assert (store.chips[:, :, :, :8] == 0).all() and (store.chips[:, :, :, 8:] > 0).all()
    small = store_of(tmp_path / "small", table[-1:], 16)  # shrunk: values do not mix
    whole = store_of(tmp_path / "whole", datasets.geotiff(dated(tmp_path / "p", pixels[:, :, 40:]),
                     chip_px=24, scale=scale)[:1], 12)  # fmt: skip
    assert (small.chips[0, :, :, :4] == 0).all() and small.chips[0, :, :, 4:].min() > 0
    assert abs(int(small.chips[0, :, :, 4:].mean()) - int(whole.chips.mean())) < 0.05 * 65535


def test_pixels_of_every_value_are_not_suspected(tmp_path):
    rng = np.random.default_rng(0)
    dark = np.minimum(rng.exponential(3, (3, 64, 64)), 255).astype("uint8")  # many are 0
    mask = rng.integers(0, 2, (1, 64, 64)).astype("uint8") * 255
    white = np.minimum(noise(high=400, dtype="uint16"), 255).astype("uint8")
    sea = np.maximum(noise("int16", -500, 900), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, pixels in enumerate((dark, mask, white, noise("uint16", 0, 65536))):
            datasets.geotiff(dated(tmp_path / str(number), pixels), chip_px=32)
        datasets.geotiff(dated(tmp_path / "sea", sea, nodata=-9999), chip_px=32, scale=(0, 1000))
        declared = noise("int16", 1, 900)
        declared[:, :30] = -9999
        folder = dated(tmp_path / "declared", declared, nodata=-9999)
        datasets.geotiff(folder, chip_px=32, scale=(0, 1000))


@pytest.mark.parametrize("kind", ["complex64", "complex128", "complex_int16"])
def test_complex_pixels_are_refused_in_a_sentence(tmp_path, kind):
    pixels = noise("float32", 0, 1) + 1j * noise("float32", 0, 1)
    folder = tmp_path / "s"
    for year in (2019, 2020):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = tif(folder / f"s_{year}.tif", pixels.astype("complex64"))
            if kind != "complex64":
                with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=3,
                                   dtype=kind, **PLACE) as file:  # fmt: skip
                    file.write(pixels.astype("complex64"))
    for scale in (None, (0, 1)):
        with pytest.raises(ValueError, match="has complex pixels.* numpy.abs"):
            datasets.geotiff(folder, chip_px=32, scale=scale)


COLORS = {0: (0, 0, 0, 255), 1: (250, 10, 20, 255), 2: (10, 200, 30, 255), 3: (5, 6, 240, 255)}


def test_a_palette_becomes_its_colors(tmp_path):
    numbers = noise(low=0, high=4, bands=1)
    numbers[0, 32:, 32:] = 0
    folder = dated(tmp_path / "s", numbers, colors=COLORS, nodata=0)
    table = datasets.geotiff(folder, chip_px=32)
    assert table["band_names"].iloc[0] == "red,green,blue"
    with pytest.warns(DataWarning, match="2 of 8 chips have no data"):
        store = store_of(tmp_path / "c", table)
    lookup = np.array([COLORS[i] for i in range(4)])
    wanted = lookup[numbers[0, :32, :32], :3].transpose(2, 0, 1)
    np.testing.assert_array_equal(store.chips[0], wanted)
    assert store.scenes["nodata_share"][0] == (numbers[0, :32, :32] == 0).mean()
    half = store_of(tmp_path / "half", table[:1], 8).chips[0]  # means of the colors in 4 x 4
    part = numbers[0, :4, :4]
    mean = lookup[part][part > 0][:, :3].mean(0)
    assert np.abs(half[:, 0, 0] - mean).max() < 60 and len(np.unique(half)) > 60
    shifted = table.assign(left=table["left"] + 2, right=table["right"] + 2)[:1]
    warped = store_of(tmp_path / "warped", shifted, max_nodata_share=1).chips[0]
    assert set(map(tuple, warped.reshape(3, -1).T)) <= {c[:3] for c in COLORS.values()}
    (tmp_path / "k" / "a").mkdir(parents=True)
    (tmp_path / "k" / "b").mkdir()
    for name in "ab":
        shutil.copy(folder / "s_20190101.tif", tmp_path / "k" / name / "x.tif")
    table = datasets.image_folder(tmp_path / "k")
    chip = store_of(tmp_path / "ck", table, 64).chips[0]
    np.testing.assert_array_equal(chip, lookup[numbers[0], :3].transpose(2, 0, 1))


def image_table(paths, **about):
    return chips.add_pixel_columns(
        pd.DataFrame({"path": [str(p) for p in paths]}), reader="images", **about
    )


def test_pictures_of_every_mode_show_the_right_colors(tmp_path):
    rgb = noise(px=16).transpose(1, 2, 0)
    gray = rgb[..., 0]
    alpha = np.where(np.arange(16) < 8, 0, 255).astype("uint8") * np.ones((16, 1), "uint8")
    on = (gray > 127).astype("uint8") * 255
    many = Image.fromarray(np.repeat(np.repeat(rgb[::4, ::4], 4, 0), 4, 1))
    cases = {
        "p.png": (many.convert("P", palette=Image.Palette.ADAPTIVE), np.asarray(many), None),
        "p.gif": (many.convert("P", palette=Image.Palette.ADAPTIVE), np.asarray(many), None),
        "one.png": (Image.fromarray(on).convert("1"), np.stack([on] * 3, -1), None),
        "la.png": (Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]),
                   np.stack([gray] * 3, -1), alpha),
        "rgba.png": (Image.fromarray(np.dstack([rgb, alpha])), rgb, alpha),
        "rgba.webp": (Image.fromarray(np.dstack([rgb, alpha])), rgb, alpha),
        "cmyk.jpg": (many.convert("CMYK"), np.asarray(many), None),
    }  # fmt: skip
    for name, (image, wanted, mask) in cases.items():
        options = {"quality": 100} if name.endswith("jpg") else {}
        image.save(tmp_path / name, **({"lossless": True} if "webp" in name else options))
        found = chips.read_chips(image_table([tmp_path / name]), size_px=16)
        shown = np.ones((16, 16), bool) if mask is None else mask > 0
        np.testing.assert_array_equal(found.valid[0], shown)
        near = 40 if name == "cmyk.jpg" else 0
        off = np.abs(found.chips[0].transpose(1, 2, 0).astype(int) - wanted)[shown]
        assert off.mean() <= near / 4 and (near or off.max() == 0), name
        assert not found.chips[0][:, ~shown].any()


def png_of_16_bits(path, pixels, **options):
    """Written by GDAL: Pillow has no mode for colors of 16 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="PNG", width=16, height=16, count=len(pixels),
                           dtype="uint16", **options) as file:  # fmt: skip
            file.write(pixels)


def test_pngs_of_16_bits_keep_their_values(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pixels = noise("uint16", 1, 65536, bands=4, px=16)
    pixels[3] = np.where(np.arange(16) < 4, 0, 65535)
    for name in "ab":
        png_of_16_bits(tmp_path / name / "c.png", pixels[:3])
        png_of_16_bits(tmp_path / name / "rgba.png", pixels)
    table = datasets.image_folder(tmp_path)
    assert table["dtype"].iloc[0] == "uint16" and table["bands"].iloc[0] == "1,2,3"
    store = store_of(tmp_path / "c", table, 16)
    np.testing.assert_array_equal(store.chips[0], pixels[:3])
    np.testing.assert_array_equal(store.chips[1], pixels[:3] * (pixels[3] > 0))
    assert store.scenes["nodata_share"].tolist() == [0, 0.25] * 2
    png_of_16_bits(tmp_path / "gray.png", pixels[:1])
    found = chips.read_chips(
        image_table([tmp_path / "gray.png"], bands=[1], band_names=["value"], dtype="uint16"),
        size_px=16,
    )
    np.testing.assert_array_equal(found.chips[0], pixels[:1])


def test_declared_values_hold_in_pictures_and_arrays(tmp_path):
    pixels = noise(px=16).transpose(1, 2, 0)
    pixels[:, :4] = 0
    pixels[5, 9] = (0, 7, 7)  # dark in one band
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", pixels)
    rows = image_table([tmp_path / "a.png", tmp_path / "a.npy"], nodata=0)
    found = chips.read_chips(rows, size_px=16)
    assert (found.valid == (np.arange(16) >= 4)).all()
    np.testing.assert_array_equal(found.chips[0], found.chips[1])
    assert not chips.read_chips(rows, size_px=8).valid[..., :2].any()


def test_alpha_of_a_tif_is_its_mask_and_no_band(tmp_path):
    pixels = noise(bands=4)
    pixels[3] = np.where(np.arange(64) < 16, 0, 255)
    names = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    table = datasets.geotiff(dated(tmp_path / "s", pixels, interp=names), chip_px=32)
    store = store_of(tmp_path / "c", table)
    assert store.bands == ["red", "green", "blue"]
    assert store.scenes["nodata_share"].tolist() == [0.5, 0.5, 0, 0] * 2
    np.testing.assert_array_equal(store.chips[0], pixels[:3, :32, :32] * (pixels[3, :32, :32] > 0))


def test_chips_that_are_0_nan_or_masked_are_left_out_and_rows_stay_aligned(tmp_path, capsys):
    pixels = noise("float32", 1, 5, bands=1, px=96)
    pixels[:, :32, :32] = np.nan
    pixels[:, 32:64, :32] = 0
    pixels[:, 64:, :32] = -7
    pixels[:, 64:, 32:64][:, :31] = np.nan  # 31 of 32 rows
    table = datasets.geotiff(dated(tmp_path / "s", pixels, nodata=-7), chip_px=32, scale=(0, 5))
    with pytest.warns(DataWarning, match="8 of 18 chips have no data in more than 90% of their"):
        store = store_of(tmp_path / "c", table)
    assert len(store) == 10 and store.info["empty_rows"] == 8
    for chip, row in zip(store.chips, store.scenes.itertuples(), strict=True):
        y, x = (int(n) for n in row.location[1:].split("c"))
        value = (chip.astype(float) - 1) / 65534 * 5
        assert np.abs(value - pixels[:, y : y + 32, x : x + 32]).max() < 1e-4
    everything = store_of(tmp_path / "all", table, max_nodata_share=1)
    assert len(everything) == 18 and everything.scenes["nodata_share"].eq(1).sum() == 6
    with pytest.raises(ValueError, match="`max_nodata_share` = 1"):
        store_of(tmp_path / "all", table)
    main(["scenes", "describe", str(tmp_path / "c")])
    assert "8 of 18 chips have no data" in capsys.readouterr().out


def test_a_range_is_rounded_outward():
    for low, high, wanted in [(11, 9989, (0, 10000)), (0.0012, 0.9987, (0, 1)), (-3, -3, None),
                              (-1e308, 1e308, None), (0, 0, None), (5, 5.0001, None)]:  # fmt: skip
        found = outward(low, high)
        assert found[0] <= low and high <= found[1] and found[0] < found[1]
        assert wanted is None or found == wanted
