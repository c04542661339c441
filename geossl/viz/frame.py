"""The box of a map: where its places lie, the short way around 180, and how exact it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geossl import geo

MAX_LAT = 85.05112878  # of the Web Mercator square
_ONE_PLACE_DEG = 1e-5  # places within a meter are one, which is shown with its surroundings
_SURROUNDINGS_DEG, _MARGIN = 2.0, 0.05


def project_lat(lat: np.ndarray, *, polar: bool = False) -> np.ndarray:
    """Return heights on the map in radians: Web Mercator, or plate carree around a pole."""
    if polar:
        return np.radians(lat)
    return np.arcsinh(np.tan(np.radians(np.clip(lat, -MAX_LAT, MAX_LAT))))


@dataclass(frozen=True)
class Frame:
    """A box around places in degrees.

    Attributes:
        left, bottom, right, top: ``right`` is beyond 180 where the places lie on both sides of
            the antimeridian; places on more than half of all longitudes are framed by all.
    """

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, lon: np.ndarray, lat: np.ndarray) -> Frame:
        """Return the smallest box around positions ``(N,)``; the world when there are none."""
        if not np.isfinite(lon).any():
            return cls(-180.0, -60.0, 180.0, 80.0)
        left, bottom, right, top = geo.bounds(lon, lat)
        right = right + 360 if right < left else right
        return cls(*((-180.0, bottom, 180.0) if right - left > 180 else (left, bottom, right)), top)

    @property
    def is_polar(self) -> bool:
        """Whether the places lie around a pole, beyond the edge of Web Mercator."""
        nearest, farthest = sorted(map(abs, (self.bottom, self.top)))
        return self.bottom * self.top > 0 and nearest > 60 and farthest > MAX_LAT

    @property
    def is_world(self) -> bool:
        """Whether the places are framed by all longitudes."""
        return self.right - self.left > 180 and not self.is_polar

    @property
    def shrink(self) -> float:
        """Length of a degree of longitude in degrees of latitude."""
        return float(np.cos(np.radians(min(89.999, abs(self.bottom + self.top) / 2))))

    @property
    def extent(self) -> float:
        """Width or height on the ground, the larger one, in degrees of latitude."""
        return max((self.right - self.left) * self.shrink, self.top - self.bottom)

    @property
    def decimals(self) -> int:
        """Decimals of degrees that tell one pixel from the next on the map that opens."""
        return int(np.clip(4 - np.floor(np.log10(max(self.extent, 1e-5))), 3, 8))

    def unwrap(self, lon: np.ndarray) -> np.ndarray:
        """Return longitudes within half a turn of the middle; those of the world in +-180."""
        middle = 0.0 if self.is_world else (self.left + self.right) / 2
        lon = geo.wrap_lon(lon)
        return lon + 360 * np.round((middle - lon) / 360)

    def padded(self, share: float) -> Frame:
        """Return the box with a margin, a share of its extent; one place gets surroundings."""
        margin = share * self.extent
        if self.extent < _ONE_PLACE_DEG:
            margin = _SURROUNDINGS_DEG
        aside = margin / self.shrink
        if self.right - self.left + 2 * aside > 360:
            aside = max(0.0, (360 - self.right + self.left) / 2)
        return Frame(
            self.left - aside, max(-90.0, self.bottom - margin),
            self.right + aside, min(90.0, self.top + margin),
        )  # fmt: skip

    def corners(self) -> list[list[float]]:
        """Return ``[[south, west], [north, east]]``."""
        return [[self.bottom, self.left], [self.top, self.right]]

    def view(self) -> list[list[float]] | None:
        """Return the corners to open on, with a margin; None is the whole world."""
        if self.is_world:
            return None
        (south, west), (north, east) = self.padded(_MARGIN).corners()
        if not self.is_polar:
            south, north = np.clip([south, north], -MAX_LAT, MAX_LAT).tolist()
        return [[south, west], [north, east]]


MERCATOR = Frame(-180.0, -MAX_LAT, 180.0, MAX_LAT)
PLATE_CARREE = Frame(-180.0, -90.0, 180.0, 90.0)
