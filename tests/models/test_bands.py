"""An encoder finds its bands in images of other bands, by name, by number, or as one says."""

import numpy as np
import pytest
import torch

from geossl import models
from geossl.data.notices import DataWarning
from geossl.models.bands import fit_bands

STATISTICS = {"mean": [1.0, 2.0, 3.0, 4.0], "std": [5.0, 6.0, 7.0, 8.0]}


def encoder(names, mean=10.0, std=2.0):
    count = len(names)
    made = models.build_encoder(bands=count, mean=mean + np.arange(count), std=[std] * count)
    made.metadata = {"bands": names}
    return made.eval()


@torch.no_grad()
def outputs(made, chips):
    return made(made.normalize(chips))


def chips(bands):
    return torch.rand(3, bands, 16, 16, generator=torch.Generator().manual_seed(bands)) * 20


SENTINEL = ["B2", "B3", "B4", "B8"]


@pytest.mark.parametrize(
    ("known", "reads", "rows"),
    [
        (["red", "green", "blue"], ["B4", "B3", "B2"], [2, 1, 0]),
        (["red", "green", "blue"], ["blue", "green", "red"], [2, 1, 0]),  # by their names
        (["red", "green", "blue"], ["nir", "red", "green"], [3, 2, 1]),  # in this order
        (["red", "green", "blue"], [4, 3, 2], [3, 2, 1]),
        (["red", "green", "blue"], ["4", "3", "2"], [3, 2, 1]),
        (["red", "green", "blue"], [1, 1, 1], [0, 0, 0]),
        (["B8", "B04"], ["red", "nir"], [3, 2]),
        (["a", "b"], ["B08", "B4"], [3, 2]),
        (["B4"], ["B4"], [2]),
    ],
)
def test_a_subset_in_any_order_equals_an_image_of_these_bands_alone(known, reads, rows):
    made = encoder(known)
    fitted = models.with_bands(made, SENTINEL, reads=reads)
    x = chips(4)
    if len(set(rows)) == len(rows):
        torch.testing.assert_close(outputs(fitted, x), outputs(made, x[:, rows]))
    else:  # one normalization for a band that is read three times
        mean = made.mean.mean()
        gray = models.encoder.build_encoder(bands=3, mean=[mean] * 3, std=[2.0] * 3).eval()
        gray.load_state_dict(made.state_dict() | {"mean": torch.full((3,), mean)})
        torch.testing.assert_close(outputs(fitted, x), outputs(gray, x[:, rows]))
    unread = [i for i in range(4) if i not in rows]
    x[:, unread] += 5
    torch.testing.assert_close(
        outputs(fitted, x), outputs(models.with_bands(made, SENTINEL, reads=reads), chips(4))
    )
    assert fitted.metadata["bands"] == SENTINEL and made.metadata == {"bands": known}


def test_a_part_of_what_the_encoder_knows_is_read_and_the_rest_is_at_its_mean():
    made = encoder([f"B{i}" for i in range(1, 7)])
    fitted = models.with_bands(made, SENTINEL, reads=["B4", "B2"])
    x = chips(4)
    whole = made.mean[None, :, None, None].expand(3, 6, 16, 16).clone()
    whole[:, 3], whole[:, 1] = x[:, 2], x[:, 0]
    torch.testing.assert_close(outputs(fitted, x), outputs(made, whole))


@pytest.mark.parametrize(
    ("reads", "says"),
    [
        (["B4", "B3", "B1"], r"`reads` must be among .*B8.*from 1 to 4, got 'B1'"),
        ([5], "from 1 to 4, got 5"),
        (["0"], "from 1 to 4, got '0'"),
        ([], "`reads` must be at least one"),
        (["B4", "B3"], "`bands` must be among .*'red'"),
    ],
)
def test_bands_that_cannot_be_read_are_named(reads, says):
    with pytest.raises(ValueError, match=says):
        models.with_bands(encoder(["red", "green", "blue"]), SENTINEL, reads=reads)


def test_bands_are_found_by_name_in_a_store_that_has_more():
    made = encoder(["red", "green", "blue"])
    fitted = fit_bands(made, ["blue", "green", "red", "nir"], **STATISTICS)
    x = chips(4)
    torch.testing.assert_close(outputs(fitted, x), outputs(made, x[:, [2, 1, 0]]))
    assert fitted.mean.tolist() == [12, 11, 10, 4] and fitted.std.tolist() == [2, 2, 2, 8]


