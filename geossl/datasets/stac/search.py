"""Search a STAC API for the items of a location: dates, clouds, licenses, files of the bands.

Two public catalogs that need no key have a name; any other API is given by its address.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from annotated_types import Interval

from geossl.utils.http import RetryPolicy, UnavailableError, fetch
from geossl.utils.validate import Latitude, Longitude, check_fields, validated

__all__ = [
    "CATALOGS", "Catalog", "Item", "Search", "find_band", "items_at", "open_search", "sign_url",
]  # fmt: skip


@dataclass(frozen=True)
class Catalog:
    """A STAC API, and the source of the tokens that its assets may need.

    Attributes:
        url: of the API's landing page.
        token_url: ``token_url/COLLECTION`` returns a token, a query for the addresses of assets.
        signed_hosts: endings of the names of the only servers that get the token.
    """

    url: str
    token_url: str | None = None
    signed_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


CATALOGS = {
    "earth-search": Catalog("https://earth-search.aws.element84.com/v1"),
    # tokens: https://planetarycomputer.microsoft.com/docs/concepts/sas
    "planetary-computer": Catalog(
        "https://planetarycomputer.microsoft.com/api/stac/v1",
        "https://planetarycomputer.microsoft.com/api/sas/v1/token",
        (".blob.core.windows.net",),
    ),
}
_MAX_ITEMS = 5_000  # of one location
_PAGE = 100
_NOTES = ("platform", "s2:processing_baseline", "earthsearch:boa_offset_applied")
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
_tokens: dict[str, tuple[float, str]] = {}
_token_lock = threading.Lock()


@dataclass(frozen=True)
class Search:
    """Search options of a collection for every location, as `open_search` returns them."""

    catalog: Catalog
    url: str
    collection: str
    license: str
    start: date
    end: date
    max_cloud: float
    can_query: bool
    policy: RetryPolicy


@dataclass(frozen=True)
class Item:
    """One acquisition: ``assets`` as in STAC, ``cloud`` in percent or None, ``about`` has notes."""

    id: str
    time: datetime
    cloud: float | None
    license: str
    footprint: Any
    assets: dict[str, Any]
    about: dict[str, Any]


@validated
def open_search(
    api: str | Catalog,
    collection: str,
    *,
    start: date,
    end: date,
    max_cloud: Annotated[float, Interval(ge=0, le=100)],
    policy: RetryPolicy,
) -> Search:
    """Ask an API for its abilities and the license of a collection.

    Args:
        api: "earth-search", "planetary-computer", an address, or a `Catalog`.
        collection: name of the collection there, such as "sentinel-2-l2a".
        start: first day.
        end: last day.
        max_cloud: in percent of a scene; scenes without a cloud cover pass.
        policy: tries and time-out of a request.

    Raises:
        ValueError: no such collection, or ``api`` is neither a name nor an address.
        ConnectionError: no STAC API answers.
    """
    from pystac.errors import STACError, STACTypeError
    from pystac_client import Client
    from pystac_client.errors import ClientTypeError

    catalog = api if isinstance(api, Catalog) else _catalog(api)
    target = f"STAC API at {catalog.url}"
    try:
        client = Client.open(catalog.url, stac_io=_io(policy))
        link: Any = client.get_search_link()
        url = link.href
        target = f"collection {collection!r} at {catalog.url}"
        listed: Any = client.get_collection(collection)
        about = listed.to_dict(transform_hrefs=False)
        license = _license(about, about.get("license"))
    except UnavailableError as error:
        if "HTTP 404" in str(error):
            raise ValueError(
                f"There is no {target} (HTTP 404). Look for a typo in `api` and `collection`."
            ) from None
        raise ConnectionError(f"The {target} cannot be reached: {error}.") from None
    except (*_MALFORMED, STACError, STACTypeError, ClientTypeError) as error:
        raise ConnectionError(
            f"There is no {target}, but something else ({type(error).__name__}: {error})."
        ) from None
    return Search(
        catalog=catalog,
        url=url,
        collection=collection,
        license=license,
        start=start,
        end=end,
        max_cloud=max_cloud,
        can_query=bool(client.conforms_to("QUERY")),
        policy=policy,
    )


def _catalog(api: str) -> Catalog:
    if api in CATALOGS:
        return CATALOGS[api]
    if not api.startswith(("http://", "https://")):
        raise ValueError(
            f"`api` must be one of {list(CATALOGS)} or start with https://, got {api!r}."
        )
    same = (known for known in CATALOGS.values() if known.url == api.rstrip("/"))
    return next(same, Catalog(api))


def _io(policy: RetryPolicy) -> Any:
    """Return pystac-client's access to the network by `fetch`; it opens no local file."""
    from pystac_client.stac_api_io import StacApiIO

    class _Io(StacApiIO):
        def request(
            self, href: str, method: Any = None, headers: Any = None, parameters: Any = None
        ) -> str:
            body = (parameters or {}) if (method or "GET").upper() == "POST" else None
            return fetch(href, policy=policy, body=body).decode()

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            if isinstance(source, str):
                return self.request(source, *args, **kwargs)
            return super().read_text(source, *args, **kwargs)

    return _Io()


