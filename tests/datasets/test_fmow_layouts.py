import importlib

import pytest
from fmow_folders import WILDS, about, listing, scene, sentinel, wilds

MODULES = fmow_module, wilds_module, sentinel_module, gassl_module, satmae_module = [
    importlib.import_module(f"geossl.datasets.{name}")
    for name in ("fmow", "wilds_fmow", "fmow_sentinel", "gassl_csv", "satmae_csv")
]

NO_CSV = {
    "empty": b"",
    "a line": b"\n",
    "a column": b"label\n0\n",
    "no rows": b"label,path\n",
    "no header": b"0,train/zoo/zoo_1/zoo_1_0_rgb.jpg\n0,b.jpg\n",
    "long rows": b"label,path\n0,a.jpg,7,8\n",
    "no text": b"\xff\xfe\x00\x01",
    "open quote": b'label,path\n"0,a.jpg\n',
    "a zip": b"PK\x03\x04" * 99,
    "one long line": b"x" * 10_000_000,
    "many columns": b"x," * 1_000_000,
    "many columns after a long name": b"x" * 70_000 + b",x" * 1_000_000,
}


@pytest.mark.parametrize("text", NO_CSV.values(), ids=NO_CSV)
@pytest.mark.parametrize("module", [gassl_module, satmae_module, sentinel_module])
def test_csvs_that_are_none_are_refused_in_a_sentence(tmp_path, text, module):
    path = tmp_path / "odd.csv"
    path.write_bytes(text)
    assert module.fits(path) is None
    read = getattr(module, module.__name__.rpartition(".")[2])
    with pytest.raises((ValueError, FileNotFoundError), match="odd.csv") as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_each_layout_fits_its_own_reader_alone(tmp_path):
    scene(tmp_path / "fmow", "train/zoo/zoo_1/zoo_1_0", about())
    (tmp_path / "bare/train/zoo/zoo_1").mkdir(parents=True)
    (tmp_path / "bare/train/zoo/zoo_1/zoo_1_0_rgb.jpg").write_bytes(b"x")  # without json
    times = ["2015-07-25T08:45:17Z"] * 4
    places = {
        tmp_path / "fmow": fmow_module,
        tmp_path / "fmow/train": fmow_module,
        tmp_path / "fmow/train/zoo/zoo_1": fmow_module,
        wilds(tmp_path / "wilds", WILDS): wilds_module,
        sentinel(tmp_path / "sentinel"): sentinel_module,
        tmp_path / "sentinel/train.csv": sentinel_module,
        listing(tmp_path / "gassl"): gassl_module,
        listing(tmp_path / "satmae", header=("a", "b", "c"), third=times): satmae_module,
        listing(tmp_path / "split", header=("a", "b", "c"), third=["train"] * 4): None,
        tmp_path / "wilds/rgb_metadata.csv": None,
        tmp_path / "bare": None,
        tmp_path / "absent": None,
        tmp_path: None,
    }
    for path, wanted in places.items():
        found = [module for module in MODULES if module.fits(path)]
        if path == tmp_path:  # holds a folder that holds fMoW
            found = [module for module in found if module is not fmow_module]
        assert found == ([wanted] if wanted else []), path
