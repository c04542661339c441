"""The tables: the paper's numbers, ours beside them, and what differs."""

from __future__ import annotations

from typing import Any

from published import NUMBERS, SPACENET_BEST, TITLES
from results import Results
from settings import Settings, paper_value

from geossl.utils.io import atomic_write

NOT_MEASURED = "not measured"
# task -> tables -> head -> column of the paper or "", column of ours or ""
_TABLES: dict[str, dict[str, dict[str, tuple[str, str]]]] = {
    "fmow": {
        "Single images of val, frozen encoder": {
            "top-1": ("linear.top1", "linear.top1"),
            "F1": ("linear.f1", "linear.f1"),
            "top-1 after 100 epochs": ("linear.top1 after 100 epochs", ""),
        },
        "Single images of val, all layers fine-tuned": {
            "top-1": ("finetune.top1", "finetune.top1"),
            "F1": ("finetune.f1", "finetune.f1"),
        },
        "All dates of a location together": {
            "top-1": ("temporal.top1", ""),
            "top-1, frozen": ("", "temporal.linear_top1"),
            "top-1, fine-tuned": ("", "temporal.finetuned_top1"),
            "F1": ("temporal.f1", ""),
            "F1, frozen": ("", "temporal.linear_f1"),
            "F1, fine-tuned": ("", "temporal.finetuned_f1"),
        },
    },
    "geoimagenet": {
        "Photos of test, frozen encoder": {"top-1": ("linear.top1", "linear.top1")},
    },
    "xview": {"Objects in xView, all layers fine-tuned": {"AP50": ("detect.ap50", "detect.ap50")}},
    "spacenet": {
        "Buildings of SpaceNet v1, all layers fine-tuned": {
            "mIoU": ("segment.miou", "segment.miou"),
        },
    },
    "naip": {"Land cover of NAIP tiles, frozen encoder": {"top-1": ("", "linear.top1")}},
}  # fmt: skip
_CHIPS = (
    "Images are normalized by the mean and deviation of the training chips, not of ImageNet.",
    "Views: the colors change in a fixed order and without clamping, the hue in YIQ.",
    "The learning rate of pre-training follows its cosine at every step, theirs at every epoch.",
    "Geo clusters: k-means on the sphere; the paper does not say whether on it or on degrees.",
    "Linear classifier: one embedding an image, without random crops, standardized by the training "
    "images.",
    "`supervised` is trained as the other methods are, with labels; linear and fine-tuning put a new "
    "head on it. The paper measures the trained network itself.",
)
_DIFFERENCES: dict[str, tuple[str, ...]] = {
    "fmow": (
        *_CHIPS,
        "Fine-tuning: AdamW, a lower rate for earlier layers, crops of 0.2 to 1 and flips; the paper "
        "gives no numbers beyond a small rate.",
        "A box's context is widened by its own sides; fMoW's baseline exchanges width and height.",
        "Temporal classification: ours by both classifiers; our source does not say which one the "
        "paper's numbers are of.",
    ),
    "geoimagenet": (
        *_CHIPS,
        "The split was not published: test photos are drawn by geossl.",
    ),
    "xview": (
        "The split was not published: a quarter of the images is held out, in blocks of one degree.",
        "Crops are drawn at random places instead of on a grid, as many an epoch as a grid with a fifth "
        "of overlap has.",
        "RetinaNet: torchvision's, with LayerNorm in FPN and heads; crops are flipped and turned by "
        "quarters; AdamW without decay under a cosine with a warmup for Adam.",
        "AP50: pycocotools, without its limit of 100 detections an image.",
        "Images are normalized by the statistics of fMoW's training chips, not of ImageNet.",
    ),
    "spacenet": (
        "The head is a feature pyramid of geossl, not PSANet.",
        "The split was not published: test images are drawn by geossl.",
        "AdamW, the encoder at a tenth of the head's rate; the paper gives no numbers.",
        "Images are normalized by the statistics of fMoW's training chips, not of ImageNet.",
    ),
    "naip": (
        "The split was not published: test tiles are drawn by geossl.",
        "Linear classifier: one embedding a tile, standardized by the training tiles.",
        "Images are normalized by the statistics of fMoW's training chips, not of ImageNet; NIR is "
        "left out.",
        "Our source lists no number of the paper for this task.",
    ),
}