@validated
def items_at(search: Search, lon: Longitude, lat: Latitude) -> list[Item]:
    """Return the items over a point between the dates and under the cloud limit, by time and id.

    Raises:
        UnavailableError: no answer, or none that is STAC.
    """
    from pystac_client import ItemSearch

    cloud = {"eo:cloud_cover": {"lte": search.max_cloud}}
    limited = search.can_query and search.max_cloud < 100
    for query in [cloud, None] if limited else [None]:  # None: scenes may have no cloud cover
        try:
            pages = ItemSearch(
                search.url,
                method="POST",
                max_items=_MAX_ITEMS,
                limit=_PAGE,
                stac_io=_io(search.policy),
                collections=[search.collection],
                intersects={"type": "Point", "coordinates": [lon, lat]},
                datetime=f"{search.start}T00:00:00Z/{search.end}T23:59:59Z",
                query=query,
            ).items_as_dicts()
            items = [item for page in pages if (item := _item(page, search)) is not None]
        except _MALFORMED as error:
            raise UnavailableError(
                f"no STAC answer ({type(error).__name__})", temporary=True
            ) from None
        if items:
            break
    return sorted(items, key=lambda item: (item.time, item.id))


def _item(raw: Any, search: Search) -> Item | None:
    """Return a checked item; None for one that is malformed or beyond the search options."""
    try:
        about, assets = raw["properties"], raw["assets"]
        text = about.get("datetime") or about["start_datetime"]
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        cloud = about.get("eo:cloud_cover")
        cloud = None if cloud is None else float(cloud)
        item = Item(
            id=_text(raw["id"]),
            time=when,
            cloud=cloud,
            license=_license(raw, about.get("license")) or search.license,
            footprint=raw.get("geometry"),
            assets={key: asset for key, asset in assets.items() if isinstance(asset["href"], str)},
            about={key: _text(about[key]) for key in _NOTES if key in about},
        )
    except _MALFORMED:
        return None
    matches = search.start <= when.date() <= search.end
    return item if matches and (cloud is None or not cloud > search.max_cloud) else None


def _text(value: Any) -> str:
    """Return a short text that can be written anywhere."""
    return "".join(letter for letter in str(value)[:300] if letter.isprintable())


def _license(about: dict[str, Any], name: Any) -> str:
    """Return the name of a license, and the page that a collection or item links for it."""
    links = [link for link in about.get("links") or [] if link.get("rel") == "license"]
    return _text(
        " ".join([str(name), *(str(link.get("href")) for link in links[:1])]) if name else ""
    )


@validated
def find_band(item: Item, band: str) -> tuple[str, int]:
    """Return the address of the file that has a band, and the band's number in it.

    Args:
        item: of `items_at`.
        band: key of an asset ("red"); key and number ("visual:2"); or the name or common name that
            the item gives to a band ("B04", "red"), where the file with fewest bands is taken.

    Raises:
        UnavailableError: the item has no such GeoTIFF.
    """
    tiffs = {
        key: asset
        for key, asset in item.assets.items()
        if "tif" in str(asset.get("type") or "tif").lower()
    }
    if band in tiffs:
        return tiffs[band]["href"], 1
    key, _, number = band.rpartition(":")
    if key in tiffs and number.isascii() and number.isdigit() and int(number) > 0:
        return tiffs[key]["href"], int(number)
    matches = []
    for key, asset in tiffs.items():
        listed = asset.get("eo:bands") or asset.get("bands") or []
        for n, info in enumerate(listed if isinstance(listed, list) else [], 1):
            keys = ("name", "common_name", "eo:common_name")
            names = [info.get(k) for k in keys] if isinstance(info, dict) else []
            if band.lower() in [str(name).lower() for name in names]:
                matches.append((len(listed), key, n))
    if not matches:
        raise UnavailableError(f"no GeoTIFF for the band {band!r} among {', '.join(tiffs)}"[:300])
    _, key, n = min(matches)
    return tiffs[key]["href"], n


@validated
def sign_url(href: str, search: Search) -> str:
    """Return the address with the token that its server needs, if it needs one.

    Raises:
        UnavailableError: there is no token.
    """
    catalog = search.catalog
    if catalog.token_url is None:
        return href
    try:
        host = urlsplit(href).hostname or ""
    except ValueError:
        host = ""
    if not host.endswith(catalog.signed_hosts):
        return href
    url = f"{catalog.token_url}/{search.collection}"
    with _token_lock:
        until, token = _tokens.get(url, (0.0, ""))
        if time.time() > until:
            try:
                answer = json.loads(fetch(url, policy=search.policy))
                token = str(answer["token"])
                ends = datetime.fromisoformat(answer["msft:expiry"]) - timedelta(minutes=5)
                _tokens[url] = ends.timestamp(), token
            except _MALFORMED as error:
                raise UnavailableError(
                    f"no token ({type(error).__name__})", temporary=True
                ) from None
    return f"{href}{'&' if '?' in href else '?'}{token}"
