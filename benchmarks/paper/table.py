"""The tables: the paper's numbers, ours beside them, and what differs."""

from __future__ import annotations

from typing import Any

from published import NUMBERS, SPACENET_BEST, TITLES
from results import Results
from settings import Settings, paper_value

from geossl.utils.io import atomic_write

NOT_MEASURED = "not measured"
# task -> tables -> column of ours -> its title; the paper's is that without the classifier's name
_TABLES: dict[str, dict[str, dict[str, str]]] = {
    "fmow": {
        "Single images of val, frozen encoder": {
            "linear.top1": "top-1", "linear.f1": "F1",
        },
        "Single images of val, all layers fine-tuned": {
            "finetune.top1": "top-1", "finetune.f1": "F1",
        },
        "All dates of a location together": {
            "temporal.linear_top1": "top-1, frozen", "temporal.linear_f1": "F1, frozen",
            "temporal.finetuned_top1": "top-1, fine-tuned", "temporal.finetuned_f1": "F1, fine-tuned",
        },
    },
    "geoimagenet": {"Photos of test, frozen encoder": {"linear.top1": "top-1"}},
    "xview": {"Objects in xView, all layers fine-tuned": {"detect.ap50": "AP50"}},
    "spacenet": {"Buildings of SpaceNet v1, all layers fine-tuned": {"segment.miou": "mIoU"}},
    "naip": {"Land cover of NAIP tiles, frozen encoder": {"linear.top1": "top-1"}},
}  # fmt: skip
_OF_PAPER = {
    "All dates of a location together": {"temporal.top1": "top-1", "temporal.f1": "F1"},
    "Single images of val, frozen encoder": {
        "linear.top1": "top-1", "linear.f1": "F1",
        "linear.top1 after 100 epochs": "top-1 after 100 epochs",
    },
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
        paper = _OF_PAPER.get(title, columns)
        numbers = NUMBERS[settings.task]
        names = [*settings.trained, *dict.fromkeys([*map_extra(numbers, paper), *own])]
        heads = [
            *(f"paper: {head}" for head in paper.values()),
            *(f"ours: {h}" for h in columns.values()),
        ]
        text += [f"## {title}", "", "| method | " + " | ".join(heads) + " |"]
        text += ["|---|" + "---:|" * len(heads)]
        for name in sorted(dict.fromkeys(names), key=_order):
            cells = [numbers.get(column, {}).get(name, "") for column in paper]
            cells += [_cell(results, column, name) for column in columns]
            text.append(f"| {TITLES.get(name, f'`{name}`')} | " + " | ".join(cells) + " |")
        text.append("")
    if settings.task == "fmow":
        text += ["A number with a star was reported by others, not in the paper.", ""]
    if settings.task == "spacenet":
        text += [f"The best of the paper's methods has {SPACENET_BEST}.", ""]
    text += ["## What differs from the paper", ""]
    text += [f"- {line}" for line in [*_changed(settings, measured), *_DIFFERENCES[settings.task]]]
    text += ["", "## What made these numbers", "", *_origins(measured), ""]
    page = "\n".join(text)
    with atomic_write(settings.folder / "table.md") as part:
        part.write_text(page, "utf-8")
    return page


def map_extra(numbers: dict[str, dict[str, str]], columns: dict[str, str]) -> list[str]:
    """Return the rows for which the paper has a number in these columns."""
    return [name for column in columns for name in numbers.get(column, {})]


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
            parts = "; ".join(f"{value} ({', '.join(rows)})" for value, rows in values.items())
            lines.append(f"**Rows differ in {flag}:** {parts}.")
        elif paper is not None and list(values) != [paper]:
            lines.append(f"{flag} is {next(iter(values))}, the paper's {paper}.")
    return lines


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