def test_names_that_say_nothing_leave_the_encoder_as_it_is():
    made = encoder(["red", "green", "blue"])
    assert fit_bands(made, ["red", "green", "blue"], mean=[0] * 3, std=[1] * 3) is made
    with pytest.warns(DataWarning, match="knows red, green, blue, the chips have 1, 2, 3: .*order"):
        assert fit_bands(made, ["1", "2", "3"], mean=[0] * 3, std=[1] * 3) is made
    made.metadata = {}
    assert fit_bands(made, ["red", "green", "blue"], mean=[0] * 3, std=[1] * 3) is made


def test_bands_that_are_not_there_are_told():
    made = encoder(["red", "green", "blue", "nir"])
    with pytest.warns(DataWarning, match="The chips lack nir of the encoder's 4 bands: .* mean"):
        fitted = fit_bands(made, ["blue", "green", "red"], mean=[0] * 3, std=[1] * 3)
    whole = made.mean[None, :, None, None].expand(3, 4, 16, 16).clone()
    whole[:, [2, 1, 0]] = chips(3)
    torch.testing.assert_close(outputs(fitted, chips(3)), outputs(made, whole))


@pytest.mark.parametrize("names", [["nir", "red", "green"], ["red", "green"], ["a", "b", "c", "d"]])
def test_where_names_do_not_decide_the_user_does(names):
    made = encoder(["red", "green", "blue"])
    if set(names) < {"red", "green", "blue"}:
        with pytest.warns(DataWarning, match="lack blue"):
            fit_bands(made, names, mean=[0] * 2, std=[1] * 2)
    else:
        with pytest.raises(ValueError, match="`encoder` must take the store's .* reads=.*--bands"):
            fit_bands(made, names, mean=[0] * len(names), std=[1] * len(names))


def test_colors_are_never_lost_silently():
    made = encoder(["red", "green", "blue"])
    with pytest.warns(
        DataWarning, match="does not know B2, B3, B4, B8: .*sees no colors. .*--bands"
    ):
        models.with_bands(made, SENTINEL, adapt="mean")
    assert (
        models.with_bands(made, ["pan"], adapt="mean").bands == 1
    )  # a gray image has none to lose


@pytest.mark.parametrize("known", [["red", "green", "blue"], ["B4", "B3", "B2"]])
@pytest.mark.parametrize(
    "names", [["B2", "B3", "B4"], ["blue", "green", "red"], ["B02", "B3", "B4"]]
)
def test_colors_and_sentinel_2s_names_are_the_same_bands(known, names):
    made = encoder(known)
    fitted = fit_bands(made, names, mean=[0] * 3, std=[1] * 3)
    torch.testing.assert_close(outputs(fitted, chips(3)), outputs(made, chips(3)[:, [2, 1, 0]]))


def test_two_bands_for_one_are_refused():
    made = encoder(["B4", "B3", "B2"])
    for names in (["B4", "b04", "B3", "B2"], ["red", "B4", "B3", "B2"], ["B2", "B3", "B3"]):
        with pytest.raises(ValueError, match="`encoder` must take the store's"):
            fit_bands(made, names, mean=[0] * len(names), std=[1] * len(names))
    with pytest.raises(ValueError, match=r"`reads` must name each band once.*\['B4', 'B4', 'B2'\]"):
        models.with_bands(made, SENTINEL, reads=["B4", "B4", "B2"])


def test_reads_without_names_of_the_chips_are_those_of_the_encoder():
    made = encoder(["red", "green", "blue"])
    x = chips(3)
    turned = models.with_bands(made, None, reads=["blue", "green", "red"])
    torch.testing.assert_close(outputs(turned, x), outputs(made, x))  # by name: nothing moves
    assert turned.metadata["bands"] == ["red", "green", "blue"]
    nameless = models.with_bands(made, 4, reads=[3, 2, 1])
    torch.testing.assert_close(outputs(nameless, chips(4)), outputs(made, chips(4)[:, [2, 1, 0]]))
    numbered = encoder(["1", "2", "3"])
    moved = models.with_bands(numbered, ["b0", "b1", "b2"], reads=[3, 2, 1])
    torch.testing.assert_close(outputs(moved, x), outputs(numbered, x[:, [2, 1, 0]]))


def test_weights_of_any_precision_are_fitted():
    for made in (
        encoder(["red", "green", "blue"]).half(),
        encoder(["red", "green", "blue"]).double(),
    ):
        fitted = fit_bands(made, ["nir", "blue", "green", "red"], **STATISTICS)
        assert outputs(fitted, chips(4)).dtype == torch.float32
