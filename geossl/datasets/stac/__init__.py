"""Build your own time series: chips of places at several dates, out of a STAC API.

pandas and what reads rasters load when a harvest starts: the command line imports this room.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl.datasets.stac import search as stac
from geossl.datasets.stac.http import Patience
from geossl.utils.io import atomic_write, lock_folder

if TYPE_CHECKING:
    import pandas as pd

    from geossl.datasets.stac.worker import Plan

_OURS = re.compile(r"chips/\d{6,}/\d{8}_[0-9a-f]{12}\.tif")
_MOST_SILENT = 20  # places without an answer, one after the other


def harvest(
    output_dir: str | Path,
    places: pd.DataFrame,
    *,
    start: str | date,
    end: str | date,
    api: str | stac.Catalog = "earth-search",
    collection: str = "sentinel-2-l2a",
    dates: int = 4,
    max_cloud: float = 20.0,
    chip_px: int = 128,
    resolution_m: float | None = 10.0,
    bands: Sequence[str] = ("red", "green", "blue"),
    scale: tuple[float, float] | None = None,
    max_nodata: float = 0.05,
    patience: Patience | None = None,
    num_workers: int | None = 8,
    dask: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Chips of places at well spread dates, as small GeoTIFFs in ``output_dir``; a second call goes on.

    Of every scene only the blocks are read that the chip needs. A chip lies on the pixels of the
    scene, in the scene's own CRS, about the place; bands of other resolution are resampled onto
    it (bilinear, or the average where they are finer). Values stay as they are in the files: where
    a catalog changes them with time (the Planetary Computer's Sentinel-2 has 1000 added from
    January 2022 on, processing baseline 04.00), ``manifest.jsonl`` says so under ``about``.

    ``output_dir`` gets ``chips/``, ``scenes.parquet`` (the table returned) and ``manifest.jsonl``: a line
    for each place with the items tried, their license, clouds, addresses, and what became of them.
    Places that got too few dates because a server did not answer are tried again by a second call.

    Args:
        output_dir: folder of the harvest.
        places: ``location, lon, lat`` (and ``label, split``), or any scene table.
        start: first day, such as "2019-01-01".
        end: last day.
        api: "earth-search", "planetary-computer" (no key needed for either), the address of
            another STAC API, or a `geossl.datasets.stac.search.Catalog`.
        collection: of the API.
        dates: wanted of each place.
        max_cloud: in percent of the whole scene; scenes that tell no cloud cover are taken.
        chip_px: side of a chip.
        resolution_m: side of a pixel in meters (of the scene's CRS); None for that of the file with
            the first of ``bands``.
        bands: keys of assets, "key:number", or names or common names of bands.
        scale: (lowest, highest) value, which become 1 and 65535 in a chip store; needed for files
            of other types than uint8 and uint16.
        max_nodata: share of a chip that may be without data.
        patience: tries and time-out of a request.
        num_workers: places at a time; None for all cores, or what the cluster has.
        dask: a Dask cluster to work on, see `geossl.utils.parallel.run_tasks`.
        progress: show a bar.

    Returns:
        Scene table, a row per chip in order of place and time, with ``item, collection, license,
        cloud_cover`` beside the known columns. ``attrs["short"]`` maps the locations with fewer
        dates than wanted to the reason.

    Raises:
        ValueError: wrong arguments, an unknown collection, ``output_dir`` holds another harvest, or no
            place got a chip.
        ConnectionError: the API does not answer, or twenty places in a row got no answer.
        ImportError: pystac-client is missing.
    """
    from tqdm import tqdm

    from geossl.data import scenes
    from geossl.data.table_files import write
    from geossl.datasets.stac.worker import Place, Plan, harvest_place
    from geossl.utils.parallel import run_tasks

    first, last = _day(start, "start"), _day(end, "end")
    bands = tuple(bands)
    _check(first, last, dates, max_cloud, chip_px, resolution_m, bands, max_nodata, scale)
    table = scenes.check(places, source="the places")
    table = table.drop_duplicates("location", ignore_index=True)
    try:
        import pystac_client  # noqa: F401
    except ImportError:
        raise ImportError(
            "a harvest needs the package pystac-client; run: pip install 'geossl[stac]'"
        ) from None
    output_dir, patience = Path(output_dir), patience or Patience()
    search = stac.open_search(
        api, collection, start=first, end=last, max_cloud=max_cloud, patience=patience
    )
    plan = Plan(output_dir.absolute(), search, dates, chip_px, resolution_m, bands, max_nodata)
    output_dir.mkdir(parents=True, exist_ok=True)
    with lock_folder(output_dir):
        _same_harvest(plan, table)
        for half in output_dir.glob("chips/*/.*.part.tif"):  # of a harvest that was killed
            half.unlink()
        records = _journal(output_dir)
        todo = [
            Place(i, lon, lat)
            for i, (lon, lat) in enumerate(zip(table["lon"], table["lat"], strict=True))
            if not records.get(i, {}).get("complete")
        ]
        bar = tqdm(
            total=len(table), initial=len(table) - len(todo), desc="places", disable=not progress
        )
        work = run_tasks(partial(harvest_place, plan), todo, num_workers=num_workers, dask=dask)
        silent = 0
        with (
            bar,
            closing(work),
            open(output_dir / "manifest.jsonl", "a", encoding="utf-8") as journal,
        ):
            for place, record in work:
                _check_record(record, output_dir, scale)
                record = {"place": place.number, "location": str(table["location"][place.number]),
                          **record}  # fmt: skip
                journal.write(f"\n{json.dumps(record)}")  # \n first: a line may be torn
                journal.flush()
                records[place.number] = record
                bar.update()
                found = any(item["status"] == "ok" for item in record["items"])
                silent = 0 if found or record["complete"] else silent + 1
                if silent == _MOST_SILENT:
                    raise ConnectionError(
                        f"{silent} places one after the other got no answer, the last: "
                        f"{record['reason']}; give the same command later, it goes on from here"
                    )
        with atomic_write(output_dir / "manifest.jsonl") as part:
            lines = (json.dumps(records[i]) for i in range(len(table)))
            part.write_text("\n".join(lines) + "\n", "utf-8")
        made = _table(table, records, plan, output_dir, scale)
        for spare in set(output_dir.glob("chips/*/*.tif")) - set(map(Path, made["path"])):
            spare.unlink()  # in place of a date that gave no answer then, and does now
        write(made, output_dir / "scenes.parquet")
    return made


