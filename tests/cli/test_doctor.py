import importlib.util

import pytest

from geossl.cli import doctor
from geossl.train import throughput


@pytest.fixture(autouse=True)
def speeds(monkeypatch, tmp_path):
    """The speed of this machine is remembered in a folder of the test."""
    monkeypatch.setattr(throughput, "_speed_file", lambda: tmp_path / "speed.json")
    return tmp_path / "speed.json"


def test_a_ready_machine_passes_and_says_so_in_ten_lines(monkeypatch):
    monkeypatch.setattr(doctor, "_TRAINING_S", 0.2)
    findings = doctor.check_machine()
    assert len(findings) == 10
    assert all(f.ok for f in findings), [str(f) for f in findings if not f.ok]
    assert all("\n" not in str(f) for f in findings)


def test_a_machine_that_lacks_something_is_told_what_to_do(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(doctor, "_TRAINING_S", 0.01)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "rasterio" else real(name, *a)
    )
    bad = [f for f in doctor.check_machine() if not f.ok]
    assert [f.subject for f in bad] == ["GeoTIFF"]
    assert "pip install" in str(bad[0]) and str(bad[0]).startswith("!!")


def test_only_the_packages_that_the_readme_installs_are_missed(monkeypatch):
    wanted = ["torch>=2.4", 'no-such-a>=1; extra == "dask"', "no-such-b>=1; extra == 'notebooks'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: wanted)
    with pytest.raises(ImportError, match="missing: no-such-b; run"):
        doctor._packages()


def test_the_stated_minutes_are_compared_with_this_machine(monkeypatch, speeds):
    here = throughput.REFERENCE_PAIRS_PER_S / 1.8
    measured = throughput.Throughput(here, here, here)
    monkeypatch.setattr(throughput, "measure_throughput", lambda *args, **options: measured)
    said = doctor._training()
    assert said.startswith(f"{here:.0f} pairs/s: the lessons take about 1.8 x the stated minutes")
    assert throughput.relative_speed() == pytest.approx(1 / 1.8) and speeds.exists()
