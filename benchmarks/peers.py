"""Other libraries, set up as in their own examples, and a bare loop: for speed.py and quality.py.

- `lightly`: MoCo-v2 as in lightly's example for PyTorch (its dataset, transform, head, memory bank).
- `torchgeo`: torchgeo's MoCoTask with its kornia augmentations, data module and Lightning's Trainer.
- `paper`: the steps of the paper's code, written anew: PIL, torchvision transforms, a glob for another
  date of the location, DataLoader, DistributedDataParallel with shuffled keys, accuracies read every
  step. One process, as there is one device.
- `bare`: only the model step, written by hand around geossl's encoder, on precomputed views.

All have a ResNet-18 with its usual stem, a head 512-512-128 and a queue of ``queue_size``. Folders of
images have a folder per location: ``<location>/<date>.jpg``. `pip install 'geossl[bench]'` installs
the packages.
"""

from __future__ import annotations

import copy
import glob
import logging
import random
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as T

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of RGB in [0, 1]


class Stopwatch:
    """Measure CPU seconds of this process by stage; a nested stage is not counted twice."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._stage, self._since = "rest", time.process_time()

    def switch(self, stage: str) -> str:
        """Start another stage; return the previous one."""
        now = time.process_time()
        self.spent[self._stage] += now - self._since
        before, self._stage, self._since = self._stage, stage, now
        return before

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time counts as a stage."""
        return partial(self._call, stage, function)

    def _call(self, stage: str, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        before = self.switch(stage)
        try:
            return function(*args, **named)
        finally:
            self.switch(before)


@dataclass
class Pipeline:
    """A training pipeline: ``for _ in epoch()`` passes once over the images, step by step."""

    epoch: Callable[[], Iterator[None]]
    backbone: nn.Module  # what is evaluated
    watch: Stopwatch


def build_resnet() -> nn.Module:
    """Build a ResNet-18 without its last layer."""
    net = torchvision.models.resnet18()
    net.fc = nn.Identity()
    return net


def make_loader(dataset: Any, batch_size: int, num_workers: int) -> DataLoader:
    """Make a loader of full, shuffled batches; its workers persist over short epochs."""
    return DataLoader(
        dataset, batch_size, shuffle=True, drop_last=True, num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )  # fmt: skip


def lightly(
    folder: Path,
    size: int,
    *,
    batch_size: int,
    queue_size: int,
    num_workers: int = 0,
    epochs: int = 10,
) -> Pipeline:
    """Set up MoCo-v2 with lightly, in the order and with the settings of its example."""
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms.moco_transform import MoCoV2Transform
    from lightly.utils.scheduler import cosine_schedule

    watch = Stopwatch()
    transform = watch.wrap("views", MoCoV2Transform(input_size=size))
    dataset = LightlyDataset(str(folder), transform=transform)
    dataset.dataset.loader = watch.wrap("decode", dataset.dataset.loader)
    loader = make_loader(dataset, batch_size, num_workers)
    net, head = build_resnet(), MoCoProjectionHead(512, 512, 128)
    slow_net, slow_head = copy.deepcopy(net), copy.deepcopy(head)
    deactivate_requires_grad(slow_net)
    deactivate_requires_grad(slow_head)
    criterion = NTXentLoss(memory_bank_size=(queue_size, 128))
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.06)
    epoch_numbers = count()

    def epoch() -> Iterator[None]:
        momentum = cosine_schedule(min(next(epoch_numbers), epochs), epochs, 0.996, 1)
        total = 0.0
        for (x_query, x_key), _, _ in loader:
            watch.switch("model")
            update_momentum(net, slow_net, m=momentum)
            update_momentum(head, slow_head, m=momentum)
            query = head(net(x_query).flatten(1))
            key = slow_head(slow_net(x_key).flatten(1)).detach()
            loss = criterion(query, key)
            total += loss.detach()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.switch("rest")
            yield

    return Pipeline(epoch, net, watch)


def torchgeo(
    folder: Path, size: int, *, batch_size: int, queue_size: int, num_workers: int = 0
) -> Pipeline:
    """Set up torchgeo's MoCoTask (v2), fitted by Lightning in a thread; `epoch` yields at its end."""
    from lightning.pytorch import Callback, Trainer
    from torchgeo.datamodules import NonGeoDataModule
    from torchgeo.datasets import NonGeoClassificationDataset
    from torchgeo.trainers import MoCoTask

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    watch = Stopwatch()
    task = MoCoTask(
        model="resnet18", in_channels=3, version=2, layers=2, hidden_dim=512, output_dim=128,
        lr=0.03, weight_decay=1e-4, temperature=0.07, memory_bank_size=queue_size, moco_momentum=0.999,
        size=size,
    )  # fmt: skip
    for augmentation in {task.augmentation1, task.augmentation2}:
        augmentation.forward = watch.wrap("views", augmentation.forward)
    dataset = NonGeoClassificationDataset(str(folder))
    dataset._load_image = watch.wrap("decode", dataset._load_image)

    class Data(NonGeoDataModule):
        def setup(self, stage: str) -> None:
            self.train_dataset = dataset

    go, done = threading.Semaphore(0), threading.Semaphore(0)

    class Stages(Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            go.acquire()

        def on_train_batch_start(self, *_: Any) -> None:
            watch.switch("model")

        def on_train_batch_end(self, *_: Any) -> None:
            watch.switch("rest")

        def on_train_epoch_end(self, *_: Any) -> None:
            done.release()

    data = Data(NonGeoClassificationDataset, batch_size=batch_size, num_workers=num_workers)
    data.aug = watch.wrap("views", data.aug)  # to [0, 1]

    def fit() -> None:
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, logger=False, callbacks=[Stages()],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            limit_val_batches=0,
        )  # fmt: skip
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it advises more workers
                trainer.fit(task, data)
        finally:
            fitting.clear()
            done.release()

    fitting = [threading.Thread(target=fit, daemon=True)]

    def epoch() -> Iterator[None]:
        if fitting and not fitting[0].ident:
            fitting[0].start()
        go.release()
        done.acquire()
        if not fitting:
            raise RuntimeError("Lightning's fit ended; see its own message above.")
        yield

    return Pipeline(epoch, task.backbone, watch)


