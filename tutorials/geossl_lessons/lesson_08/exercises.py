"""What `check` knows of lesson 08."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geossl_lessons.checking import NotYet, as_array, as_choice, as_number

_LEAST_IOU = 0.5


def exercise_1(answer: object, given: Any) -> None:
    """IoU of two boxes; ``given`` is ``(first, second)``, each left, top, right, bottom."""
    value, (first, second) = as_number(answer), given
    shared, all_of_it = _counted(first, second)
    truth = shared / all_of_it
    if math.isclose(value, truth, abs_tol=0.005):
        return
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    if math.isclose(value, shared / sum(sizes), abs_tol=0.005):
        raise NotYet("The shared part is in the sum of both areas twice: take it off once.")
    if any(math.isclose(value, shared / size, abs_tol=0.005) for size in sizes):
        raise NotYet("That is the share of one of the boxes. Divide by what either of them covers.")
    if math.isclose(value, shared, abs_tol=0.05):
        raise NotYet("That is the shared area. Divide it by the area that either box covers.")
    if not 0 <= value <= 1:
        raise NotYet("An IoU lies between 0 (apart) and 1 (the same box).")
    raise NotYet(
        "The shared part reaches from the larger left edge to the smaller right edge, and likewise "
        "from top to bottom. Its area over the area that either box covers is the IoU."
    )


def exercise_2(answer: object, given: Any) -> None:
    """Which detections are hits; ``given`` is ``(truth, found)`` of `outlined.toy`."""
    truth, found = given
    marks = as_array(answer, (len(found),)).astype(bool).tolist()
    right, doubles, poor = _hits(truth.iloc[:, :4].to_numpy(), found.iloc[:, :4].to_numpy())
    if marks == right:
        return
    for number in doubles:
        if marks[number]:
            raise NotYet(
                f"Detection {number + 1} lies on a box that a surer one has found already: the "
                "second on a box is a false alarm."
            )
    for number in poor:
        if marks[number]:
            raise NotYet(f"Detection {number + 1} overlaps its box; is its IoU at least 0.5?")
    wrong = sum(mark != real for mark, real in zip(marks, right, strict=True))
    raise NotYet(
        f"{wrong} of {len(right)} are wrong. A hit has an IoU of at least 0.5 with a true box that "
        "no surer detection has found."
    )


def exercise_3(answer: object, given: Any) -> None:
    """Average precision; ``given`` is ``(truth, found)`` of `outlined.toy`."""
    truth, found = given
    value = as_number(answer)
    right, _, _ = _hits(truth.iloc[:, :4].to_numpy(), found.iloc[:, :4].to_numpy())
    precision = [sum(right[: n + 1]) / (n + 1) for n in range(len(right))]
    best = [max(precision[n:]) for n in range(len(right))]
    area = sum(best[n] for n in range(len(right)) if right[n]) / len(truth)
    if abs(value - area) <= 0.006:  # COCO takes the mean of 101 recalls
        return
    plain = sum(precision[n] for n in range(len(right)) if right[n]) / len(truth)
    if abs(value - plain) <= 0.003:
        raise NotYet(
            "Nearly: at each hit take the best precision from there on down the list, which may "
            "come later."
        )
    hits = sum(right)
    if hits and abs(value - area * len(truth) / hits) <= 0.003:
        raise NotYet("That is the mean over the hits. A box that is missed counts too, with 0.")
    if abs(value - hits / len(right)) <= 0.003 or abs(value - hits / len(truth)) <= 0.003:
        raise NotYet(
            "That is the precision or the recall of the whole list; AP goes down the list."
        )
    raise NotYet(
        "For each of the hits: the best precision from there on. Add them up and divide by the "
        "number of true boxes."
    )


def exercise_4(answer: object, given: Any) -> None:
    """IoU of a class; ``given`` is ``(confusion, name)``, rows the truth, columns the guess."""
    value, (confusion, name) = as_number(answer), given
    names, table = list(confusion.index), confusion.to_numpy()
    place = names.index(name)
    both = union = 0
    for i in range(len(names)):
        for j in range(len(names)):
            both += int(table[i, j]) if i == place and j == place else 0
            union += int(table[i, j]) if place in (i, j) else 0
    if math.isclose(value, both / union, abs_tol=0.003):
        return
    if math.isclose(value, 100 * both / union, abs_tol=0.3):
        raise NotYet("The number is right as a percentage; give it as a share between 0 and 1.")
    if math.isclose(value, both / max(1, table[place].sum()), abs_tol=0.003):
        raise NotYet(
            "That is the recall: of the true pixels. Add what was invented to the divisor."
        )
    if math.isclose(value, both / max(1, table[:, place].sum()), abs_tol=0.003):
        raise NotYet(
            "That is the precision: of what was drawn. Add what was missed to the divisor."
        )
    if math.isclose(value, both / table.sum(), abs_tol=1e-4):
        raise NotYet("Divide by the pixels that are of this class in the truth or in the map.")
    raise NotYet(
        f"Right are confusion.loc['{name}', '{name}'] pixels. Divide by the row and the column of "
        "the class together, where what is right stands twice."
    )


def exercise_5(answer: object, given: Any) -> None:
    """What a map says of a place; ``given`` is ``(path of the GeoTIFF, (lon, lat))``."""
    import rasterio

    path, (lon, lat) = given
    with rasterio.open(path) as file:
        tags = file.tags(1)
        names = [tags[f"class_{i}"] for i in range(len(tags)) if f"class_{i}" in tags]
        (value,) = next(file.sample([(lon, lat)]))
        pixels, (height, width) = file.read(1), file.shape
        swapped = file.index(lat, lon)
    chosen, truth = as_choice(answer, names), names[int(value)]
    if chosen == truth:
        return
    inside = 0 <= swapped[0] < height and 0 <= swapped[1] < width
    if inside and names[int(pixels[swapped])] == chosen:
        raise NotYet("Which of the two numbers comes first? file.index takes lon, then lat.")
    raise NotYet(
        "file.index(lon, lat) gives row and column; the value of that pixel is the number of a "
        "class, counted from 0."
    )


def _counted(first: Any, second: Any, steps: int = 400) -> tuple[float, float]:
    """Shared and covered area, by counting the points of a fine grid."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    low, high = np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])
    axes = [low[i] + (np.arange(steps) + 0.5) / steps * (high[i] - low[i]) for i in (0, 1)]
    x, y = np.meshgrid(*axes)
    inside = [(x >= c[0]) & (x < c[2]) & (y >= c[1]) & (y < c[3]) for c in (a, b)]
    point = float(np.prod((high - low) / steps))
    return point * (inside[0] & inside[1]).sum(), point * (inside[0] | inside[1]).sum()


def _hits(truth: np.ndarray, found: np.ndarray) -> tuple[list[bool], list[int], list[int]]:
    """Whether each detection hits, the surest first; which are doubles, which overlap poorly."""
    right, doubles, poor, taken = [], [], [], set()
    for number, box in enumerate(found):
        values = [_iou(box, real) for real in truth]
        free = [i for i, v in enumerate(values) if v >= _LEAST_IOU and i not in taken]
        right.append(bool(free))
        if free:
            taken.add(max(free, key=lambda i: values[i]))
        elif max(values) >= _LEAST_IOU:
            doubles.append(number)
        elif max(values) > 0:
            poor.append(number)
    return right, doubles, poor


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared)
