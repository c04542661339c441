"""Adapt the first convolution of an encoder to the bands of other images."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from geossl.data.notices import DataWarning
from geossl.models.encoder import Encoder, build_encoder
from geossl.utils.validate import PositiveInt, validated

Adapt = Literal["name", "mean"]
_COLORS = {"blue": "b2", "green": "b3", "red": "b4", "nir": "b8"}  # of Sentinel-2


@validated
def with_bands(
    encoder: Encoder,
    bands: PositiveInt | Sequence[str] | None,
    *,
    reads: Sequence[str | PositiveInt] | None = None,
    adapt: Adapt = "name",
) -> Encoder:
    """Adapt the first convolution of an encoder to other bands; the encoder is left as it is.

    With weights ``W[:, c]`` of its C bands, those of C' bands are ``s * sum_c A[j, c] W[:, c]``;
    mean and std become ``A @ mean`` and ``A @ std``. "name": ``A[j, c]`` is 1 for the band of that
    name, else 0, and ``s = 1``: a band left out counts as one that is always at its mean. "mean":
    a band of an unknown name, or every band where only a number is given, gets ``A[j, c] = 1/C``,
    and ``s = C/C'``: an image whose normalized bands are all alike keeps its embedding.

    Args:
        encoder: its ``metadata["bands"]`` are the known names.
        bands: number or names, in the order of the chips. Case is ignored; ``B04`` is ``B4``, and
            among Sentinel-2's names red, green, blue and nir are B4, B3, B2 and B8.
        reads: those of ``bands`` that the encoder reads, by name or by number from 1; the others
            have weights of 0. They go to the encoder's bands of the same names or, where it does
            not know one of the names, to its bands in this order. None: all of them.
        adapt: "name" refuses unknown bands; "mean" computes them from all known ones, and a
            `DataWarning` says which.

    Raises:
        ValueError: bands that ``adapt="name"`` does not know, or ``reads`` that are not there.

    Example:
        >>> encoder = build_encoder(bands=3)
        >>> with_bands(encoder, ["B2", "B3", "B4", "B8"], reads=["B4", "B3", "B2"]).bands
        4
    """
    names = None if bands is None or isinstance(bands, int) else list(bands)
    count = encoder.bands if bands is None else bands if isinstance(bands, int) else len(bands)
    if count == 0:
        raise ValueError("`bands` must be at least one, got none.")
    known = _known_bands(encoder)
    if reads is not None:
        if names is None and count == encoder.bands and known:
            names = known
        return _with_selected(encoder, names, count, reads, adapt)
    if names is None and count == encoder.bands:
        return encoder
    if names is not None and not known and count == encoder.bands:
        named = copy.deepcopy(encoder)
        named.metadata = {**encoder.metadata, "bands": names}
        return named
    index = match_bands(known, names or [None] * count)
    if index == list(range(encoder.bands)):
        return encoder
    if adapt == "name" and -1 in index:
        raise ValueError(
            f"`bands` must be among {known or f'{encoder.bands} without names'}, got {bands!r}. "
            "Use these names, say which bands the encoder reads (`reads`, --bands), or pass "
            "adapt='mean' to compute unknown bands from all others."
        )
    mixing = torch.eye(encoder.bands)[index]  # (C', C)
    mixing[torch.tensor(index) == -1] = 1 / encoder.bands
    if -1 in index and count > 1:
        _warn_made_up(encoder, names or [f"band {i + 1}" for i in range(count)], index)
    scale = 1.0 if adapt == "name" else encoder.bands / count
    return _mixed(encoder, mixing, scale, names=names, note={"adapt": adapt})


def fit_bands(
    encoder: Encoder, bands: Sequence[str], *, mean: ArrayLike, std: ArrayLike
) -> Encoder:
    """Find the bands of an encoder among those of a store, by name; the encoder is left as it is.

    Bands of the store that the encoder does not know get weights of 0 and the store's own
    statistics; red, green, blue and nir are Sentinel-2's B4, B3, B2 and B8. Where no name is known,
    as many bands as the encoder has are taken as they come, with a `DataWarning` if both have
    names. Bands of the encoder that the store lacks are at their mean, with a `DataWarning`.

    Args:
        encoder: its ``metadata["bands"]`` are the known names.
        bands: of the store.
        mean: ``(C,)`` of them, in the units of the chips.
        std: ``(C,)`` likewise.

    Raises:
        ValueError: another number of bands, and not all of them known by name; or two bands of the
            store for one of the encoder.
    """
    known = _known_bands(encoder)
    index = match_bands(known, bands)
    if -1 in index:  # colors on one side, Sentinel-2's names on the other
        by_color = match_bands([_COLORS.get(str(name).lower(), name) for name in known], bands)
        index = min(index, by_color, key=lambda i: i.count(-1))
    found = [i for i in index if i >= 0]
    if index == list(range(encoder.bands)) or len(bands) == encoder.bands and not known:
        return encoder
    if len(bands) == encoder.bands and not found:
        warnings.warn(
            f"The encoder knows {', '.join(known)}, the chips have {', '.join(bands)}: they are "
            "taken in this order. To say which it reads: `reads`, or --bands.",
            DataWarning,
            stacklevel=3,
        )
        return encoder
    if len(set(found)) == len(found) and (len(found) == encoder.bands or -1 not in index):
        if len(found) < encoder.bands:
            missing = [name for i, name in enumerate(known) if i not in found]
            warnings.warn(
                f"The chips lack {', '.join(missing)} of the encoder's {len(known)} bands: it sees "
                "them at their mean everywhere.",
                DataWarning,
                stacklevel=3,
            )
        mixing = torch.zeros(len(bands), encoder.bands)  # (C', C)
        mixing[[i >= 0 for i in index], found] = 1
        fitted = _mixed(encoder, mixing, 1.0, names=list(bands), note={"adapt": "name"})
        unread = torch.tensor(index, device=fitted.mean.device) < 0
        for values, own in ((fitted.mean, mean), (fitted.std, std)):
            values[unread] = torch.as_tensor(own).to(values)[unread]
        return fitted
    raise ValueError(
        f"`encoder` must take the store's {len(bands)} bands {list(bands)}, got one for "
        f"{known or encoder.bands}. Say which of them it reads: models.with_bands(encoder, "
        "store.bands, reads=[...]), or --bands on the command line."
    )


def match_bands(known: Sequence[Any], names: Sequence[str | None]) -> list[int]:
    """Return the position of each name among the known ones; -1 for unknown names."""

    def word(name: Any) -> str:
        return re.sub(r"^b0+(?=\d)", "b", str(name).lower())

    positions = {word(name): i for i, name in enumerate(known)}
    if "b2" in positions:
        positions |= {color: positions[b] for color, b in _COLORS.items() if b in positions}
    return [-1 if name is None else positions.get(word(name), -1) for name in names]


def _known_bands(encoder: Encoder) -> list[str]:
    names = encoder.metadata.get("bands")
    return list(names) if isinstance(names, list | tuple) else []


def _with_selected(
    encoder: Encoder,
    bands: list[str] | None,
    count: int,
    reads: Sequence[str | int],
    adapt: Adapt,
) -> Encoder:
    """Adapt an encoder to chips of which it reads some bands; the others weigh nothing."""
    if not reads:
        raise ValueError("`reads` must be at least one band, got none.")
    names = bands or [str(i + 1) for i in range(count)]
    places = [_find_band(names, band) for band in reads]
    own, known = [names[i] for i in places], _known_bands(encoder)
    typed = [
        str(b) if bands and not str(b).isdecimal() else n for b, n in zip(reads, own, strict=True)
    ]
    wanted = max(own, typed, key=lambda n: -match_bands(known, n).count(-1))
    matches = match_bands(known, wanted) if bands else [-1]
    in_order = len(wanted) == encoder.bands and -1 in matches
    by_name = [i for i in matches if i >= 0]
    if not in_order and len(set(by_name)) < len(by_name):
        raise ValueError(
            f"`reads` must name each band once where the encoder knows them ({known}), got "
            f"{list(reads)}."
        )
    selected = encoder if in_order else with_bands(encoder, wanted, adapt=adapt)
    mixing = torch.zeros(count, selected.bands)  # (C', C)
    mixing[places, range(selected.bands)] = 1
    return _mixed(selected, mixing, 1.0, names=bands, note={"reads": own})


def _find_band(bands: Sequence[str], band: str | int) -> int:
    """Return the position of a band that is given by name or by number from 1."""
    place = match_bands(bands, [str(band)])[0]
    if place < 0 and str(band).isdecimal():
        place = int(band) - 1
    if not 0 <= place < len(bands):
        raise ValueError(
            f"`reads` must be among {list(bands)}, or numbers from 1 to {len(bands)}, got {band!r}."
        )
    return place


def _mixed(
    encoder: Encoder, mixing: Tensor, scale: float, *, names: list[str] | None, note: dict[str, Any]
) -> Encoder:
    """Copy an encoder with the weights of ``mixing`` ``(C', C)``; a band that is none has std 1."""
    state = {key: value.detach().cpu() for key, value in encoder.state_dict().items()}
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    first = _first_convolution(state, encoder)
    state[first] = scale * torch.einsum("jc,ochw->ojhw", mixing, state[first])
    share = mixing / mixing.sum(1, keepdim=True).clamp(min=1)
    unread = (mixing.sum(1) == 0).float()
    state["mean"], state["std"] = share @ state["mean"], share @ state["std"] + unread
    adapted = build_encoder(**{**encoder.config, "bands": len(mixing)})
    adapted.load_state_dict(state)
    metadata = encoder.metadata
    adapted.metadata = {
        **metadata,
        "bands": names,
        "bands_from": metadata.get("bands") or [],
        **note,
    }
    return adapted.train(encoder.training).to(encoder.mean.device)


def _first_convolution(state: dict[str, Tensor], encoder: Encoder) -> str:
    """Return the key of the weights ``(out, C, H, W)`` that read the bands."""
    for key, value in state.items():
        if value.ndim == 4:
            if value.shape[1] != encoder.bands:
                break
            return key
    raise ValueError(
        f"`bands` of {encoder.name!r} cannot change: its first layer is no convolution of them. "
        "Build it for the bands of the images."
    )


def _warn_made_up(encoder: Encoder, names: Sequence[str], index: Sequence[int]) -> None:
    """Say which bands are computed from all others."""
    made_up = [name for name, i in zip(names, index, strict=True) if i < 0]
    gray = ", so that it sees no colors" if len(made_up) == len(names) else ""
    warnings.warn(
        f"The encoder does not know {', '.join(made_up)}: the weights of each are the mean of its "
        f"{encoder.bands} bands' weights{gray}. To say which it reads: `reads`, or --bands.",
        DataWarning,
        stacklevel=4,
    )
