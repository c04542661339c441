"""The training loop on a GPU: ResNet-50, 224 px views, bf16, compiled, chips on the GPU.

    PYTHONPATH=. python benchmarks/gpu.py             at most ten minutes
    PYTHONPATH=. python benchmarks/gpu.py --small     a small form on the CPU, to see that it works

`geossl` is the training loop end to end, `model_only` the same model on one fixed batch without data,
views or logs, `dataloader` the same model fed by JPEGs, PIL, torchvision and a DataLoader of all
cores, like the paper's. They run in turn, several times, on synthetic pixels: only rates are measured.
Writes gpu.md and gpu.json to this folder. Without a GPU the small form runs, and the figures stay
"not measured".
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import jpegs
import numpy as np
import roofline
import synthetic
import torch
from roofline import synchronize
from study import Records, hardware
from torch import Tensor
from torch.utils.data import DataLoader

import geossl
from geossl import losses, models
from geossl.transforms import moco_v2

HERE = Path(__file__).parent
METHODS = ("geossl", "model_only", "dataloader")
METRICS = ("pairs_per_s", "share_of_roofline", "memory_gb")
REPEATS, INTERVALS, EXTRA = 3, 3, 20  # steps after the measured ones, for the profiler
SYNCHRONIZING = (
    "cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy",
    "Memcpy HtoD (Pageable -> Device)", "Memcpy DtoH (Device -> Pageable)",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Configuration of the runs: on a GPU, or small on the CPU."""

    device: torch.device
    config: geossl.PretrainConfig
    size_px: int = 256
    locations: int = 2048
    interval: int = 40  # steps
    num_workers: int = os.cpu_count() or 1

    @property
    def side(self) -> int:
        """Return the height and width of a view."""
        return self.config.transform.size_px or self.size_px


GPU = Setting(
    torch.device("cuda"),
    geossl.paper_config(
        transform=moco_v2(224, crop=(0.08, 1.0)), precision="bf16", compile=True, device="cuda",
        log_every=40, knn_every=0, bn_splits=1,
    ),
)  # fmt: skip
SMALL = Setting(
    torch.device("cpu"),
    replace(
        GPU.config, encoder="small", batch_size=16, queue_size=256, transform=moco_v2(32), precision="fp32",
        compile=False, device="cpu", log_every=2,
    ),
    size_px=40, locations=64, interval=2, num_workers=1,
)  # fmt: skip