class Dates(Dataset):
    """An image and another date of its location from a listing of the folder, as in the paper."""

    def __init__(self, folder: Path, read: Callable[..., Any], transform: Callable[..., Any]):
        self.paths = sorted(str(p) for p in folder.glob("*/*.jpg"))
        self.read, self.transform = read, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        path = self.paths[index]
        others = [p for p in glob.glob(f"{path.rsplit('/', 1)[0]}/*.jpg") if p != path]
        return [self.transform(self.read(p)) for p in (path, random.choice(others or [path]))]


def decode(path: str) -> Any:
    """Decode an image file."""
    from PIL import Image

    with Image.open(path) as file:
        return file.convert("RGB")


class Blur:
    """PIL's Gaussian blur of a random sigma."""

    def __call__(self, image: Any) -> Any:
        """Blur a PIL image."""
        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def paper(
    folder: Path,
    size: int,
    *,
    batch_size: int,
    queue_size: int,
    num_workers: int = 0,
    lr: float = 0.03,
    temperature: float = 0.02,
) -> Pipeline:
    """Set up temporal pairs as in the paper's code; images larger than 2 x size are reduced to that."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    watch = Stopwatch()
    large = decode(next(str(p) for p in folder.glob("*/*.jpg"))).size[0] > 2 * size
    transform = T.Compose([
        *([T.Resize(2 * size)] if large else []),
        T.RandomResizedCrop(size, scale=(0.2, 1.0)),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
        T.RandomApply([Blur()], p=0.5),
        T.RandomHorizontalFlip(),
        T.PILToTensor(),
        T.ToDtype(torch.float32, scale=True),
        T.Normalize(*IMAGENET),
    ])  # fmt: skip
    dataset = Dates(folder, watch.wrap("decode", decode), watch.wrap("views", transform))
    loader = make_loader(dataset, batch_size, num_workers)
    net = build_resnet()
    model = nn.Sequential(net, nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    slow = copy.deepcopy(model).requires_grad_(False)
    wrapped = nn.parallel.DistributedDataParallel(model)
    negatives, pointer = F.normalize(torch.randn(128, queue_size), dim=0), torch.zeros(1).long()
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    totals: Counter[str] = Counter()

    def encode_keys(x: Tensor) -> Tensor:
        """Send images and order to all processes, as for shuffling BN; here there is one."""
        gathered = [torch.empty_like(x)]
        dist.all_gather(gathered, x)
        order = torch.randperm(len(x))
        dist.broadcast(order, src=0)
        return F.normalize(slow(torch.cat(gathered)[order]), dim=1)[order.argsort()]

    def epoch() -> Iterator[None]:
        for x_query, x_key in loader:
            watch.switch("model")
            query = F.normalize(wrapped(x_query), dim=1)
            with torch.no_grad():
                for q, k in zip(model.parameters(), slow.parameters(), strict=True):
                    k.data = k.data * 0.999 + q.data * 0.001
                key = encode_keys(x_key)
            same = torch.einsum("nd,nd->n", query, key)[:, None]
            other = torch.einsum("nd,dk->nk", query, negatives.clone())
            logits = torch.cat([same, other], 1) / temperature
            at = int(pointer)
            negatives[:, at : at + batch_size] = key.T
            pointer[0] = (at + batch_size) % queue_size
            target = torch.zeros(len(logits), dtype=torch.long)
            loss = criterion(logits, target)
            best = logits.topk(5, 1).indices == 0
            totals.update(top1=best[:, 0].sum().item(), top5=best.sum().item(), loss=loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.switch("rest")
            yield

    return Pipeline(epoch, net, watch)


def bare(
    encoder: nn.Module, size: int, *, batch_size: int, queue_size: int, steps: int
) -> Pipeline:
    """Set up only the model step of MoCo-v2, on random views; an epoch has ``steps`` steps."""
    watch = Stopwatch()
    net = copy.deepcopy(encoder).train()
    model = nn.Sequential(net, nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    slow = copy.deepcopy(model).requires_grad_(False)
    fast_weights, slow_weights = list(model.parameters()), list(slow.parameters())
    optimizer = torch.optim.SGD(fast_weights, 0.03, momentum=0.9, weight_decay=1e-4, fused=True)
    negatives, at = F.normalize(torch.randn(queue_size, 128), dim=1), 0
    x_query, x_key = torch.randn(2, batch_size, 3, size, size)
    target = torch.zeros(batch_size, dtype=torch.long)

    def epoch() -> Iterator[None]:
        nonlocal at
        for _ in range(steps):
            watch.switch("model")
            query = F.normalize(model(x_query), dim=1)
            with torch.no_grad():
                torch._foreach_lerp_(slow_weights, fast_weights, 0.01)
                key = F.normalize(slow(x_key), dim=1)
            logits = torch.cat([(query * key).sum(1, keepdim=True), query @ negatives.T], 1)
            loss = F.cross_entropy(logits / 0.2, target)
            loss.backward()
            negatives[at : at + batch_size] = key
            at = (at + batch_size) % queue_size
            optimizer.step()
            optimizer.zero_grad()
            watch.switch("rest")
            yield

    return Pipeline(epoch, net, watch)
