import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import lpmv

from geossl import geo, models
from geossl.models.location_encoder import spherical_harmonics


def positions(n=40):
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    return np.append(lon, [0.0, 180.0]), np.append(lat, [90.0, -90.0])  # the poles too


def test_harmonics_are_those_of_scipys_legendre_functions():
    lon, lat = positions()
    vectors = torch.from_numpy(geo.unit_vectors(lon, lat))
    columns = []
    for n in range(7):
        for m in range(-n, n + 1):
            k = abs(m)
            norm = math.sqrt((2 * n + 1) * math.factorial(n - k) / math.factorial(n + k))
            value = (-1) ** k * norm * lpmv(k, n, np.sin(np.radians(lat)))
            turn = np.radians(lon) * k
            columns.append(
                value * (1 if m == 0 else math.sqrt(2) * (np.cos if m > 0 else np.sin)(turn))
            )
    found = spherical_harmonics(vectors, 6)
    np.testing.assert_allclose(found, np.stack(columns, 1), atol=1e-10)


def test_harmonics_are_orthonormal_over_the_sphere():
    z, weight = np.polynomial.legendre.leggauss(24)
    lon = np.arange(48) * 7.5
    lat = np.degrees(np.arcsin(z))
    lon, lat = (x.ravel() for x in np.meshgrid(lon, lat))
    values = spherical_harmonics(torch.from_numpy(geo.unit_vectors(lon, lat)), 10).numpy()
    share = np.repeat(weight, 48) / 48 / 2
    np.testing.assert_allclose((values * share[:, None]).T @ values, np.eye(121), atol=1e-10)


@pytest.mark.parametrize("features", ["harmonics", "fourier"])
def test_positions_a_step_apart_are_encoded_alike_across_the_antimeridian(features):
    encoder = models.LocationEncoder(8, features=features, degree=5, seed=3)
    again = models.LocationEncoder(8, features=features, degree=5, seed=3)
    other = models.LocationEncoder(8, features=features, degree=5, seed=4)
    lon, lat = np.array([179.999, -179.999, 0.0, 120.0]), np.array([10.0, 10.0, 90.0, 90.0])
    vectors = torch.as_tensor(geo.unit_vectors(lon, lat), dtype=torch.float32)
    code = encoder(vectors)
    assert torch.equal(code, again(vectors)) and not torch.equal(code, other(vectors))
    torch.testing.assert_close(code[0], code[1], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(code[2], code[3], rtol=1e-4, atol=1e-5)  # one pole, any longitude
    assert (code[0] - code[2]).abs().max() > 1e-2


def test_wrong_options_are_told():
    with pytest.raises(ValueError, match="`features` must be one of"):
        models.LocationEncoder(8, features="siren")
    for degree in (0, 101):
        with pytest.raises(ValueError, match="`degree` must be (>= 1|<= 100|from 1 to 100)"):
            models.LocationEncoder(8, degree=degree)
    with pytest.raises(ValueError, match="`scenes` must have a position in every row"):
        models.LocationEncoder(8).embed(pd.DataFrame({"lon": [1.0, 2], "lat": [3.0, np.nan]}))
