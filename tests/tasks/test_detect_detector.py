import json
import pickle

import numpy as np
import pandas as pd
import pytest
import rasterio
from detect_scenes import SMALL, encoder_of, picture, scattered, slow_iou, talkative
from rasterio.transform import from_origin
from safetensors import safe_open
from safetensors.torch import save_file

from geossl.data.scenes import BOX
from geossl.tasks import detect


def noise_tif(path, *, height, width):
    """Structured noise with coordinates."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 200, (3, -(-height // 6), -(-width // 6)), dtype=np.uint8)
    pixels = coarse.repeat(6, 1).repeat(6, 2)[:, :height, :width]
    pixels += rng.integers(0, 50, pixels.shape, dtype=np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=height, width=width, dtype="uint8",
        crs="EPSG:32633", transform=from_origin(500_000, 5_000_000, 10, 10),
    ) as file:  # fmt: skip
        file.write(pixels)
    return str(path)


def same_boxes(a, b):
    order = ["label", *BOX]
    a, b = (x.round(3).sort_values(order).reset_index(drop=True) for x in (a, b))
    pd.testing.assert_frame_equal(a[["path", *order]], b[["path", *order]], atol=2e-3)
    np.testing.assert_allclose(a["score"], b["score"], atol=1e-4)


def test_a_tiled_scene_gives_what_the_whole_gives(tmp_path):
    """All of it, where a window shows as much around each box as the network looks at."""
    path = noise_tif(tmp_path / "a.tif", height=60, width=760)
    tuned = talkative(encoder_of(), upsample=1)
    whole = tuned.detect(path, size_px=760, score=0.8)
    tiled = tuned.detect(path, size_px=624, overlap_px=592, score=0.8)  # 148 px on either side
    assert 20 < len(whole) < 900 and whole["label"].nunique() == 2
    same_boxes(tiled, whole)


@pytest.mark.slow
def test_away_from_the_seams_any_windows_give_what_the_whole_gives(tmp_path):
    path = noise_tif(tmp_path / "a.tif", height=330, width=300)
    tuned = talkative(encoder_of(), upsample=2)
    whole = tuned.detect(path, size_px=336, score=0.8)
    tiled = tuned.detect(path, size_px=240, overlap_px=64, score=0.8)
    x, y = (np.stack([(t[BOX[i]] + t[BOX[i + 2]]) / 2 for i in (0, 1)]) for t in (whole, tiled))
    # seams at 176 and 240 either way; the network looks 66 px around, and so do its neighbors
    assert not whole[(x < 90).all(0)].empty
    same_boxes(tiled[(y < 90).all(0)], whole[(x < 90).all(0)])
    # nothing twice: no two boxes of a class overlap more than the suppression allows
    for _, part in tiled.groupby("label"):
        corners = part[list(BOX)].to_numpy()
        overlap = np.array([[slow_iou(p, q) for q in corners] for p in corners])
        assert (overlap - np.eye(len(part)) <= 0.5 + 1e-6).all()


def test_what_is_found_says_where_it_is(tmp_path):
    path = noise_tif(tmp_path / "a.tif", height=64, width=64)
    tuned = talkative(encoder_of(), upsample=1)
    found = tuned.detect(path, score=0.1)
    assert list(found) == ["path", *BOX, "label", "score", "lon", "lat"]
    assert found["score"].is_monotonic_decreasing and found["score"].min() > 0.1
    assert set(found["path"]) == {path} and found.attrs["classes"] == ["a", "b"]
    east, north = ((found[a] + found[b]) / 2 for a, b in (BOX[::2], BOX[1::2]))
    lon, lat = rasterio.warp.transform(
        "EPSG:32633", "EPSG:4326", 500_000 + 10 * east, 5_000_000 - 10 * north
    )
    np.testing.assert_allclose(found["lon"], lon, atol=1e-7)
    np.testing.assert_allclose(found["lat"], lat, atol=1e-7)
    assert tuned.detect(path, score=0.1, nms_iou=1.0).shape[0] > len(found)
    none = tuned.detect(path, score=1.0)
    assert none.empty and list(none) == list(found)
    plain = picture(tmp_path / "b.png")
    assert tuned.detect(plain, score=0.1)["lon"].isna().all()


def test_a_saved_detector_finds_the_same(tmp_path):
    scenes, boxes = scattered(tmp_path, count=2)
    config = detect.DetectConfig(**{**vars(SMALL), "color": detect.DetectConfig().color})
    tuned = detect.train(scenes, boxes, encoder_of(), config=config, output_dir=tmp_path / "run")
    loaded = detect.load(tmp_path / "run")
    assert loaded.config == config and repr(loaded) == repr(tuned)
    pd.testing.assert_frame_equal(
        loaded.detect(scenes, score=0.01), tuned.detect(scenes, score=0.01), check_exact=True
    )
    pd.testing.assert_frame_equal(loaded.logs, tuned.logs)
    pd.testing.assert_series_equal(loaded.boxes, tuned.boxes, check_names=False)


@pytest.mark.slow
def test_damaged_and_hostile_files_are_refused(tmp_path):
    tuned = talkative(encoder_of(), upsample=1)
    tuned.save(tmp_path)
    path = tmp_path / "detector.safetensors"
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:-7], pickle.dumps(print)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="detector.safetensors"):
            detect.load(tmp_path)
    path.write_bytes(whole)
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
        about = json.loads(file.metadata()["detector"])
    changes = [
        {"config": {**about["config"], "width": 2**30}}, {"boxes": [["a", 1]] * 10**5},
        {"config": {**about["config"], "upsample": "x"}}, {"boxes": 3}, {"note": 3},
        {"encoder": {**about["encoder"], "bands": 10**9}}, {"encoder": {"name": "x"}},
        {"reading": {}}, {"config": {**about["config"], "anchor_sides": [1.0] * 10**6}},
    ]  # fmt: skip
    for change in changes:
        save_file(tensors, path, {"format": "1", "detector": json.dumps(about | change)})
        with pytest.raises(ValueError, match="does not fit its tensors"):
            detect.load(path)
    save_file(tensors, path, {"format": "9", "detector": "{}"})
    with pytest.raises(ValueError, match="newer geossl"):
        detect.load(path)
    first = next(iter(tensors))
    save_file(tensors | {first: tensors[first] * np.nan}, path,
              {"format": "1", "detector": json.dumps(about)})  # fmt: skip
    with pytest.raises(ValueError, match="must be finite, got nan"):
        detect.load(path)
    with pytest.raises(FileNotFoundError, match="no detector at"):
        detect.load(tmp_path / "nowhere")


def test_a_detector_of_version_0_1_opens(tmp_path):
    """Its config has ``batch``, ``colour`` and ``grey``, its logs the seconds of each epoch."""
    detector = talkative(encoder_of(), upsample=1)
    detector.save(tmp_path)
    path = tmp_path / "detector.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
        about = json.loads(file.metadata()["detector"])
    config = about["config"]
    config["batch"], config["colour"] = config.pop("batch_size"), config.pop("color")
    config["colour"]["grey"] = config["colour"].pop("grayscale")
    about["logs"] = {"epoch": [1], "loss": [0.5], "seconds": [2.0]}
    save_file(tensors, path, {"format": "1", "detector": json.dumps(about)})
    loaded = detect.load(path)
    assert loaded.config == detector.config and loaded.logs["seconds"].tolist() == [2.0]
    scene = picture(tmp_path / "a.png")
    pd.testing.assert_frame_equal(loaded.detect(scene), detector.detect(scene), check_exact=True)
