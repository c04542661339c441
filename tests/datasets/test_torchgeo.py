import sys
import textwrap

import numpy as np
import pytest

from geossl.data.store import ChipStore
from geossl.datasets.torchgeo import _make_dataset, torchgeo
from geossl.datasets.torchgeo import read_chips as read_samples

STAND_IN = """
    import os
    import numpy as np, torch

    class NonGeoDataset: ...

    class GeoDataset: ...

    class Toy(NonGeoDataset):
        def __init__(self, root, n=5, scale=1.0, places=False, download=False):
            if not os.path.isdir(root):
                raise FileNotFoundError("Dataset not found in root")
            self.n, self.scale, self.places = n, scale, places

        def __len__(self):
            return self.n

        def __getitem__(self, i):
            rng = np.random.default_rng(i)
            image = torch.from_numpy(rng.integers(0, 200, (4, 10, 14))).float() * self.scale
            sample = {"image": image, "label": torch.tensor(i % 3), "mask": torch.zeros(10, 14)}
            if self.places:
                sample |= {"lon": torch.tensor(10.0 * i), "lat": 5.0}
            if i == 3:
                sample["image"][:, 0, 5] = float("nan")
            return sample

    class Named(Toy):
        classes = ["crop", "forest", "sea"]

        def __init__(self, root):
            super().__init__(root)
            self.targets = [0, 1, 2, 0, 1]

    class Area(GeoDataset): ...
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "torchgeo").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torchgeo" / "__init__.py").write_text("")
    (tmp_path / "torchgeo" / "datasets.py").write_text(textwrap.dedent(STAND_IN))
    _make_dataset.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.split(".")[0] == "torchgeo"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    _make_dataset.cache_clear()
    for name in [n for n in sys.modules if n.split(".")[0] == "torchgeo"]:
        del sys.modules[name]


def test_torchgeo_samples_become_chips_with_what_they_tell(stand_in, monkeypatch):
    rows = torchgeo("Toy", arguments={"root": "data", "places": True}, bands=(1, 3))
    assert len(rows) == 5 and rows["dtype"][0] == "uint8" and rows["lon"].isna().all()
    monkeypatch.chdir("/")  # any process, anywhere
    _make_dataset.cache_clear()
    store = ChipStore.build(stand_in / "chips", rows, size_px=10, progress=False)
    wanted = np.random.default_rng(4).integers(0, 200, (4, 10, 14))[[0, 2], :, 2:12]
    assert (np.asarray(store.chips[4]) == wanted).all()
    assert store.scenes["label"].tolist() == ["0", "1", "2", "0", "1"]
    assert store.scenes["lon"].tolist() == [0, 10, 20, 30, 40]
    assert store.scenes["nodata_share"][3] == pytest.approx(1 / 100)
    assert (np.asarray(store.chips[3])[:, 0, 3] == 0).all()


def test_torchgeo_labels_have_names_where_the_set_has(stand_in):
    rows = torchgeo("Named", arguments={"root": "data"})
    names = ["crop", "forest", "sea", "crop", "forest"]
    assert rows["label"].tolist() == names
    assert read_samples(rows, size_px=4).extra["label"].tolist() == names
    assert torchgeo("Toy", arguments={"root": "data"})["label"].isna().all()


def test_torchgeo_values_need_a_type_that_holds_them(stand_in):
    about = {"root": "data", "scale": 0.125}
    with pytest.raises(ValueError, match="must be whole numbers from 0 to 65535"):
        torchgeo("Toy", arguments=about)
    scaled = torchgeo("Toy", arguments=about, scale=(0.0, 25.0))
    assert scaled["dtype"][0] == "uint16"
    chips = read_samples(scaled, size_px=10).chips
    wanted = 1 + np.random.default_rng(0).integers(0, 200, (4, 10, 14))[:, :, 2:12] / 200 * 65534
    assert np.abs(chips[0] - wanted).max() <= 1
    assert torchgeo("Toy", arguments={"root": "data", "scale": 40})["dtype"][0] == "uint16"
    small = torchgeo("Toy", arguments={"root": "data", "scale": 40}, dtype="uint8")
    found = read_samples(small, size_px=10)
    assert len(found.bad) == 5 and "pass `dtype` or `scale=" in found.bad[0]


@pytest.mark.parametrize(
    ("name", "about", "words"),
    [
        ("Toy", {"root": "elsewhere"}, "Dataset not found"),
        ("Toy", {"root": "data", "download": True}, "`arguments` must not have download=True"),
        ("Toy", {"root": "data", "what": 1}, "what"),
        ("Toy", {"root": "data", "n": 0}, "has no samples"),
        ("Toy", {"root": "data", "n": {1, 2}}, "`arguments` must be json"),
        ("Area", {}, "NonGeoDataset"),
        ("np", {}, "NonGeoDataset"),
        ("Nothing", {}, "NonGeoDataset"),
    ],
)
def test_torchgeo_data_sets_that_cannot_be_made(stand_in, name, about, words):
    with pytest.raises(ValueError, match=words):
        torchgeo(name, arguments=about)


def test_without_torchgeo_it_says_what_to_install(monkeypatch):
    _make_dataset.cache_clear()
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    with pytest.raises(ImportError, match="pip install torchgeo"):
        torchgeo("EuroSAT")