def _day(text: str | date, name: str) -> date:
    try:
        return date.fromisoformat(str(text)[:10])  # datetimes and timestamps as well
    except ValueError:
        raise ValueError(f"expected {name} as a day such as 2019-01-01, came {text!r}") from None


def _check(
    first: date,
    last: date,
    dates: int,
    max_cloud: float,
    chip_px: int,
    resolution_m: float | None,
    bands: tuple[str, ...],
    max_nodata: float,
    scale: tuple[float, float] | None,
) -> None:
    if first > last:
        raise ValueError(f"expected start before end, came {first} and {last}")
    for name, value, low, high in (
        ("dates", dates, 1, 10_000),
        ("max_cloud", max_cloud, 0, 100),
        ("chip_px", chip_px, 1, 4096),
        ("max_nodata", max_nodata, 0, 1),
    ):
        if not low <= value <= high:
            raise ValueError(f"expected {name} from {low} to {high}, came {value}")
    if resolution_m is not None and not 0 < resolution_m < 1e6:
        raise ValueError(f"expected resolution_m > 0 meters, came {resolution_m}")
    if not bands or len(set(bands)) < len(bands) or any("," in band for band in bands):
        raise ValueError(f"expected different bands without commas, came {list(bands)}")
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"expected scale=(lowest, highest), came {scale}")


