"""Encode positions on the globe: fixed features of the sphere and a small network."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pandas as pd
import torch
from annotated_types import Interval
from torch import Tensor, nn

from geossl import geo
from geossl.utils.validate import PositiveInt, Seed, check_choice, validated

_HIDDEN = 256


class LocationEncoder(nn.Module):
    """A network from positions to vectors ``(N, D)``.

    Args:
        width: D.
        features: "harmonics": the real spherical harmonics up to a degree, smooth over the poles
            and the antimeridian; "fourier": cosines and sines of random directions in space, whose
            frequencies are normally distributed up to about that degree.
        degree: highest degree L of the harmonics, ``(L + 1)^2`` of them; details of about
            180 / L degrees can be told apart.
        seed: of the weights and the directions; the global random state is not touched.

    Source:
        Spherical harmonics: SatCLIP, arXiv 2311.17179 (its network is a SIREN, this one has ReLUs).
        Random Fourier features: arXiv 2006.10739, as in GeoCLIP, arXiv 2309.16020, but of the unit
        vector, not of a map projection.

    Example:
        >>> LocationEncoder(64, degree=4)(torch.tensor([[1.0, 0, 0]])).shape
        torch.Size([1, 64])
    """

    directions: Tensor

    @validated
    def __init__(
        self,
        width: PositiveInt,
        *,
        features: Literal["harmonics", "fourier"] = "harmonics",
        degree: Annotated[int, Interval(ge=1, le=100)] = 10,
        seed: Seed = 0,
    ):
        super().__init__()
        check_choice("features", features, ("harmonics", "fourier"))
        self.features, self.degree = features, degree
        count = (degree + 1) ** 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.register_buffer("directions", torch.randn(count // 2, 3) * degree / 2)
            inputs = count if features == "harmonics" else 2 * len(self.directions)
            self.network = nn.Sequential(
                nn.Linear(inputs, _HIDDEN), nn.ReLU(),
                nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(),
                nn.Linear(_HIDDEN, width),
            )  # fmt: skip

    def forward(self, position: Tensor) -> Tensor:
        """Encode unit vectors ``(N, 3)``."""
        if self.features == "harmonics":
            return self.network(spherical_harmonics(position, self.degree))
        angle = position @ self.directions.T
        return self.network(torch.cat([angle.cos(), angle.sin()], 1))

    @torch.no_grad()
    def embed(self, scenes: pd.DataFrame) -> Tensor:
        """Encode the positions ``lon, lat`` of a table, on the CPU ``(M, D)``.

        With ``geossl.Embeddings(encoder.embed(scenes).numpy(), scenes)`` it is mapped and probed
        like embeddings of images.

        Raises:
            ValueError: a row has no position.
        """
        if scenes[["lon", "lat"]].isna().any(axis=None):
            raise ValueError("`scenes` must have a position in every row. Leave the others out.")
        vectors = geo.unit_vectors(scenes["lon"].to_numpy(), scenes["lat"].to_numpy())
        weight = self.directions
        return self(torch.as_tensor(vectors, dtype=weight.dtype, device=weight.device)).cpu()


def spherical_harmonics(position: Tensor, degree: int) -> Tensor:
    """Return the real spherical harmonics ``(N, (L + 1)^2)`` of unit vectors ``(N, 3)``.

    In the order (0, 0), (1, -1), (1, 0), (1, 1), (2, -2), ...; normalized to a mean square of 1
    over the sphere, without the Condon-Shortley phase.

    Source:
        The recursions of the associated Legendre functions, DLMF 14.10.3 and 14.7.15.
    """
    x, y, z = position.unbind(1)
    one = torch.ones_like(z)
    # cosine and sine of m times the longitude, times cos(lat)^m: polynomials, smooth at the poles
    turns = [(one, torch.zeros_like(z))]
    for _ in range(degree):
        c, s = turns[-1]
        turns.append((x * c - y * s, x * s + y * c))
    columns: dict[tuple[int, int], Tensor] = {}
    for m in range(degree + 1):
        # Legendre functions without cos(lat)^m, normalized as they go
        before, now = torch.zeros_like(z), one
        for k in range(1, m + 1):
            now = now * math.sqrt((2 * k + 1) / (2 * k) * (2 if k == 1 else 1))
        for n in range(m, degree + 1):
            if n > m:
                a = math.sqrt((4 * n * n - 1) / (n * n - m * m))
                b = math.sqrt(((n - 1) ** 2 - m * m) / (4 * (n - 1) ** 2 - 1))
                before, now = now, a * (z * now - b * before)
            columns[n, m] = now * turns[m][0]
            if m:
                columns[n, -m] = now * turns[m][1]
    return torch.stack([columns[n, m] for n in range(degree + 1) for m in range(-n, n + 1)], dim=1)
