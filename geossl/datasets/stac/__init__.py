"""Build time series of your own: chips of locations at several dates, from a STAC API."""

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
from typing import Annotated, Any

import pandas as pd
from annotated_types import Interval

from geossl.data import scenes
from geossl.data.table_files import write
from geossl.datasets.raster import chips
from geossl.datasets.stac.locations import land_grid
from geossl.datasets.stac.search import Catalog, open_search
from geossl.datasets.stac.worker import Location, Plan, harvest_location
from geossl.utils.http import RetryPolicy
from geossl.utils.io import atomic_write, lock_folder
from geossl.utils.parallel import run_tasks
from geossl.utils.progress import progress_bar
from geossl.utils.validate import Fraction, PositiveInt, validated

__all__ = ["Catalog", "RetryPolicy", "harvest", "land_grid"]

Scale = tuple[float, float]

_CHIP_FILE = re.compile(r"chips/\d{6,}/\d{8}_[0-9a-f]{12}\.tif")
_MAX_SILENT = 20  # locations without an answer, one after the other
_NOT_IDENTITY = ("output_dir", "search", "policy", "license", "can_query", "url")


@validated
def harvest(
    output_dir: str | Path,
    places: pd.DataFrame,
    *,
    start: str | date,
    end: str | date,
    api: str | Catalog = "earth-search",
    collection: str = "sentinel-2-l2a",
    dates: Annotated[int, Interval(ge=1, le=10_000)] = 4,
    max_cloud: Annotated[float, Interval(ge=0, le=100)] = 20.0,
    chip_px: Annotated[int, Interval(ge=1, le=4096)] = 128,
    resolution_m: Annotated[float, Interval(gt=0, lt=1e6)] | None = 10.0,
    bands: Sequence[str] = ("red", "green", "blue"),
    scale: Scale | None = None,
    max_nodata: Fraction = 0.05,
    retry_policy: RetryPolicy | None = None,
    num_workers: PositiveInt | None = 8,
    dask: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Write chips of locations at well spread dates as small GeoTIFFs; a second call resumes.

    Only the blocks of a scene that the chip needs are read. A chip lies on the pixels of the scene,
    in the scene's own CRS, around the location; bands of other resolution are resampled onto it
    (bilinear, or the average where they are finer). Values stay as they are in the files: where a
    catalog changes them with time (the Planetary Computer's Sentinel-2 has 1000 added from January
    2022 on, processing baseline 04.00), ``manifest.jsonl`` says so under ``about``.

    ``output_dir`` gets ``chips/``, ``scenes.parquet`` (the returned table) and ``manifest.jsonl``:
    for each location a line with the items that were tried, their license, clouds, addresses and
    outcome. A second call tries the locations again that got too few dates because a server did not
    answer.

    Args:
        output_dir: folder of the harvest.
        places: ``location, lon, lat`` (and ``label, split``), or any scene table.
        start: first day, such as "2019-01-01".
        end: last day.
        api: "earth-search", "planetary-computer" (no key needed for either), the address of
            another STAC API, or a `Catalog`.
        collection: of the API.
        dates: number for each location.
        max_cloud: in percent of a scene; scenes without a cloud cover pass.
        chip_px: side of a chip.
        resolution_m: side of a pixel in meters (of the scene's CRS); None for that of the file with
            the first of ``bands``.
        bands: keys of assets, "key:number", or names or common names of bands.
        scale: (lowest, highest) value, which become 1 and 65535 in a chip store; needed for files
            of other types than uint8 and uint16.
        max_nodata: share of a chip that may be without data.
        retry_policy: tries and time-out of a request.
        num_workers: locations at a time; None for all cores, or the whole cluster.
        dask: a Dask cluster to work on, see `geossl.utils.parallel.run_tasks`.
        progress: show a progress bar.

    Returns:
        Scene table with a row per chip, in order of location and time, which adds ``item,
        collection, license, cloud_cover``. ``attrs["short"]`` maps the locations with too few
        dates to the reason.

    Raises:
        ValueError: wrong arguments, an unknown collection, ``output_dir`` has another harvest, or
            no location got a chip.
        ConnectionError: the API does not answer, or twenty locations in a row got no answer.
        ImportError: the packages of the extra ``stac`` are missing.
    """
    bands, first, last = tuple(bands), _day(start, "start"), _day(end, "end")
    if first > last:
        raise ValueError(f"`start` must not be after `end`, got {first} and {last}.")
    if not bands or len(set(bands)) < len(bands) or any("," in band for band in bands):
        raise ValueError(f"`bands` must be different names without commas, got {list(bands)}.")
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"`scale` must be (lowest, highest), got {scale}.")
    table = scenes.check(places, source="`places`")
    table = table.drop_duplicates("location", ignore_index=True)
    try:
        import pystac_client  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"`harvest` needs the package pystac-client ({error}). Run: pip install 'geossl[stac]'"
        ) from None
    output_dir = Path(output_dir)
    search = open_search(
        api, collection, start=first, end=last, max_cloud=max_cloud,
        policy=retry_policy or RetryPolicy(),
    )  # fmt: skip
    plan = Plan(output_dir.absolute(), search, dates, chip_px, resolution_m, bands, max_nodata)
    output_dir.mkdir(parents=True, exist_ok=True)
    with lock_folder(output_dir):
        _check_identity(plan, table)
        for unfinished in output_dir.glob("chips/*/.*.part.tif"):  # of a harvest that was killed
            unfinished.unlink()
        records = _read_manifest(output_dir)
        todo = [
            Location(i, lon, lat)
            for i, (lon, lat) in enumerate(zip(table["lon"], table["lat"], strict=True))
            if not records.get(i, {}).get("complete")
        ]
        silent, initial = 0, len(table) - len(todo)
        with (
            progress_bar(
                len(table), initial=initial, desc="places", unit="place", show=progress
            ) as bar,
            closing(
                run_tasks(partial(harvest_location, plan), todo, num_workers=num_workers, dask=dask)
            ) as results,
            open(output_dir / "manifest.jsonl", "a", encoding="utf-8") as manifest,
        ):
            for location, outcome in results:
                _check_outcome(outcome, output_dir, scale)
                number = location.number
                record = {"place": number, "location": str(table["location"][number]), **outcome}
                manifest.write(f"\n{json.dumps(record)}")  # \n first: a line may be torn
                manifest.flush()
                records[number] = record
                bar.update()
                answered = record["complete"] or _chips_of(record)
                silent = 0 if answered else silent + 1
                if silent == _MAX_SILENT:
                    raise ConnectionError(
                        f"{silent} locations in a row got no answer, the last: "
                        f"{record['reason']}. Run the same command later to resume."
                    )
        with atomic_write(output_dir / "manifest.jsonl") as part:
            lines = (json.dumps(records[i]) for i in range(len(table)))
            part.write_text("\n".join(lines) + "\n", "utf-8")
        result = _scene_table(table, records, plan, output_dir, scale)
        for spare in set(output_dir.glob("chips/*/*.tif")) - set(map(Path, result["path"])):
            spare.unlink()  # in place of a date without an answer then, and with one now
        write(result, output_dir / "scenes.parquet")
    return result


def _day(value: str | date, name: str) -> date:
    try:
        return date.fromisoformat(str(value)[:10])  # datetimes and timestamps as well
    except ValueError:
        raise ValueError(f"`{name}` must be a day such as 2019-01-01, got {value!r}.") from None


def _check_identity(plan: Plan, table: pd.DataFrame) -> None:
    """Write the options of a harvest to its folder, or refuse a folder with other options."""
    places = json.dumps(table[["location", "lon", "lat"]].round(7).astype(str).to_numpy().tolist())
    digest = hashlib.blake2b(places.encode(), digest_size=8).hexdigest()
    options = {**asdict(plan.search), **asdict(plan)}
    identity = {key: str(value) for key, value in options.items() if key not in _NOT_IDENTITY}
    identity["places"] = f"{len(table)} ({digest})"
    path = plan.output_dir / "harvest.json"
    if not path.exists():
        with atomic_write(path) as part:
            part.write_text(json.dumps(identity, indent=1), "utf-8")
        return
    try:
        existing = json.loads(path.read_text("utf-8"))
        changed = [key for key in identity if existing.get(key) != identity[key]]
    except (ValueError, AttributeError, RecursionError):
        existing, changed = {}, list(identity)
    if changed:
        key = changed[0]
        raise ValueError(
            f"`output_dir` {plan.output_dir} contains a harvest with {key} "
            f"{existing.get(key)!r}, not {identity[key]!r}. Use another folder, or the same "
            "options to resume."
        )


def _read_manifest(output_dir: Path) -> dict[int, dict[str, Any]]:
    """Return the last record of each location whose chips all exist; torn lines do not count."""
    path, records = output_dir / "manifest.jsonl", {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        if not line.startswith("{"):
            continue
        try:
            record = json.loads(line)
            files = [item["path"] for item in _chips_of(record)]
            if all(_CHIP_FILE.fullmatch(f) and (output_dir / f).is_file() for f in files):
                records[int(record["place"])] = record
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return records


def _chips_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in record["items"] if item["status"] == "ok"]


def _check_outcome(outcome: dict[str, Any], output_dir: Path, scale: Scale | None) -> None:
    for item in _chips_of(outcome):
        if not (output_dir / item["path"]).is_file():
            raise FileNotFoundError(
                f"{output_dir / item['path']}, which a worker wrote, is not visible here. All "
                "machines of a Dask cluster must share the folder."
            )
        if scale is None and item.get("dtype", "uint8") not in ("uint8", "uint16"):
            raise ValueError(
                f"`scale` is needed for files of other types than uint8 and uint16, got "
                f"{item['dtype']} in {item['item']}. Pass scale=(lowest, highest)."
            )


def _scene_table(
    places: pd.DataFrame,
    records: dict[int, dict[str, Any]],
    plan: Plan,
    output_dir: Path,
    scale: Scale | None,
) -> pd.DataFrame:
    rows, short = [], {}
    columns = ["location", "lon", "lat", "label", "split"]
    for i, known in enumerate(places[columns].to_dict("records")):
        items = _chips_of(records[i])
        if len(items) < plan.dates:
            short[known["location"]] = records[i]["reason"]
        for item in sorted(items, key=lambda item: (item["datetime"], item["item"])):
            rows.append({
                **known, "path": str(output_dir / item["path"]), "time": item["datetime"],
                "item": item["item"], "collection": plan.search.collection,
                **{key: item[key] for key in ("license", "cloud_cover", "dtype")},
            })  # fmt: skip
    if not rows:
        location, reason = next(iter(short.items()))
        raise ValueError(
            f"None of the {len(places)} locations in `places` got a chip; the first, "
            f"{location!r}: {reason}."
        )
    table = scenes.check(pd.DataFrame(rows), source="the harvest")
    table["cloud_cover"] = table["cloud_cover"].astype("float64")
    table = chips.add_pixel_columns(
        table,
        reader="images",
        bands=range(1, len(plan.bands) + 1),
        band_names=plan.bands,
        dtype="uint16" if scale is not None else table["dtype"].mode()[0],
        scale=scale,
    )
    table.attrs["short"] = short
    return table
