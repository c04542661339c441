import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from segment_scenes import BANG, NAMES, Bomb, noise, settle, small, squares, tif

from geossl import models
from geossl.datasets.raster import area
from geossl.tasks import segment
from geossl.tasks.segment.crops import Scenes
from geossl.tasks.segment.masks import Masks
from geossl.tasks.segment.model import Network
from geossl.tasks.segment.segmenter import predict_map


def test_scenes_of_other_bands_or_types_are_refused(tmp_path, trained):
    _, scenes, tuned = trained
    wide = tif(tmp_path / "wide.tif", np.ones((3, 40, 40), np.uint16))
    with pytest.raises(ValueError, match="wide.tif must be uint8, got uint16"):
        tuned.segment(wide)
    two = tif(tmp_path / "two.tif", np.ones((2, 40, 40), np.uint8))
    with pytest.raises(ValueError, match="two.tif has 2 bands, so there is no band 3"):
        tuned.segment(two)
    with pytest.raises(ValueError, match="`scene` must be one scene, got a table of 6"):
        tuned.segment(scenes)
    with pytest.raises(FileNotFoundError):
        tuned.segment(tmp_path / "gone.tif")
    more = scenes.head(1).assign(
        bands="1,2", band_names="a,b", dtype="uint8", scale_low=np.nan, scale_high=np.nan
    )
    with pytest.raises(ValueError, match="`scenes` must have the encoder's 3 bands, got a,b"):
        segment.measure(tuned, more)
    scaled = more.assign(bands="1,2,3", band_names="a,b,c", scale_low=0.0, scale_high=1.0)
    with pytest.raises(ValueError, match="`scenes` must have scale_low nan"):
        segment.measure(tuned, scaled)
    own = {**tuned.reading, "scale_low": 0.0, "scale_high": 1.0}
    other = segment.Segmenter(tuned.network, tuned.masks, own, tuned.pixels)
    with pytest.raises(ValueError, match="must have scale_low 0.0, as in training, got nan"):
        segment.measure(other, more.assign(bands="1,2,3"))


def reach(net):
    """Half the receptive field, measured: how far from an output pixel an input can change it."""
    x = noise(1, 1, 288, 288).requires_grad_()
    far = 0
    for at in range(144, 144 + net.stride):
        (gradient,) = torch.autograd.grad(net(x)[0, :, at, at].sum(), x)
        rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
        far = max(far, int(rows.max()) - at, at - int(rows.min()))
    return far


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A scene of several windows, its network, and the map of one window over all."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (1, 357, 618), dtype=np.uint8)
    path = tif(tmp_path_factory.mktemp("large") / "a.tif", pixels)
    encoder = models.build_encoder("small", bands=1, mean=[127.0], std=[70.0])
    net = Network(encoder, classes=3, head="fpn", width=8)
    settle(net, 2, 1, 64, 64, times=3)
    with torch.no_grad():  # make all classes occur
        scores = net(noise(1, 1, 64, 64))[0]
        last = net.head[-1]
        last.weight *= (3 / scores.std((1, 2)))[:, None, None, None]
        last.bias.zero_()
        last.bias -= net(noise(1, 1, 64, 64))[0].mean((1, 2))
    scene = Scenes(area.scene_rows(path, bands=1), Masks(("a", "b", "c")))
    whole = predict_map(net, scene, 0, size_px=640, overlap_px=0, probabilities=True)
    assert whole.shares.min() > 0.1
    return net, scene, whole, reach(net)


@pytest.mark.slow
def test_windows_give_what_one_over_all_gives(large):
    net, scene, whole, far = large
    assert 40 < far < 128
    overlap = 2 * (far + net.stride)
    found = predict_map(net, scene, 0, size_px=overlap + 64, overlap_px=overlap, probabilities=True)
    assert np.abs(found.probabilities - whole.probabilities).max() < 1e-5
    assert whole.probabilities.std((1, 2)).min() > 1e-3
    clear = np.sort(whole.probabilities, 0)
    clear = clear[-1] - clear[-2] > 1e-5
    assert np.array_equal(found.values[clear], whole.values[clear]) and clear.mean() > 0.99


@pytest.mark.slow
def test_without_overlap_windows_differ_only_near_their_seams(large):
    net, scene, whole, far = large
    size = 320
    found = predict_map(net, scene, 0, size_px=size, overlap_px=0, probabilities=True)
    gap = np.abs(found.probabilities - whole.probabilities).max(0)
    y, x = np.indices(gap.shape)
    near = (np.abs(y - size) <= far) | (np.abs(x - size) <= far)
    assert gap[~near].max() < 1e-5 and (~near).mean() > 0.4
    assert gap[near].max() > 1e-4  # the seams are there


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fcn", "deeplab"])
def test_other_heads_by_windows(head, large):
    _, scene, _, _ = large
    encoder = models.build_encoder("small", bands=1, mean=[127.0], std=[70.0])
    net = Network(encoder, classes=3, head=head)
    settle(net, 2, 1, 64, 64)
    maps = [
        predict_map(net, scene, 0, size_px=size, overlap_px=192, probabilities=True)
        for size in (640, 320)
    ]
    gap = np.abs(maps[0].probabilities - maps[1].probabilities)
    if head == "fcn":
        assert gap.max() < 1e-5 < maps[0].probabilities.std()
    else:
        assert gap.mean() < 0.2  # it looks at all of a window: alike, not equal
    np.testing.assert_allclose(maps[1].probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 300), (48, 16), (33, 17)])
