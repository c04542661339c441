import numpy as np
import torch
from detect_scenes import picture, scattered, table_of

from geossl.datasets.raster import area
from geossl.tasks import detect
from geossl.tasks.detect.crops import Crops


def test_crops_show_what_their_boxes_say(tmp_path):
    scenes, boxes = scattered(tmp_path, count=3)
    config = detect.DetectConfig(batch_size=6, size_px=48, boxed=1.0, min_visible=0.4)
    crops = Crops(area.scene_rows(scenes), detect.check_boxes(boxes, scenes), ["square"], config)
    for seed in range(6):
        pixels, valid, targets = crops.batch(seed)
        again = crops.batch(seed)
        assert torch.equal(pixels, again[0]) and valid.all() and pixels.dtype == torch.float32
        for image, target in zip(pixels, targets, strict=True):
            assert len(target["boxes"]) >= 1 and len(target["boxes"]) == len(target["labels"])
            bright = torch.zeros(48, 48, dtype=torch.bool)
            for x0, y0, x1, y1 in torch.cat([target["boxes"], target["ignored"]]).int().tolist():
                bright[y0:y1, x0:x1] = True
            assert torch.equal(bright, (image > 200).all(0))
    assert not torch.equal(crops.batch(0)[0], crops.batch(1)[0])


def test_crops_of_small_scenes_of_background_and_of_crowds(tmp_path):
    path = picture(tmp_path / "a.png", size=(20, 90))
    boxes = table_of([(path, 2, 2, 8, 8, "x"), (path, 40, 2, 60, 12, "x")])
    boxes["crowd"] = [False, True]
    config = detect.DetectConfig(batch_size=64, size_px=32)
    rows = area.scene_rows(path)
    pixels, valid, targets = Crops(rows, detect.check_boxes(boxes, path), ["x"], config).batch(0)
    assert (
        valid.sum((1, 2)).eq(20 * 32).all() and not pixels[~valid[:, None].expand_as(pixels)].any()
    )
    seen = [len(t["boxes"]) for t in targets]
    assert max(seen) == 1 and 0.6 < np.mean(seen) < 1  # the crowd is never an object
    assert any(len(t["ignored"]) for t in targets)
    none = Crops(rows, detect.check_boxes(table_of([]), path), [], config).batch(0)
    assert not any(len(t["boxes"]) for t in none[2])