def write_table(settings: Settings) -> str:
    """Write the tables of a task to its folder, from the results that are there.

    Returns:
        The same as Markdown.
    """
    results = Results(settings).all()
    measured = {key: found for key, found in results.items() if key not in ("chips", "clusters")}
    own = [name for found in measured.values() for name in found if name not in TITLES]
    text = [f"# {settings.task}: the paper and geossl", ""]
    text += [
        "In per cent; ours with the 95 % interval over test locations. " + _seeds(measured),
        "",
    ]
    for title, columns in _TABLES[settings.task].items():
        text += [f"## {title}", "", *_rows(settings, columns, results, own), ""]
    if settings.task == "fmow":
        text += ["A number with a star was reported by others, not in the paper.", ""]
    text += [
        "`--weights gassl imagenet-resnet50` adds the published encoder of the paper, and ImageNet's.",
        "",
    ]
    if settings.task == "spacenet":
        text += [f"The best of the paper's methods has {SPACENET_BEST}.", ""]
    text += ["## What differs from the paper", ""]
    text += [f"- {line}" for line in [*_changed(settings, measured), *_DIFFERENCES[settings.task]]]
    text += ["", "## What made these numbers", "", *_origins(measured), ""]
    page = "\n".join(text)
    with atomic_write(settings.folder / "table.md") as part:
        part.write_text(page, "utf-8")
    return page


def _rows(
    settings: Settings, columns: dict[str, tuple[str, str]], results: Any, own: list[str]
) -> list[str]:
    """Return the lines of a table: a row for each method, the paper's numbers before ours."""
    numbers = NUMBERS[settings.task]
    heads, cells_of = [], []
    for head, (paper, ours) in columns.items():
        if paper:
            heads.append(f"{head}, paper")
            cells_of.append(lambda name, paper=paper: numbers[paper].get(name, ""))
        if ours:
            heads.append(f"{head}, ours")
            cells_of.append(lambda name, ours=ours: _cell(results, ours, name))
    of_paper = [name for paper, _ in columns.values() if paper for name in numbers[paper]]
    names = sorted(dict.fromkeys([*settings.trained, *of_paper, *own]), key=_order)
    lines = ["| method | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name in names:
        title = TITLES.get(name, f"`{name}`")
        lines.append(f"| {title} | " + " | ".join(cell(name) for cell in cells_of) + " |")
    return lines


def _order(name: str) -> int:
    return list(TITLES).index(name) if name in TITLES else len(TITLES)


def _cell(results: dict[str, dict[str, dict[str, Any]]], column: str, name: str) -> str:
    """Return ours: a value and, where it is there, its interval."""
    step, _, key = column.partition(".")
    result = results.get(step, {}).get(name)
    if result is None:
        return NOT_MEASURED
    values = result["values"]
    text = f"{100 * values[key]:.2f}"
    prefix = key.removesuffix("top1") if key.endswith("top1") else ""
    if key.endswith("f1") or values.get(f"{prefix}low") is None:
        return text
    low, high = (100 * values[f"{prefix}{end}"] for end in ("low", "high"))
    return f"{text} ({low:.1f} to {high:.1f})"


def _seeds(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    seeds = _values_of(results, "seed")
    if not seeds:
        return "Nothing is measured yet."
    return f"One run a method, seed {', '.join(map(str, sorted(seeds)))}."


def _values_of(results: dict[str, dict[str, dict[str, Any]]], name: str) -> dict[Any, list[str]]:
    """Return the values that a setting has in the results, and the rows of each."""
    found: dict[Any, list[str]] = {}
    for step, of_step in results.items():
        for method, result in of_step.items():
            if name in result["settings"]:
                rows = found.setdefault(result["settings"][name], [])
                rows.append(f"{step} {method}")
    return found


def _changed(settings: Settings, results: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Say which options are not the paper's, and which differ between the rows."""
    names = dict.fromkeys(
        name for of_step in results.values() for r in of_step.values() for name in r["settings"]
    )
    lines = []
    for name in names:
        task, option = ("fmow", name[5:]) if name.startswith("fmow ") else (settings.task, name)
        flag = f"`--{option.replace('_', '-')}`" + (" of fmow" if task != settings.task else "")
        values, paper = _values_of(results, name), paper_value(task, option)
        if len(values) > 1 and name != "weights":
            parts = "; ".join(
                f"{_plain(value)} ({', '.join(rows)})" for value, rows in values.items()
            )
            lines.append(f"**Rows differ in {flag}:** {parts}.")
        elif paper is not None and list(values) != [paper]:
            lines.append(f"{flag} is {_plain(next(iter(values)))}, the paper's {_plain(paper)}.")
    return lines


def _plain(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, float | int) else str(value)


def _origins(results: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Say on which machine, with which version, and in how many hours."""
    lines: dict[str, float] = {}
    for of_step in results.values():
        for result in of_step.values():
            line = f"{result['machine']}; geossl {result['geossl']}, torch {result['torch']}"
            lines[line] = lines.get(line, 0.0) + result["seconds"]
    return [f"- {line}: {seconds / 3600:.2f} hours." for line, seconds in lines.items()] or [
        "Nothing yet."
    ]
