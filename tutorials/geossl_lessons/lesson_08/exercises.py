"""Right answers and hints of lesson 08."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from geossl.datasets.blue_marble_tasks import CLIMATES
from geossl_lessons.checking import NotYet, as_array, call_answer, grade_quiz, grade_share

_MIN_IOU = 0.5
_QUIZ = (  # letter of the right answer; a sentence for those who chose another
    ("c", "Much of a picture may be of one easy class. Which measure would not notice?"),
    ("a", "A true box can be found once. In which order do you go down the list?"),
    ("b", "What may an encoder have seen, if its test shall say how it does on new places?"),
)


def exercise_1(answer: object, data: Any = None) -> None:
    """Check a function from a confusion matrix ``(K, K)`` to the IoU of each class ``(K,)``."""
    for seed, classes in enumerate((3, 5)):
        counts = np.random.default_rng(seed).integers(1, 60, (classes, classes))
        value = call_answer(answer, counts.copy())
        if np.size(value) == 1:
            raise NotYet("Return the IoU of each class, not one number.")
        value = as_array(value, (classes,))
        right, true, drawn = np.diag(counts), counts.sum(1), counts.sum(0)
        truth = [
            counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k])
            for k in range(classes)
        ]
        if np.allclose(value, truth):
            continue
        for wrong, words in (
            (right / true, "That is the recall: of the true pixels. Add what was invented."),
            (right / drawn, "That is the precision: of the drawn pixels. Add what was missed."),
            (right / (true + drawn), "The right pixels are in both sums: subtract them once."),
            (right / counts.sum(), "Only count pixels that are of the class in truth or map."),
        ):
            if np.allclose(value, wrong):
                raise NotYet(words)
        raise NotYet(
            "The row of a class sums up to its pixels in the truth, the column to those in the "
            "map. Together they hold the right ones twice."
        )


def exercise_2(answer: object, data: Any) -> None:
    """Check the mIoU of maps that are the same everywhere.

    ``data`` is ``(maps (M, E, S, S), masks (M, H, W), decay, train, test)``, the last two rows.
    """
    maps, masks, decay, train, test = data
    step = masks.shape[-1] // maps.shape[-1]
    classes = len(CLIMATES)
    cells = masks[:, step // 2 :: step, step // 2 :: step]
    truth, full = (
        _miou(values, masks, cells, decay, train, test, classes)
        for values in (maps.mean((2, 3), keepdim=True), maps)
    )
    mistakes = {full: "That is with the maps as they are. Give all cells of a picture their mean."}
    hint = (
        "Replace the maps by their mean over the cells, fit on `train`, segment `test`, count the "
        "pixels, add up the places, and take the mean_iou."
    )
    grade_share(answer, truth, mistakes, hint=hint, abs_tol=0.012)


def exercise_3(answer: object, data: Any = None) -> None:
    """Check a function ``(length, size, overlap)`` -> windows ``(start, stop, from, to)``."""
    for length, size, overlap in ((40, 16, 8), (50, 16, 4), (10, 16, 8), (32, 16, 0), (16, 16, 6)):
        value = call_answer(answer, length, size, overlap)
        case = f"With length {length}, size {size} and overlap {overlap}: "
        windows = as_array(value)
        if windows.ndim != 2 or windows.shape[1] != 4:
            raise NotYet("Return a list of windows with four numbers each.")
        inside = (windows[:, 0] <= windows[:, 2]) & (windows[:, 3] <= windows[:, 1])
        if not inside.all():
            raise NotYet(case + "a window can only give pixels that it has.")
        if windows[0, 2] != 0 or windows[-1, 3] != length:
            raise NotYet(case + "at the edges of the scene pixels are missing.")
        before, after = windows[:-1], windows[1:]
        if (before[:, 3] < after[:, 2]).any():
            raise NotYet(case + "between two windows some pixels are from neither of them.")
        if (before[:, 3] > after[:, 2]).any():
            raise NotYet(case + "some pixels are taken from two windows. Each gives its own half.")
        if (before[:, 1] - before[:, 3] != after[:, 2] - after[:, 0]).any():
            raise NotYet(case + "one window gives more than its half of what two share.")


def exercise_4(answer: object, data: Any = None) -> None:
    """Check a function ``(truth, detections)`` -> a hit or not, for each detection."""
    one, two = (0, 0, 10, 10), (20, 0, 30, 10)
    lists = (
        ([one, two], [(0, 0, 10, 9), (50, 50, 60, 60), (1, 0, 11, 10), (21, 0, 31, 10)]),
        ([one, two], [(0, 0, 10, 5), (4, 0, 14, 10), (20, 0, 30, 5.1)]),
        ([two], [(20, 0, 30, 4), (20, 1, 30, 10), (20, 0, 30, 10)]),
    )
    for truth, detections in lists:
        value = call_answer(answer, list(truth), list(detections))
        marks = as_array(value, (len(detections),)).astype(bool).tolist()
        hits, doubles, poor = match(truth, detections)
        if marks == hits:
            continue
        if any(marks[n] for n in doubles):
            raise NotYet("The second detection on a box is a false alarm: is it in `found` yet?")
        if any(marks[n] for n in poor):
            raise NotYet("A hit has an IoU of at least 0.5 with its box.")
        raise NotYet(
            "A detection is a hit if the IoU with its best box is at least 0.5 (0.5 will do), and "
            "if no surer detection has found that box."
        )


def exercise_5(answer: object, data: Any = None) -> None:
    """Check the letters of the three questions."""
    grade_quiz(answer, _QUIZ)


def match(truth: Any, detections: Any) -> tuple[list[bool], list[int], list[int]]:
    """Say which detections hit, and number those on a box found already and those that miss it."""
    hits, doubles, poor, taken = [], [], [], set()
    for number, box in enumerate(detections):
        iou = []
        for true in truth:
            wide = min(box[2], true[2]) - max(box[0], true[0])
            high = min(box[3], true[3]) - max(box[1], true[1])
            shared = max(wide, 0) * max(high, 0)
            own = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, true))
            iou.append(shared / (own - shared))
        best = int(np.argmax(iou))
        hits.append(iou[best] >= _MIN_IOU and best not in taken)
        if hits[-1]:
            taken.add(best)
        elif iou[best] >= _MIN_IOU:
            doubles.append(number)
        elif iou[best] > 0:
            poor.append(number)
    return hits, doubles, poor


def _miou(
    maps: torch.Tensor, masks: torch.Tensor, cells: torch.Tensor, decay: float, train: Any,
    test: Any, classes: int,
) -> float:  # fmt: skip
    """Return the mIoU on test rows of a linear layer on each cell; cells may be equal, (E, 1, 1).

    The same training as in the lesson, written with matrices.
    """
    high, size = cells.shape[-1], masks.shape[-1]
    x = maps[train].expand(-1, -1, high, high).movedim(1, -1).reshape(-1, maps.shape[1])
    weight = torch.zeros(maps.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer, y = torch.optim.Adam([weight, bias], lr=0.05), cells[train].reshape(-1)
    for _ in range(60):
        loss = nn.functional.cross_entropy(x @ weight + bias, y) + decay * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = torch.einsum("nehw,ek->nkhw", maps[test].expand(-1, -1, high, high), weight)
        scores = nn.functional.interpolate(
            scores + bias[:, None, None], scale_factor=size // high, mode="bilinear"
        )
    guess, truth, values = scores.argmax(1), masks[test], []
    for k in range(classes):
        either = ((guess == k) | (truth == k)).sum().item()
        if either:
            values.append(((guess == k) & (truth == k)).sum().item() / either)
    return float(np.mean(values))
