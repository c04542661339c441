import numpy as np
import pandas as pd
import pytest

from geossl.utils import colors


def codes(paint):
    assert paint.values.dtype == np.uint8
    return paint.values


def test_few_words_get_a_color_each_and_missing_ones_are_gray():
    values = pd.Series(["b", None, "a", "b"], name="label")
    paint, legend = colors.color_by_column(values)
    seen = [paint.palette[code] for code in codes(paint)]
    a, b = colors.PALETTE[:2]
    assert seen == [b, colors.GRAY, a, b]
    assert legend["entries"] == [[a, "a (1)"], [b, "b (2)"], [colors.GRAY, "no value (1)"]]


def test_twenty_words_have_a_color_each_and_more_make_others():
    ten = pd.Series(list("abcdefghij"), name="class")  # as EuroSAT
    paint, legend = colors.color_by_column(ten)
    assert len({paint.palette[code] for code in codes(paint)} - {colors.GRAY}) == 10
    assert [entry[0] for entry in legend["entries"]] == list(colors.CATEGORIES[:10])
    twenty = pd.Series(list("abcdefghijklmnopqrst"), name="x")
    assert len(set(codes(colors.color_by_column(twenty)[0]))) == 20
    more = pd.Series(list("abcdefghijklmnopqrs" * 2 + "tu"), name="x")
    paint, legend = colors.color_by_column(more)
    assert legend["entries"][-1] == [colors.GRAY, "2 others (2)"]
    assert [paint.palette[c] for c in codes(paint)[-2:]] == [colors.GRAY] * 2


def lab(hexes, matrix=None):
    """CIE Lab of hex colors as somebody with the given color vision sees them."""
    skimage_color = pytest.importorskip("skimage.color")
    rgb = np.array([list(bytes.fromhex(color[1:])) for color in hexes]) / 255
    if matrix is not None:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = np.clip(linear @ np.array(matrix).T, 0, 1)
        rgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return skimage_color.rgb2lab(rgb[None])[0]


VISION = {  # Machado, Oliveira and Fernandes 2009, severity 1.0, of linear RGB
    "all": (None, 26),
    "deuteranopia": (
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]], 16.5,
    ),
    "protanopia": (
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]], 19,
    ),
}  # fmt: skip


@pytest.mark.parametrize("vision", VISION)
def test_twenty_colors_are_told_apart_by_all_eyes(vision):
    matrix, least = VISION[vision]
    points = lab(colors.CATEGORIES, matrix)
    apart = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(20)
    assert apart.min() > least  # 2.3 is just noticeable; no pair is closer than some of the eight
    eight = apart[:8, :8].min()
    assert apart.min() > eight - 2


def test_twenty_colors_stand_out_from_what_is_behind_them():
    behind = ["#ffffff", "#111111", colors.GRAY, "#3b5230"]  # the last: forest from above
    apart = np.linalg.norm(lab(colors.CATEGORIES)[:, None] - lab(behind), axis=-1)
    assert (apart.min(0) > [29, 23, 27, 23]).all()


def test_a_ramp_is_steady_and_shrugs_off_odd_values():
    values = pd.Series(np.r_[np.linspace(0, 1, 1000), 1e9], name="v")
    paint, legend = colors.color_by_column(values)
    found = codes(paint).astype(int)
    assert (np.diff(found) >= 0).all() and found[0] == 0 and found[-1] == 63
    assert np.unique(found).size == 64 and legend["high"].startswith("0.98")
    same = colors.color_by_column(pd.Series([2.0, 2.0], name="v"))[0]
    assert len(set(codes(same))) == 1


def test_whole_numbers_are_words_when_few_and_a_ramp_when_many():
    assert "entries" in colors.color_by_column(pd.Series([1, 2, 3] * 5, name="n"))[1]
    assert "ramp" in colors.color_by_column(pd.Series(range(50), name="n"))[1]


def test_a_column_of_nothing_is_gray():
    paint, legend = colors.color_by_column(pd.Series([np.nan, np.nan], name="v"))
    assert {paint.palette[c] for c in codes(paint)} == {colors.GRAY}
    assert legend["entries"] == [[colors.GRAY, "no value (2)"]]


def test_colors_of_a_part_and_as_rgb():
    values = pd.Series(list("abcab"), name="x")
    paint, _ = colors.color_by_column(values)
    part = paint.subset(np.array([4, 0]))
    assert codes(part).tolist() == codes(paint)[[4, 0]].tolist()
    rgb = paint.rgb()
    assert rgb.shape == (5, 3) and rgb[0].tolist() == [0x00, 0x72, 0xB2]