def end_to_end(store: geossl.ChipStore, setting: Setting, seed: int) -> tuple[float, str]:
    """Measure pairs/s of the training loop with its logs; describe its waits for the GPU."""
    config = setting.config
    steps = setting.interval * (1 + INTERVALS) + EXTRA
    epochs = steps / (len(store) // config.batch_size)
    run = geossl.pretrain(
        store, pairs=geossl.pairs.temporal(), config=replace(config, epochs=epochs), seed=seed
    )
    marks = []
    with closing(iter(run)) as logs:
        for _ in islice(logs, 1 + INTERVALS):  # the first interval compiles
            marks.append(time.perf_counter())
    rate = INTERVALS * setting.interval * config.batch_size / (marks[-1] - marks[0])
    return rate, describe_waits(run, setting) if seed == 0 else ""


def describe_waits(run: Any, setting: Setting) -> str:
    """Profile some steps: say where the host waits for the device, and print the costly kernels."""
    for _ in range(EXTRA // 4):
        run._one_step()
    synchronize(setting.device)
    with torch.profiler.profile() as profile:
        for _ in range(EXTRA // 4):
            run._one_step()
    counts = collections.Counter(e.name for e in profile.events() if e.name in SYNCHRONIZING)
    order = "self_device_time_total" if setting.device.type == "cuda" else "self_cpu_time_total"
    print(profile.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=80))
    calls = ", ".join(f"{n} x {name}" for name, n in counts.items()) or "none"
    text = f"in {EXTRA // 4} steps the profiler saw these synchronizing calls: {calls}"
    if setting.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(EXTRA // 4):
                run._one_step()
            text += f"; `torch.cuda.set_sync_debug_mode('error')` let {EXTRA // 4} steps pass"
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            text += f"; `torch.cuda.set_sync_debug_mode('error')` stopped a step: {first}"
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return text


def bare_step(setting: Setting, seed: int) -> Callable[[Tensor, Tensor], None]:
    """Return the model's part of a step, by hand: query, key, loss, backward, optimizer, queue."""
    config, device = setting.config, setting.device
    fast = config.precision == "bf16"
    layout = torch.channels_last if fast else torch.contiguous_format
    encoder = models.build_encoder(config.encoder, stem=config.stem, seed=seed)
    moco = models.MoCo(encoder, queue_size=config.queue_size, momentum=config.momentum).to(device)
    moco = moco.to(memory_format=layout).train()
    query, key = (torch.compile(f) if config.compile else f for f in (moco.query, moco.key))
    learned = [p for p in moco.parameters() if p.requires_grad]
    solver = torch.optim.SGD(learned, config.lr, config.sgd_momentum, weight_decay=1e-4)
    location = torch.arange(config.batch_size, device=device)

    def step(x_query: Tensor, x_key: Tensor) -> None:
        x_query, x_key = (
            x.to(device, memory_format=layout, non_blocking=True) for x in (x_query, x_key)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            _, projection = query(x_query)
            moco.update_key()
            keys = key(x_key)
        loss = losses.info_nce(projection, keys, moco.queue, temperature=config.temperature)
        loss.backward()
        moco.enqueue(keys, location)
        solver.step()
        solver.zero_grad(set_to_none=True)

    return step


def model_only(setting: Setting, seed: int) -> float:
    """Measure pairs/s of the model on one fixed batch."""
    step = bare_step(setting, seed)
    x = torch.randn(setting.config.batch_size, 3, setting.side, setting.side, device=setting.device)
    x = x.contiguous(memory_format=torch.channels_last)
    return rate_of(lambda: step(x, x), setting, warm=setting.interval // 2)


def dataloader(paths: list[str], setting: Setting, seed: int) -> float:
    """Measure pairs/s of the same model fed by files, PIL, torchvision and a DataLoader."""
    step, batch = bare_step(setting, seed), setting.config.batch_size
    warm = (
        setting.interval // 2 + 2 * setting.num_workers
    )  # also uses up what was loaded during compilation
    loader = DataLoader(
        jpegs.Pairs(paths, jpegs.make_transform(setting.side), (warm + setting.interval + 1) * batch),
        batch_size=batch, num_workers=setting.num_workers, drop_last=True,
        pin_memory=setting.device.type == "cuda",
    )  # fmt: skip
    batches = iter(loader)
    return rate_of(lambda: step(*next(batches)), setting, warm=warm)


def rate_of(work: Callable[[], None], setting: Setting, *, warm: int) -> float:
    """Measure pairs/s over the steps of one interval, after warm-up steps."""
    for _ in range(warm):
        work()
    synchronize(setting.device)
    began = time.perf_counter()
    for _ in range(setting.interval):
        work()
    synchronize(setting.device)
    return setting.interval * setting.config.batch_size / (time.perf_counter() - began)


def measure_alone(work: Callable[[], Any], setting: Setting) -> tuple[Any, float]:
    """Run a method on an empty GPU; return its result and its peak memory in gigabytes."""
    gc.collect()
    torch.compiler.reset()  # else its cache of compiled code fills up and the rest runs eagerly
    if setting.device.type != "cuda":
        return work(), float("nan")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return work(), torch.cuda.max_memory_allocated() / 1e9


def measure(setting: Setting, records: Records, *, minutes: float) -> str:
    """Measure all methods in turn within a time limit; return a description of the waits."""
    began, config, waited = time.perf_counter(), setting.config, ""
    counts = roofline.count_step(config, batch_size=config.batch_size, size_px=setting.side)
    peak = limits(setting)
    floor = roofline.floor_s(counts, *peak)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = synthetic.store(
            folder / "chips", setting.locations * synthetic.DATES, size_px=setting.size_px
        )
        paths = jpegs.write_jpegs(folder / "jpg", setting.locations, size_px=setting.size_px)
        for seed in range(REPEATS if setting is GPU else 1):
            start = time.perf_counter()
            for method, work in {
                "geossl": lambda s=seed: end_to_end(store, setting, s),
                "model_only": lambda s=seed: model_only(setting, s),
                "dataloader": lambda s=seed: dataloader(paths, setting, s),
            }.items():
                result, memory = measure_alone(work, setting)
                if method == "geossl":
                    result, text = result
                    waited = waited or text
                values = {
                    "pairs_per_s": result,
                    "share_of_roofline": result * floor / config.batch_size,
                }
                records.add(
                    method, seed, values | ({} if np.isnan(memory) else {"memory_gb": memory})
                )
                print(method, seed, values, f"{memory:.1f} GB", flush=True)
            took = time.perf_counter() - start
            if time.perf_counter() - began + took > 60 * minutes:
                break
    return waited


def limits(setting: Setting) -> tuple[float, float]:
    """Return TFLOP/s and TB/s of the card from its data sheet, else as measured."""
    if setting.device.type == "cuda":
        key = roofline.card(torch.cuda.get_device_name())
        if key is not None:
            return roofline.CARDS[key]
    return roofline.ceilings(setting.device, small=setting is SMALL)


def counts_text() -> str:
    """Render the counted minimal costs of a step."""
    config = GPU.config
    counts = roofline.count_step(config, batch_size=config.batch_size, size_px=GPU.side)
    flops, moved = (sum(column) / config.batch_size for column in zip(*counts, strict=True))
    lines = [
        f"| {name} | {tflops:,} | {tb:g} | {tflops * 1e12 / flops:,.0f} | "
        f"{config.batch_size / roofline.floor_s(counts, tflops, tb):,.0f} |"
        for name, (tflops, tb) in roofline.CARDS.items()
    ]
    return f"""Counted, not measured: one pair (query forward and backward, key forward) takes {flops / 1e9:.1f} GFLOP in
convolutions and matrix products, and at least {moved / 1e9:.3f} GB of memory traffic if each of them reads its
inputs and writes its outputs once in bf16 (batch norm, ReLU and the optimizer count as nothing). Each is limited
by arithmetic or by memory; the sum is the roofline. Dense bf16 TFLOP/s and TB/s are from NVIDIA's data sheets.

| card | TFLOP/s | TB/s | pairs/s by arithmetic alone | pairs/s at the roofline |
|---|---|---|---|---|
{chr(10).join(lines)}
"""


def page(records: Records, waited: str) -> str:
    """Render the page from the records; without any it says that nothing was measured."""
    head = f"""# On a GPU

`PYTHONPATH=. python benchmarks/gpu.py`: ResNet-50, views of {GPU.side} px from chips of {GPU.size_px} px, batch {GPU.config.batch_size},
queue {GPU.config.queue_size:,}, bf16, channels_last, compiled, chips on the GPU. `geossl` is the training loop end to end, its
logs (one every {GPU.interval} steps) included; `model_only` the same model on one fixed batch; `dataloader` the same model
fed by JPEGs of {GPU.size_px} px, PIL, torchvision's transforms and a DataLoader with one worker per core, files in the
system's cache.
"""
    if not records.rows:
        note = "**Not measured**: no GPU was available. The small form runs on the CPU, as a test."
        return f"{head}\n{note}\n\n{counts_text()}"
    rates = {
        (r["method"], r["seed"]): r["value"] for r in records.rows if r["metric"] == METRICS[0]
    }
    seeds = sorted({seed for _, seed in rates})
    shares = [rates["geossl", s] / rates["model_only", s] for s in seeds]
    times = [rates["geossl", s] / rates["dataloader", s] for s in seeds]
    product, copy = roofline.ceilings(GPU.device, small=False)
    tflops, tb = limits(GPU)
    return f"""{head}
On {hardware()}; mean ± standard deviation of {len(seeds)} repeats in turn.

{records.table(METHODS, METRICS)}

- The loop reaches {np.mean(shares):.1%} of the model-only rate ({min(shares):.1%} to {max(shares):.1%}; target: 90 %), and
  {np.mean(times):.2f} ({min(times):.2f} to {max(times):.2f}) times the rate of the DataLoader.
- Roofline: {tflops:,g} TFLOP/s and {tb:g} TB/s (data sheet, or measured if the card is not listed). Measured here:
  {product:,.0f} TFLOP/s in a product of matrices of 8,192 columns, {copy:.2f} TB/s in a copy.
- Waiting for the GPU: {waited}. The profiler itself synchronizes the device once at its end.

{counts_text()}"""


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write records and page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="run a small form on the CPU")
    parser.add_argument(
        "--minutes", type=float, default=9, help="no repeat starts that would end later"
    )
    parser.add_argument("--output-dir", type=Path, default=HERE, help="of gpu.md and gpu.json")
    args = parser.parse_args(arguments)
    small = args.small or not torch.cuda.is_available()
    records = Records(args.output_dir / "gpu.json")
    if small:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(SMALL, Records(Path(folder) / "small.json"), minutes=args.minutes))
        print("This was the small form on the CPU; its figures are not saved.")
        if records.rows:
            return
    else:
        records.rows = []
        waited = measure(GPU, records, minutes=args.minutes)
    records.write()
    (args.output_dir / "gpu.md").write_text(page(records, "" if small else waited), "utf-8")
    print((args.output_dir / "gpu.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
