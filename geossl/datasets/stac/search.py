"""What a STAC API has of a place: dates, clouds, licenses, and where the pixels of a band are.

Two public catalogs that need no key are known by name; any other API by its address.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from geossl.datasets.stac.http import GaveUpError, Patience, fetch


@dataclass(frozen=True)
class Catalog:
    """A STAC API, and where it gives out the tokens that its assets need, if they do.

    Attributes:
        url: of the API's landing page.
        token_url: ``token_url/COLLECTION`` answers with a token, a query for the assets' addresses.
        signed_hosts: ends of the names of the servers that are shown the token, and no others.
    """

    url: str
    token_url: str | None = None
    signed_hosts: tuple[str, ...] = ()


CATALOGS = {
    "earth-search": Catalog("https://earth-search.aws.element84.com/v1"),
    # tokens: https://planetarycomputer.microsoft.com/docs/concepts/sas
    "planetary-computer": Catalog(
        "https://planetarycomputer.microsoft.com/api/stac/v1",
        "https://planetarycomputer.microsoft.com/api/sas/v1/token",
        (".blob.core.windows.net",),
    ),
}
_MOST_ITEMS = 5_000  # of one place
_PAGE = 100
_KEPT = ("platform", "s2:processing_baseline", "earthsearch:boa_offset_applied")
_ODD = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
_tokens: dict[str, tuple[float, str]] = {}
_asking = threading.Lock()


@dataclass(frozen=True)
class Search:
    """What is asked of a collection for every place; made by `open_search`."""

    catalog: Catalog
    url: str
    collection: str
    license: str
    start: date
    end: date
    max_cloud: float
    can_query: bool
    patience: Patience


@dataclass(frozen=True)
class Item:
    """One acquisition: ``assets`` as in STAC, ``cloud`` in percent or None, ``about`` for notes."""

    id: str
    time: datetime
    cloud: float | None
    license: str
    footprint: Any
    assets: dict[str, Any]
    about: dict[str, Any]


def open_search(
    api: str | Catalog,
    collection: str,
    *,
    start: date,
    end: date,
    max_cloud: float,
    patience: Patience,
) -> Search:
    """Ask an API what it can do, and what the collection's license is.

    Args:
        api: "earth-search", "planetary-computer", an address, or a `Catalog`.
        collection: name of the collection there, such as "sentinel-2-l2a".
        start: first day.
        end: last day.
        max_cloud: in percent of a scene; scenes that tell no cloud cover are taken.
        patience: with the servers.

    Raises:
        ValueError: no such collection, or ``api`` is neither a name nor an address.
        ConnectionError: no STAC API answers.
    """
    from pystac.errors import STACError, STACTypeError
    from pystac_client import Client
    from pystac_client.errors import ClientTypeError

    found = api if isinstance(api, Catalog) else _catalog(api)
    what = f"a STAC API at {found.url}"
    try:
        client = Client.open(found.url, stac_io=_io(patience))
        link: Any = client.get_search_link()
        url = link.href
        what = f"a collection {collection!r} of {found.url}"
        listed: Any = client.get_collection(collection)
        about = listed.to_dict(transform_hrefs=False)
        license = _license(about, about.get("license"))
    except GaveUpError as error:
        if "HTTP 404" in str(error):
            raise ValueError(f"expected {what}, there is none (HTTP 404)") from None
        raise ConnectionError(f"expected {what}, came none: {error}") from None
    except (*_ODD, STACError, STACTypeError, ClientTypeError) as error:
        raise ConnectionError(
            f"expected {what}, came something else ({type(error).__name__}: {error})"
        ) from None
    return Search(
        catalog=found,
        url=url,
        collection=collection,
        license=license,
        start=start,
        end=end,
        max_cloud=max_cloud,
        can_query=bool(client.conforms_to("QUERY")),
        patience=patience,
    )


def _catalog(api: str) -> Catalog:
    if api in CATALOGS:
        return CATALOGS[api]
    if not api.startswith(("http://", "https://")):
        raise ValueError(
            f"expected an address of a STAC API or one of {', '.join(CATALOGS)}, came {api!r}"
        )
    same = (known for known in CATALOGS.values() if known.url == api.rstrip("/"))
    return next(same, Catalog(api))


def _io(patience: Patience) -> Any:
    """pystac-client's way to the network, by way of `fetch`; it opens no local file."""
    from pystac_client.stac_api_io import StacApiIO

    class Polite(StacApiIO):
        def request(
            self, href: str, method: Any = None, headers: Any = None, parameters: Any = None
        ) -> str:
            body = (parameters or {}) if (method or "GET").upper() == "POST" else None
            return fetch(href, patience=patience, body=body).decode()

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            if isinstance(source, str):
                return self.request(source, *args, **kwargs)
            return super().read_text(source, *args, **kwargs)

    return Polite()


