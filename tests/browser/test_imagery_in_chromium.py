"""Scenes on a map in a browser: the newest, those of a date, and their opacity."""

import pandas as pd
from test_maps_imagery import scenes_of

from geossl.viz import maps

SHOWN = """[...document.querySelectorAll('img.geossl-scene')]
    .map((image) => [image.alt, Number(image.style.opacity || 1)]).sort()"""


def test_the_newest_scenes_are_shown_and_those_of_a_chosen_date(visit, tmp_path):
    scenes = scenes_of(tmp_path)
    late = scenes["path"].str.contains("1_2021")
    scenes.loc[late, "time"] = pd.Timestamp("2022-01-01", tz="UTC")
    maps.map_scenes(scenes, imagery=True).save(tmp_path / "map.html")
    page = visit(tmp_path / "map.html", 800, 500)
    both = [["0_2021-06-01.tif", 1], ["1_2021-06-01.tif", 1]]
    assert page.evaluate(SHOWN) == both
    choice = page.locator(".geossl-imagery select")
    options = choice.locator("option").all_text_contents()
    assert options == ["newest", "2022-01-01", "2021-06-01", "2020-01-01"]
    choice.select_option("2021-06-01")  # as of this date
    assert page.evaluate(SHOWN) == [["0_2021-06-01.tif", 1], ["1_2020-01-01.tif", 1]]
    page.locator(".geossl-imagery input").fill("40")
    assert [opacity for _, opacity in page.evaluate(SHOWN)] == [0.4, 0.4]
    choice.select_option("newest")
    assert page.evaluate(SHOWN) == [[name, 0.4] for name, _ in both] and page.errors == []