def test_scenes_of_any_size(height, width, tmp_path):
    net = Network(models.build_encoder("small", bands=1), classes=2, head="fpn", width=8)
    path = tif(tmp_path / "a.tif", np.ones((1, height, width), np.uint8))
    scene = Scenes(area.scene_rows(path, bands=1), Masks(NAMES))
    found = predict_map(net, scene, 0, size_px=64, overlap_px=20, probabilities=True)
    assert found.values.shape == (height, width) and (found.values < 2).all()
    assert found.probabilities.shape == (2, height, width)
    for size, overlap in ((64, 64), (64, -1), (0, 0)):
        with pytest.raises(ValueError, match="`size_px` must be > `overlap_px` >= 0"):
            predict_map(net, scene, 0, size_px=size, overlap_px=overlap)


@pytest.mark.slow
def test_what_is_loaded_gives_the_same(trained, tmp_path):
    folder, scenes, tuned = trained
    path = scenes["path"][0]
    tuned.save(tmp_path / "own.safetensors")
    for where in (
        folder / "run",
        folder / "run" / "segmenter.safetensors",
        tmp_path / "own.safetensors",
    ):
        loaded = segment.load(where)
        a, b = (t.segment(path, probabilities=True) for t in (tuned, loaded))
        assert np.array_equal(a.probabilities, b.probabilities)
        assert np.array_equal(a.values, b.values)
        assert loaded.masks == tuned.masks and repr(loaded) == repr(tuned)
        pd.testing.assert_series_equal(loaded.pixels, tuned.pixels)
        pd.testing.assert_frame_equal(loaded.logs, tuned.logs)
        assert str(segment.measure(loaded, scenes)) == str(segment.measure(tuned, scenes))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fcn", "deeplab"])
def test_other_heads_train_and_are_kept(head, tmp_path):
    scenes = squares(tmp_path, 2)
    config = segment.SegmentConfig(head=head, epochs=1, batch_size=4, size_px=32)
    masks = {"values": (0, 1), "label": "x", "resample": True}
    tuned = segment.train(
        scenes, small(), classes=NAMES, config=config, output_dir=tmp_path / "r", **masks
    )
    loaded = segment.load(tmp_path / "r", device="cpu")
    a, b = (t.segment(scenes["path"][0], probabilities=True) for t in (tuned, loaded))
    assert np.array_equal(a.probabilities, b.probabilities) and loaded.masks == tuned.masks


def test_files_of_others_and_damaged_ones_are_refused(trained, tmp_path):
    folder, _, tuned = trained
    good = (folder / "run" / "segmenter.safetensors").read_bytes()
    path = tmp_path / "a.safetensors"

    def refused(match):
        with pytest.raises(ValueError, match=match):
            segment.load(path)

    for bad in (b"", good[:100], good[: len(good) // 2], pickle.dumps(Bomb())):
        path.write_bytes(bad)
        refused("is damaged or not a safetensors file")
    torch.save(Bomb(), path)
    refused("is damaged or not a safetensors file")
    assert not BANG.exists()
    from safetensors.torch import save_file

    from geossl.models import weights

    weights.save_encoder(small(), path)
    refused("no description of a geossl segmenter")
    tensors = {k: v.clone() for k, v in tuned.network.state_dict().items()}
    about = json.loads(
        json.dumps({"encoder": {"name": "small", "bands": 3, "stem": "small"}, "note": {}})
    )
    save_file(tensors, path, {"format": "1", "segmenter": json.dumps(about)})
    refused("description that does not fit a segmenter")
    save_file(tensors, path, {"format": "1", "segmenter": "{"})
    refused("description in .* is damaged")
    save_file(tensors, path, {"format": "3", "segmenter": "{}"})
    refused("newer geossl")
    tuned.save(path)
    with rasterio_free(path) as (meta, kept):
        kept.pop("head.0.weight")
        save_file(kept, path, {"format": "1", "segmenter": meta["segmenter"]})
    refused("lacks keys of the network: 'head.0.weight'")
    with pytest.raises(FileNotFoundError, match="no segmenter at"):
        segment.load(tmp_path)


def rasterio_free(path):
    import contextlib

    from safetensors import safe_open

    @contextlib.contextmanager
    def opened():
        with safe_open(path, "pt") as file:
            found = file.metadata(), {k: file.get_tensor(k).clone() for k in file.keys()}
        yield found

    return opened()
