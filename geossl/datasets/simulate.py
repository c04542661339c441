"""Simulate what a satellite sees of the same ground on different days.

The ground is real; season, snow, sun, haze, clouds and sensor are not. Each chip depends on its own
row of the table alone, so that any part of a store can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd

Effect = Literal["season", "snow", "sun", "haze", "clouds", "sensor"]
EFFECTS: tuple[Effect, ...] = ("season", "snow", "sun", "haze", "clouds", "sensor")
SENSORS = ("A", "B", "C")

_BROWN = np.array([0.16, 0.06, -0.02], np.float32)  # added to vegetation in its dry or cold season
_SNOW = np.array([0.93, 0.95, 0.97], np.float32)
_HAZE, _SMOKE = (np.array(c, np.float32) for c in ([0.60, 0.70, 0.84], [0.72, 0.70, 0.68]))
_CLOUD = np.array([0.96, 0.96, 0.97], np.float32)
# saturation, gamma, gain, and how much warmer: more red and less blue
_RESPONSES = np.array([[1.0, 1.0, 1.0, 0.0], [0.5, 1.2, 1.12, -0.03], [1.45, 0.85, 0.95, 0.03]])
_OCTAVES = {3: 1.0, 5: 0.6, 10: 0.4, 20: 0.25}  # cells a side -> weight: haze and clouds
_DRAWN = ("year", "line", "azimuth", "light", "haze", "smoke", "cloudy", "cover", "spare")


@dataclass
class Days:
    """The circumstances of M acquisitions of S x S pixels; what is drawn is uniform in 0..1.

    Attributes:
        lat, day, side_km: ``(M,)`` latitude, day of the year, and side of the ground.
        sensor: ``(M,)`` index into `SENSORS`.
        on: effect -> ``(M,)`` its strength: 0 is off, 1 is as strong as usual.
        year, line, azimuth, light: ``(M,)`` drawn: how cold the year is, where snow begins, the
            direction of the sun, and how bright the picture is.
        haze, smoke, cloudy, cover: ``(M,)`` drawn: how dense the haze is and how smoky, whether
            there are clouds (below a half) and how many.
        spare: ``(M,)`` drawn, for users of this module.
        veil, clouds: ``(M, S, S)`` rough fields of mean 0 and standard deviation 1.
    """

    lat: np.ndarray
    day: np.ndarray
    side_km: np.ndarray
    sensor: np.ndarray
    on: Mapping[Effect, np.ndarray]
    year: np.ndarray
    line: np.ndarray
    azimuth: np.ndarray
    light: np.ndarray
    haze: np.ndarray
    smoke: np.ndarray
    cloudy: np.ndarray
    cover: np.ndarray
    spare: np.ndarray
    veil: np.ndarray
    clouds: np.ndarray


def draw(rows: pd.DataFrame, size_px: int) -> Days:
    """Draw the circumstances of each row from its seed, the column ``noise``.

    Args:
        rows: with lat, footprint_km, time, noise, sensor and effects (names of those that are on).
        size_px: height and width of the fields.
    """
    count = sum(cells**2 for cells in _OCTAVES)
    uniform = np.empty((len(_DRAWN), len(rows)))
    normal = np.empty((2, len(rows), count), np.float32)
    for i, seed in enumerate(rows["noise"]):
        rng = np.random.Generator(np.random.PCG64(int(seed)))
        uniform[:, i] = rng.random(len(uniform))
        normal[:, i] = rng.standard_normal((2, count), np.float32)
    veil, clouds = (_rough(values, size_px) for values in normal)
    lat, side_km = rows["lat"].to_numpy(float), rows["footprint_km"].to_numpy(float)
    day = rows["time"].dt.day_of_year.to_numpy(float)
    sensor = pd.Categorical(rows["sensor"], categories=SENSORS).codes
    on = {name: rows["effects"].str.contains(name).to_numpy(float) for name in EFFECTS}
    drawn = dict(zip(_DRAWN, uniform, strict=True))
    return Days(lat, day, side_km, sensor, on, veil=veil, clouds=clouds, **drawn)


def acquire(ground: np.ndarray, height: np.ndarray, days: Days) -> np.ndarray:
    """Simulate acquisitions of ground ``(M, S, S, 3)`` in 0..1 and of height ``(M, S, S)`` in m.

    Returns:
        ``(M, S, S, 3)`` uint8.
    """
    x = _add_snow(_add_season(ground.astype(np.float32), days), height, days)
    x = _add_clouds(_add_haze(x * _sunlight(height, days), days), days)
    return (np.clip(_render(x, days), 0, 1) * 255 + 0.5).astype(np.uint8)


def _each(values: np.ndarray) -> np.ndarray:
    """Shape a number for each chip ``(M,)`` to go with pixels ``(M, S, S, 3)``."""
    return values.astype(np.float32)[:, None, None, None]


def _coldness(days: Days) -> tuple[np.ndarray, np.ndarray]:
    """Return how strong seasons are at a latitude, and how cold it is on the day, both 0..1."""
    strength = np.clip((np.abs(days.lat) - 5) / 35, 0, 1)
    summer = np.cos(2 * np.pi * (days.day - 200) / 365.25) * np.where(days.lat < 0, -1, 1)
    cold = (1 - summer) / 2 + 0.15 * (2 * days.year - 1)
    return strength, np.clip(strength * cold, 0, 1)


def _add_season(x: np.ndarray, days: Days) -> np.ndarray:
    """Turn vegetation brown in the cold season, and greener than the composite in the warm one."""
    strength, cold = _coldness(days)
    green = np.clip(1.6 - 3.2 * x.mean(3, keepdims=True), 0, 1)
    green *= np.clip((x[..., 1:2] - x[..., 2:3]) * 12, 0, 1)
    return x + _each(days.on["season"] * (cold - 0.35 * strength)) * green * _BROWN


def _add_snow(x: np.ndarray, height: np.ndarray, days: Days) -> np.ndarray:
    """Cover what lies above a line that falls with latitude and with the cold."""
    line = 5400 - 75 * np.maximum(np.abs(days.lat) - 15, 0) - 2800 * _coldness(days)[1]
    line += 700 * (2 * days.line - 1)
    snow = 1 / (1 + np.exp(np.clip((line[:, None, None] - height) / 350, -30, 30)))
    red, blue = x[..., 0], x[..., 2]
    water = np.clip((blue - red - 0.05) * 12, 0, 1) * np.clip((0.3 - red) * 10, 0, 1)
    snow *= np.clip((x.sum(3) - 0.16) * 12, 0, 1) * (1 - water)  # open water stays dark
    amount = _each(0.85 * days.on["snow"]) * snow[..., None].astype(np.float32)
    light = x.mean(3, keepdims=True)
    mean = np.maximum(light.mean((1, 2), keepdims=True), 1e-3)
    return x * (1 - amount) + amount * (0.6 + 0.4 * np.clip(light / mean, 0, 1.5)) * _SNOW


def _sunlight(height: np.ndarray, days: Days) -> np.ndarray:
    """Return the light on each pixel ``(M, S, S, 1)``: a low sun is dim and shades the slopes."""
    noon_lat = 23.44 * np.cos(2 * np.pi * (days.day - 172) / 365.25)  # where the sun is overhead
    elevation = np.radians(np.clip(90 - np.abs(days.lat - noon_lat), 12, 80))
    azimuth = np.radians(np.where(days.lat > noon_lat, 150, 30) + 60 * (days.azimuth - 0.5))
    p = np.pad(_smooth(height), ((0, 0), (1, 1), (1, 1)), mode="edge")  # lines run southward
    south, east = p[:, 2:, 1:-1] - p[:, :-2, 1:-1], p[:, 1:-1, 2:] - p[:, 1:-1, :-2]
    meters = 2 * days.side_km * 1000 / height.shape[1]
    toward = south * (np.cos(azimuth) / meters)[:, None, None]
    toward -= east * (np.sin(azimuth) / meters)[:, None, None]
    shade = 0.5 * np.tanh(7 * toward / np.tan(elevation)[:, None, None])
    bright = np.exp(0.35 * (2 * days.light - 1)) * (0.65 + 0.35 * np.sin(elevation))
    change = (1 + shade) * bright[:, None, None] - 1
    return (1 + days.on["sun"][:, None, None] * change)[..., None].astype(np.float32)


def _smooth(field: np.ndarray) -> np.ndarray:
    """Blur ``(M, S, S)`` over a thirty-second of its side: heights come in coarse steps."""
    for _ in range(max(1, field.shape[1] // 32)):
        p = np.pad(field, ((0, 0), (1, 1), (1, 1)), mode="edge")
        around = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
        field = (around + 4 * p[:, 1:-1, 1:-1]) / 8
    return field


def _add_haze(x: np.ndarray, days: Days) -> np.ndarray:
    """Put a bluish or smoky veil over it, denser in some parts than in others."""
    dense = 0.65 * days.haze**1.5
    amount = np.clip(dense[:, None, None] * (1 + 0.3 * days.veil), 0, 0.85)[..., None]
    amount = _each(days.on["haze"]) * amount.astype(np.float32)
    return x * (1 - amount) + amount * (_HAZE + (_SMOKE - _HAZE) * _each(days.smoke))


def _add_clouds(x: np.ndarray, days: Days) -> np.ndarray:
    """Put clouds and their shadows over half of the chips: 5 to 50 % of their area."""
    cover = 0.05 + 0.45 * days.cover
    level = np.array([NormalDist().inv_cdf(1 - share) for share in cover])  # of a normal field
    cloud = np.clip((days.clouds - level[:, None, None]) / 0.6, 0, 1)[..., None]
    cloud = _each(0.95 * days.on["clouds"] * (days.cloudy < 0.5)) * cloud.astype(np.float32)
    by = max(1, cloud.shape[1] // 16)  # to the south and east
    shadow = np.pad(cloud, ((0, 0), (by, 0), (by, 0), (0, 0)), mode="edge")[:, :-by, :-by]
    return x * (1 - 0.35 * shadow * (1 - cloud)) * (1 - cloud) + cloud * _CLOUD


def _render(x: np.ndarray, days: Days) -> np.ndarray:
    """Render the light as a sensor does: its saturation, gamma, gain and warmth."""
    neutral, on = np.array([1.0, 1.0, 1.0, 0.0]), days.on["sensor"][:, None]
    saturation, gamma, gain, warmth = (neutral + on * (_RESPONSES[days.sensor] - neutral)).T
    gray = x.mean(3, keepdims=True)
    x = np.clip(gray + (x - gray) * _each(saturation), 0, 1.2) ** _each(gamma) * _each(gain)
    colors = 1 + warmth[:, None] * np.array([1, 0, -1])
    return x * colors[:, None, None, :].astype(np.float32)


def _rough(normal: np.ndarray, size_px: int) -> np.ndarray:
    """Add up octaves of normal numbers ``(M, count)`` into a field ``(M, S, S)``."""
    field, start = np.zeros((len(normal), size_px, size_px), np.float32), 0
    for cells, weight in _OCTAVES.items():
        part = normal[:, start : start + cells**2].reshape(-1, cells, cells)
        field += weight * _enlarge(part, size_px)
        start += cells**2
    field -= field.mean((1, 2), keepdims=True)
    return field / np.maximum(field.std((1, 2), keepdims=True), 1e-6)


def _enlarge(field: np.ndarray, size_px: int) -> np.ndarray:
    """Enlarge ``(M, n, n)`` bilinearly to ``(M, size_px, size_px)``."""
    n = field.shape[1]
    at = (np.arange(size_px) + 0.5) * (n - 1) / size_px
    low = at.astype(int)
    part = (at - low).astype(np.float32)
    weights = np.zeros((size_px, n), np.float32)
    weights[np.arange(size_px), low] = 1 - part
    weights[np.arange(size_px), low + 1] += part
    return weights @ field @ weights.T
