import numpy as np
import pandas as pd
import pytest
import torch
from segment_scenes import tif

from geossl.datasets.raster import area
from geossl.tasks.segment.crops import Scenes
from geossl.tasks.segment.masks import IGNORE, Masks


def coded(folder, sizes):
    """Scenes whose first band is ten times the class, the second the scene's number."""
    rng = np.random.default_rng(0)
    rows = []
    for i, (height, width) in enumerate(sizes):
        codes = rng.integers(0, 3, (height, width), dtype=np.uint8)
        pixels = np.stack([10 * codes + 1, np.full_like(codes, i + 1)])
        pixels[:, 0, :2] = 0  # no data
        rows.append({
            "path": tif(folder / f"{i}.tif", pixels, nodata=0),
            "mask": tif(folder / f"m{i}.tif", codes),
        })  # fmt: skip
    return area.scene_rows(pd.DataFrame(rows), bands=2)


@pytest.mark.parametrize("keep", [0, 1e9])
def test_crops_move_image_and_mask_alike_and_pad_what_is_small(keep, tmp_path):
    found = Scenes(coded(tmp_path, [(50, 70), (9, 5)]), Masks(("a", "b", "c")), keep_bytes=keep)
    scenes = found.draw(size_px=16, batch_size=3, epoch=0, seed=0)
    each = round(50 * 70 / 256)
    assert scenes.shape == ((each + 1) // 3, 3) and np.bincount(scenes.ravel())[0] >= each - 2
    seen = set()
    for epoch in range(3):
        for pixels, valid, codes in found.batches(size_px=16, batch_size=3, epoch=epoch, seed=0):
            assert pixels.shape == (3, 2, 16, 16) and pixels.dtype == torch.float32
            assert valid.shape == codes.shape == (3, 16, 16)
            assert torch.equal(codes != IGNORE, valid) and not pixels[:, 0][~valid].any()
            assert torch.equal(pixels[:, 0][valid], 10 * codes[valid].float() + 1)
            for one, part in zip(pixels[:, 1], valid, strict=True):
                which = int(one.max())
                seen.add(which)
                assert int(part.sum()) in ({43, 44, 45} if which == 2 else range(254, 257))
    assert seen == {1, 2}
    few = found.draw(size_px=512, batch_size=7, epoch=0, seed=0)
    assert few.shape == (1, 7) and set(few[0]) == {0, 1}  # two scenes come several times
    (batch,) = found.batches(size_px=64, batch_size=7, epoch=0, seed=0)
    assert len(batch[0]) == 7


def test_crops_are_drawn_by_the_seed_in_all_eight_ways(tmp_path):
    codes = np.arange(16, dtype=np.uint8).reshape(4, 4)
    scenes = pd.DataFrame({
        "path": [tif(tmp_path / "a.tif", codes[None] + 1)],
        "mask": [tif(tmp_path / "m.tif", codes)],
    })  # fmt: skip
    names = tuple(map(str, range(16)))
    found = Scenes(area.scene_rows(scenes, bands=1), Masks(names), keep_bytes=1e6)

    def drawn(seed, epochs=4):
        parts = (
            batch[2]
            for epoch in range(epochs)
            for batch in found.batches(size_px=4, batch_size=20, epoch=epoch, seed=seed)
        )
        return torch.cat(list(parts))

    ways = {tuple(t.flatten().tolist()) for t in drawn(0)}
    turned = {
        tuple(np.rot90(part, k).ravel().tolist()) for k in range(4) for part in (codes, codes.T)
    }
    assert ways == turned and len(ways) == 8
    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))