def items_at(search: Search, lon: float, lat: float) -> list[Item]:
    """Items over a point between the dates and under the cloud limit, in order of time and id.

    Raises:
        GaveUpError: no answer, or none that is STAC.
    """
    from pystac_client import ItemSearch

    cloud = {"eo:cloud_cover": {"lte": search.max_cloud}}
    limited = search.can_query and search.max_cloud < 100
    for query in [cloud, None] if limited else [None]:  # None: scenes may tell no cloud cover
        try:
            pages = ItemSearch(
                search.url,
                method="POST",
                max_items=_MOST_ITEMS,
                limit=_PAGE,
                stac_io=_io(search.patience),
                collections=[search.collection],
                intersects={"type": "Point", "coordinates": [lon, lat]},
                datetime=f"{search.start}T00:00:00Z/{search.end}T23:59:59Z",
                query=query,
            ).items_as_dicts()
            items = [item for found in pages if (item := _item(found, search)) is not None]
        except _ODD as error:
            raise GaveUpError(f"no STAC answer ({type(error).__name__})", again=True) from None
        if items:
            break
    return sorted(items, key=lambda item: (item.time, item.id))


def _item(found: Any, search: Search) -> Item | None:
    """A checked item; None for one that is not whole, or not what was asked for."""
    try:
        about, assets = found["properties"], found["assets"]
        text = about.get("datetime") or about["start_datetime"]
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        cloud = about.get("eo:cloud_cover")
        cloud = None if cloud is None else float(cloud)
        item = Item(
            id=_text(found["id"]),
            time=when,
            cloud=cloud,
            license=_license(found, about.get("license")) or search.license,
            footprint=found.get("geometry"),
            assets={key: one for key, one in assets.items() if isinstance(one["href"], str)},
            about={key: _text(about[key]) for key in _KEPT if key in about},
        )
    except _ODD:
        return None
    wanted = search.start <= when.date() <= search.end
    return item if wanted and not (cloud is not None and cloud > search.max_cloud) else None


def _text(value: Any) -> str:
    """A text that can be written anywhere."""
    return "".join(letter for letter in str(value)[:300] if letter.isprintable())


def _license(about: dict[str, Any], name: Any) -> str:
    """The name of a license, and the page that a collection or item gives for it."""
    links = [link for link in about.get("links") or [] if link.get("rel") == "license"]
    return _text(
        " ".join([str(name), *(str(link.get("href")) for link in links[:1])]) if name else ""
    )


def find_band(item: Item, band: str) -> tuple[str, int]:
    """The address of the file that has a band, and the band's number in it.

    Args:
        item: of `items_at`.
        band: key of an asset ("red"); key and number ("visual:2"); or the name or common name that
            the item gives to a band ("B04", "red"), where the file with fewest bands is taken.

    Raises:
        GaveUpError: the item has no such GeoTIFF.
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
    found = []
    for key, asset in tiffs.items():
        listed = asset.get("eo:bands") or asset.get("bands") or []
        for n, one in enumerate(listed if isinstance(listed, list) else [], 1):
            keys = ("name", "common_name", "eo:common_name")
            names = [one.get(k) for k in keys] if isinstance(one, dict) else []
            if band.lower() in [str(name).lower() for name in names]:
                found.append((len(listed), key, n))
    if not found:
        raise GaveUpError(f"no GeoTIFF for the band {band!r} among {', '.join(tiffs)}"[:300])
    _, key, n = min(found)
    return tiffs[key]["href"], n


def sign_url(href: str, search: Search) -> str:
    """The address with the token that its server wants, if it is one that does.

    Raises:
        GaveUpError: no token was given.
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
    with _asking:
        until, token = _tokens.get(url, (0.0, ""))
        if time.time() > until:
            try:
                answer = json.loads(fetch(url, patience=search.patience))
                token = str(answer["token"])
                ends = datetime.fromisoformat(answer["msft:expiry"]) - timedelta(minutes=5)
                _tokens[url] = ends.timestamp(), token
            except _ODD as error:
                raise GaveUpError(f"no token ({type(error).__name__})", again=True) from None
    return f"{href}{'&' if '?' in href else '?'}{token}"
