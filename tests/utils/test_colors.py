import numpy as np
import pandas as pd

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


def test_eight_words_fill_the_palette_and_a_ninth_makes_others():
    eight = pd.Series(list("abcdefgh"), name="x")
    assert len(set(codes(colors.color_by_column(eight)[0]))) == 8
    nine = pd.Series(list("aabbccddeeffgghi"), name="x")
    paint, legend = colors.color_by_column(nine)
    assert legend["entries"][-1] == [colors.GRAY, "2 others (2)"]
    assert [paint.palette[c] for c in codes(paint)[-2:]] == [colors.GRAY] * 2


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
