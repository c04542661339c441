"""What is to be done: the options of the command line, the steps of each task and its methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tyro
from annotated_types import Ge
from tyro.conf import Positional

from geossl import pairs
from geossl.models.hub import WEIGHTS
from geossl.utils.validate import Positive, PositiveInt, Seed, check_fields

Task: TypeAlias = Literal["fmow", "geoimagenet", "xview", "spacenet", "naip"]
Step: TypeAlias = Literal[
    "chips", "clusters", "pretrain", "linear", "finetune", "temporal", "detect", "segment", "table"
]
STEPS: dict[str, tuple[Step, ...]] = {
    "fmow": ("chips", "clusters", "pretrain", "linear", "finetune", "temporal", "table"),
    "geoimagenet": ("chips", "clusters", "pretrain", "linear", "table"),
    "xview": ("detect", "table"),
    "spacenet": ("segment", "table"),
    "naip": ("chips", "linear", "table"),
}
OF_DATA = ("chips", "clusters")  # steps that are done once, not for each method
# method -> (pair sampler or None, geo clusters?, labels?)
METHODS = {
    "supervised": (None, False, True),
    "geoloc": (None, True, False),
    "moco": (pairs.same_image(), False, False),
    "moco+geo": (pairs.same_image(), True, False),
    "moco+tp": (pairs.temporal(), False, False),
    "moco+geo+tp": (pairs.temporal(), True, False),
}
_TRANSFER = ("random", "supervised", "moco", "moco+geo", "moco+tp", "moco+geo+tp")
_METHODS_OF = {"fmow": tuple(METHODS), "geoimagenet": tuple(m for m in METHODS if "tp" not in m)}
_SIZES_PX = {"fmow": 448, "geoimagenet": 448, "xview": 416, "spacenet": 416, "naip": 224}
TEST_SPLITS = {"fmow": "val"}  # the test images of fMoW have no public labels; others have "test"
# the options that shape what a step makes, besides the size and those of the encoder
_OPTIONS: dict[str, tuple[str, ...]] = {
    "chips": (),
    "clusters": ("k", "seed"),
    "pretrain": (),
    "linear": ("view_px", "linear_epochs", "seed"),
    "finetune": ("view_px", "finetune_epochs", "seed"),
    "temporal": ("view_px", "linear_epochs", "finetune_epochs", "seed"),
    "detect": ("task_epochs", "seed"),
    "segment": ("task_epochs", "seed"),
}
_OF_ENCODER = ("encoder", "view_px", "epochs", "batch_size", "queue_size", "seed")


@dataclass(frozen=True)
class Settings:
    """Reproduce the paper, from the public data to its tables; the same command resumes.

    Args:
        task: fmow and geoimagenet train encoders and measure them; xview, spacenet and naip measure
            those that fmow trained in the same `--output-dir`.
        data: folder of the data set, as it is published.
        output_dir: folder of everything that is made; each task has a folder in it.
        step: the steps to do; all of the task by default.
        methods: the methods, or names of `--weights`, to do; all by default.
        weights: files, folders of runs, or published names (gassl, imagenet-resnet50, ...), each
            measured as a further row.
        plan: do nothing but say how many images there are and how long it all takes, from a
            measurement of up to a minute.
        encoder: the paper's, or "tiny" to try it all on a laptop.
        size_px: side of a chip, or of a crop of xview and spacenet; by default 448 (fmow,
            geoimagenet), 416 (xview, spacenet) or 224 (naip).
        view_px: side of the views, and of what is embedded.
        epochs: of pre-training.
        batch_size: of pre-training, on all devices together.
        queue_size: negatives in the queue.
        k: number of geo clusters.
        linear_epochs: of the linear classifier; its rate falls to a tenth after 60 and 80 % of them.
        finetune_epochs: of fine-tuning on fMoW; the paper does not say how many.
        task_epochs: of training on xview or spacenet; the paper does not say how many.
        seed: of all that is drawn.
        device: "auto", "cpu", "cuda", "cuda:1".
        skip_bad: leave damaged images out and count them, instead of stopping.
    """

    task: Positional[Task]
    data: Path
    output_dir: Annotated[Path, tyro.conf.arg(aliases=("-o",))]
    step: tuple[Step, ...] = ()
    methods: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    plan: bool = False
    encoder: str = "resnet50"
    size_px: PositiveInt | None = None
    view_px: PositiveInt = 224
    epochs: Positive = 200
    batch_size: Annotated[int, Ge(2)] = 256
    queue_size: PositiveInt = 65_536
    k: PositiveInt = 100
    linear_epochs: PositiveInt = 100
    finetune_epochs: PositiveInt = 20
    task_epochs: PositiveInt = 20
    seed: Seed = 0
    device: str = "auto"
    skip_bad: bool = False

    def check(self) -> None:
        """Check the options together.

        Raises:
            ValueError: a step or method that the task does not have, or a name twice.
        """
        check_fields(self)
        for step in self.step:
            if step not in STEPS[self.task]:
                known = list(STEPS[self.task])
                raise ValueError(f"`step` of {self.task} must be among {known}, got {step!r}.")
        names = [*self.trained, *map(label_of, self.weights)]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(
                f"`weights` must have names of their own, but {twice[0]!r} is there twice. Rename "
                "the file or the folder."
            )
        wrong = [method for method in self.methods if method not in names]
        if wrong:
            raise ValueError(f"`methods` of {self.task} must be among {names}, got {wrong[0]!r}.")
        for name in self.weights:
            if name not in WEIGHTS and not Path(name).exists():
                raise ValueError(
                    f"`weights` must be files, folders of runs or names among {sorted(WEIGHTS)}, got "
                    f"{name!r}."
                )
        if not self.data.exists():
            raise ValueError(
                f"`data` must be the folder of the data set, but {self.data} is absent."
            )

    @property
    def trained(self) -> tuple[str, ...]:
        """The methods of the task, without `weights`."""
        return _METHODS_OF.get(self.task, _TRANSFER)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The steps to do, in their order."""
        return tuple(step for step in STEPS[self.task] if not self.step or step in self.step)

    def methods_of(self, step: str) -> list[str]:
        """Return what is done in a step: methods, or one entry for all of them."""
        if step in OF_DATA:
            return ["all"]
        names = [*self.trained, *(map(label_of, self.weights) if step != "pretrain" else ())]
        return [name for name in names if not self.methods or name in self.methods]

    def weights_of(self, method: str) -> str | None:
        """Return which weights a row is of; None for a method."""
        return next((name for name in self.weights if label_of(name) == method), None)

    @property
    def folder(self) -> Path:
        """Folder of the task."""
        return self.output_dir / self.task

    @property
    def encoders(self) -> Path:
        """Folder of the runs that trained the task's encoders."""
        own = self.task if self.task in _METHODS_OF else "fmow"
        return self.output_dir / own / "encoders"

    @property
    def trains_encoders(self) -> bool:
        """Whether the task trains its encoders itself."""
        return self.task in _METHODS_OF

    @property
    def side_px(self) -> int:
        """Side of a chip or a crop."""
        return self.size_px or _SIZES_PX[self.task]

    @property
    def test_split(self) -> str:
        """The split that is measured."""
        return TEST_SPLITS.get(self.task, "test")

    def shaping(self, step: str, method: str) -> dict[str, Any]:
        """Return the options that shape what a step makes of a method, by name."""
        names = list(_OPTIONS[step])
        if method in METHODS and self.trains_encoders:
            names = [*_OF_ENCODER, *(["k"] if METHODS[method][1] else []), *names]
        elif method == "random":
            names = ["encoder", *names]
        values = {name: getattr(self, name) for name in dict.fromkeys(names)}
        weights = self.weights_of(method)
        return {"size_px": self.side_px} | values | ({"weights": weights} if weights else {})


def label_of(weights: str) -> str:
    """Return the name of a row of weights: a published name, or the file's without its ending."""
    path = Path(weights)
    return path.stem if path.is_file() else path.name


def paper_value(task: str, name: str) -> Any:
    """Return the paper's value of an option; None for one that it does not say."""
    if name == "size_px":
        return _SIZES_PX[task] if task not in ("spacenet", "naip") else None
    default = Settings.__dataclass_fields__[name].default if name != "weights" else None
    return None if name in ("finetune_epochs", "task_epochs", "seed") else default