def _same_harvest(plan: Plan, table: pd.DataFrame) -> None:
    """Write what the folder is a harvest of, or refuse a folder that holds another."""
    places = json.dumps(table[["location", "lon", "lat"]].round(7).astype(str).to_numpy().tolist())
    asked = {
        key: str(value)
        for key, value in {**asdict(plan.search), **asdict(plan)}.items()
        if key not in ("out", "search", "patience", "license", "can_query", "url")
    }
    asked["places"] = (
        f"{len(table)} ({hashlib.blake2b(places.encode(), digest_size=8).hexdigest()})"
    )
    path = plan.out / "harvest.json"
    if path.exists():
        try:
            there = json.loads(path.read_text("utf-8"))
            differ = [key for key in asked if there.get(key) != asked[key]]
        except (ValueError, AttributeError, RecursionError):
            there, differ = {}, list(asked)
        if differ:
            key = differ[0]
            raise ValueError(
                f"{plan.out} holds a harvest with {key} {there.get(key)!r}, not {asked[key]!r}; "
                "remove the folder or give another one"
            )
    else:
        with atomic_write(path) as part:
            part.write_text(json.dumps(asked, indent=1), "utf-8")


def _journal(out: Path) -> dict[int, dict[str, Any]]:
    """The last record of each place whose chips are all there; a torn line counts for nothing."""
    path, records = out / "manifest.jsonl", {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
            good = [item for item in record["items"] if item["status"] == "ok"]
            if all(_OURS.fullmatch(item["path"]) and (out / item["path"]).is_file()
                   for item in good):  # fmt: skip
                records[int(record["place"])] = record
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return records


def _check_record(record: dict[str, Any], out: Path, scale: tuple[float, float] | None) -> None:
    for item in record["items"]:
        if item["status"] == "ok" and not (out / item["path"]).is_file():
            raise FileNotFoundError(
                f"expected {out / item['path']}, which a worker wrote, it is not there; all "
                "machines of a Dask cluster must share the folder"
            )
        if scale is None and item.get("dtype", "uint8") not in ("uint8", "uint16"):
            raise ValueError(
                f"expected files of uint8 or uint16, came {item['dtype']} in {item['item']}; give "
                "scale=(lowest, highest) and start again"
            )


def _table(
    places: pd.DataFrame,
    records: dict[int, dict[str, Any]],
    plan: Plan,
    out: Path,
    scale: tuple[float, float] | None,
) -> pd.DataFrame:
    import pandas as pd

    from geossl.data import scenes
    from geossl.datasets.raster import chips

    rows, short = [], {}
    for i, (location, lon, lat, label, split) in enumerate(
        places[["location", "lon", "lat", "label", "split"]].itertuples(index=False)
    ):
        good = [item for item in records[i]["items"] if item["status"] == "ok"]
        if len(good) < plan.dates:
            short[location] = records[i]["reason"]
        for item in sorted(good, key=lambda item: (item["datetime"], item["item"])):
            rows.append(
                {
                    "path": str(out / item["path"]), "location": location,
                    "time": item["datetime"], "lon": lon, "lat": lat, "label": label,
                    "split": split, "item": item["item"], "collection": plan.search.collection,
                    "license": item["license"], "cloud_cover": item["cloud_cover"],
                    "dtype": item["dtype"],
                }
            )  # fmt: skip
    if not rows:
        location, reason = next(iter(short.items()))
        raise ValueError(
            f"none of the {len(places)} places got a chip; the first, {location!r}: {reason}"
        )
    table = scenes.check(pd.DataFrame(rows), source="the harvest")
    table["cloud_cover"] = table["cloud_cover"].astype("float64")
    table = chips.add_reading_columns(
        table,
        reader="images",
        bands=range(1, len(plan.bands) + 1),
        band_names=plan.bands,
        dtype="uint16" if scale is not None else table["dtype"].mode()[0],
        scale=scale,
    )
    table.attrs["short"] = short
    return table
