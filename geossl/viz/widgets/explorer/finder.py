"""Answers to questions about embeddings: what is similar, near, changed, or like a picture."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate

from geossl import geo
from geossl.data.store import ChipStore
from geossl.embeddings import Embeddings, neighbors
from geossl.models.bands import fit_bands
from geossl.models.encoder import Encoder
from geossl.utils.validate import check_choice

MOST = 32  # images of an answer
Dates = Literal["any date", "the same date", "other dates", "the same month, other years"]
DATES: tuple[Dates, ...] = (
    "any date", "the same date", "other dates", "the same month, other years",
)  # fmt: skip
_MOST_BYTES, _MOST_PIXELS = 64 << 20, 50_000_000


@dataclass
class Answer:
    """Rows to show.

    Attributes:
        rows: of the embeddings, the best first.
        captions: one for each.
        note: what they are, in a sentence.
        query: the row that was asked for, or -1.
        is_view: whether the map shall show them.
    """

    rows: list[int]
    captions: list[str]
    note: str
    query: int = -1
    is_view: bool = field(default=False)


def similar(embeddings: Embeddings, row: int, dates: Dates) -> Answer:
    """Find the images most similar to one by cosine similarity, at some dates."""
    check_choice("dates", dates, DATES)
    times = embeddings.scenes["time"]
    own = times.iloc[row]
    allowed = {
        "any date": pd.Series(True, times.index),
        "the same date": times.dt.floor("D") == own.floor("D"),
        "other dates": times.notna() & pd.notna(own) & (times.dt.floor("D") != own.floor("D")),
        "the same month, other years": (times.dt.month == own.month) & (times.dt.year != own.year),
    }[dates].to_numpy(bool)
    gallery = np.union1d(np.flatnonzero(allowed), [row])
    if len(gallery) < 2:
        return Answer([row], ["the chip itself"], f"There is no other image at {dates}.", row)
    query = int(np.searchsorted(gallery, row))
    nearest, similarity = neighbors(
        embeddings.subset(gallery), [query], k=MOST - 1, exclude_location=False
    )
    rows = [row, *gallery[nearest[0]].tolist()]
    captions = ["the chip itself", *(f"{value:.2f}" for value in similarity[0])]
    note = f"The {len(rows) - 1} images most similar to the first, at {dates}; cosine similarity."
    return Answer(rows, captions, note, row)


def similar_to_vector(embeddings: Embeddings, vector: np.ndarray, name: str) -> Answer:
    """Find the images most similar to a vector ``(E,)``."""
    unit = torch.nn.functional.normalize(embeddings.tensor(), dim=1)
    target = torch.nn.functional.normalize(torch.from_numpy(vector).float(), dim=0)
    best = (unit @ target).topk(min(MOST, len(unit)))
    captions = [f"{value:.2f}" for value in best.values.tolist()]
    note = f"The images most similar to {name}; cosine similarity."
    return Answer(best.indices.tolist(), captions, note, is_view=False)


def embed_picture(content: bytes, name: str, encoder: Encoder, store: ChipStore) -> np.ndarray:
    """Embed the middle of a picture that was dropped, as a vector ``(E,)``.

    Args:
        content: bytes of a JPEG, PNG, GeoTIFF or another picture with the store's bands.
        name: of the file, for messages.
        encoder: that made the embeddings.
        store: whose bands, size and units the picture must have.

    Raises:
        ValueError: no picture, or one with other bands or units.
    """
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{name} must have at most {_MOST_BYTES >> 20} MB. Crop it first.")
    pixels = _read_picture(content, name)
    bands = len(store.bands)
    if len(pixels) != bands and len(pixels) == 4 and bands == 3:  # an alpha channel
        pixels = pixels[:3]
    if len(pixels) != bands or str(pixels.dtype) != store.dtype:
        raise ValueError(
            f"{name} must have {bands} bands of {store.dtype} like the store ("
            f"{', '.join(map(str, store.bands))}), got {len(pixels)} of {pixels.dtype}."
        )
    side = min(pixels.shape[1:])
    top, left = (pixels.shape[1] - side) // 2, (pixels.shape[2] - side) // 2
    square = torch.from_numpy(pixels[:, top : top + side, left : left + side].astype(np.float32))
    chip = interpolate(
        square[None], size=(store.size_px, store.size_px), mode="bilinear", antialias=True
    )
    encoder = fit_bands(encoder, store.bands, mean=store.mean, std=store.std).eval()
    with torch.no_grad():
        return encoder(encoder.normalize(chip.to(encoder.mean.device)))[0].float().cpu().numpy()


def _read_picture(content: bytes, name: str) -> np.ndarray:
    """Return a picture as ``(C, H, W)``; GeoTIFFs keep all bands, others are made RGB."""
    from PIL import Image, UnidentifiedImageError

    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        import rasterio
        from rasterio.errors import RasterioError

        try:
            with rasterio.MemoryFile(content) as file, file.open() as source:
                if source.width * source.height > _MOST_PIXELS:
                    raise ValueError(f"{name} must have at most 50 million pixels. Crop it first.")
                return source.read()
        except RasterioError as error:
            raise ValueError(f"{name} cannot be read: {error}") from None
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError(f"{name} must have at most 50 million pixels. Crop it first.")
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        raise ValueError(
            f"{name} is no picture that can be read. Drop a JPEG, PNG or GeoTIFF."
        ) from None


def near(embeddings: Embeddings, lon: float, lat: float, name: str) -> Answer:
    """Find the images nearest to a position, one of each location."""
    scenes = embeddings.scenes
    km = geo.great_circle_km(scenes["lon"].to_numpy(float), scenes["lat"].to_numpy(float), lon, lat)
    km = np.where(np.isfinite(km), km, np.inf)
    order = np.argsort(km, kind="stable")[: 50 * MOST]
    first = np.sort(np.unique(scenes["location"].iloc[order], return_index=True)[1])
    rows = [int(order[i]) for i in first if np.isfinite(km[order[i]])][:MOST]
    if not rows:
        raise ValueError("No image has a position, so that none is near. Search for a location.")
    captions = [f"{km[row]:,.0f} km" if km[row] >= 10 else f"{km[row]:.1f} km" for row in rows]
    return Answer(rows, captions, f"The locations nearest to {name}.", is_view=True)


def search(embeddings: Embeddings, text: str, clusters: np.ndarray | None) -> Answer:
    """Find a location by its name, the images of a geo cluster, a place or coordinates.

    Raises:
        ValueError: nothing is found.
    """
    from geossl.data.gazetteer import find_place

    scenes, wanted = embeddings.scenes, text.strip().casefold()
    rows = np.flatnonzero(scenes["location"].astype(str).str.casefold() == wanted)
    if len(rows):
        captions = [str(time.date()) if pd.notna(time) else "" for time in scenes["time"][rows]]
        return Answer(
            rows[:MOST].tolist(), captions[:MOST], f"Location {text.strip()}.", is_view=True
        )
    if wanted.startswith("cluster ") and wanted[8:].strip().isdecimal():
        return _of_cluster(int(wanted[8:]), clusters)
    place = find_place(text)
    return near(embeddings, place.lon, place.lat, place.name)


def _of_cluster(number: int, clusters: np.ndarray | None) -> Answer:
    if clusters is None:
        raise ValueError("There are no geo clusters. Pass `clusters` to the explorer.")
    rows = np.flatnonzero(clusters == number)
    if not len(rows):
        raise ValueError(f"No image is of geo cluster {number}, they are 0 to {clusters.max()}.")
    shown = rows[:MOST].tolist()
    note = f"{len(rows):,} images of geo cluster {number}."
    return Answer(shown, [""] * len(shown), note, is_view=True)


def changed_most(embeddings: Embeddings) -> tuple[Answer, np.ndarray]:
    """Find the places whose dates differ most, without what the season does to all.

    Returns:
        The answer, both dates of each place; and the change of each row's location ``(N,)``.
    """
    from geossl.evaluate import changes

    table = changes(embeddings)
    of_location = table.set_index("location")["change"]
    values = embeddings.scenes["location"].map(of_location).to_numpy(float)
    rows, captions = [], []
    times = embeddings.scenes["time"]
    for place in table.head(MOST // 2).itertuples():
        for row in (place.first_row, place.second_row):
            rows.append(int(row))
            captions.append(f"{times.iloc[row]:%Y-%m-%d}, {place.change:.2f}")
    note = (
        f"The {len(rows) // 2} places that changed most, two dates of each: cosine distance "
        "between dates, the season of all places taken out."
    )
    return Answer(rows, captions, note), values
