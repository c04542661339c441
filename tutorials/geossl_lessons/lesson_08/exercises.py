"""Right answers and hints of lesson 08."""

from __future__ import annotations

from typing import Any

import numpy as np

from geossl_lessons.checking import (
    NotYet,
    as_array,
    as_choice,
    as_number,
    grade_number,
    grade_share,
)

_MIN_IOU = 0.5


def exercise_1(answer: object, data: Any) -> None:
    """Check the IoU of two boxes; ``data`` is ``(first, second)``: left, top, right, bottom."""
    shared, *sizes = _areas(*data)
    one_box = "That is the share of one of the boxes. Divide by the area that either box covers."
    mistakes = {
        shared / sum(sizes): "The shared part is in the sum twice: subtract it once.",
        shared / sizes[0]: one_box,
        shared / sizes[1]: one_box,
        shared: "That is the shared area. Divide it by the area that either box covers.",
    }
    hint = (
        "The shared part goes from the larger left edge to the smaller right edge, and likewise "
        "from top to bottom. Its area over the area that either box covers is the IoU."
    )
    if not 0 <= as_number(answer) <= 1:
        hint = "An IoU is between 0 (apart) and 1 (the same box)."
    truth = shared / (sum(sizes) - shared)
    grade_number(answer, truth, mistakes, hint=hint, rel_tol=0, abs_tol=0.005)


def exercise_2(answer: object, data: Any) -> None:
    """Check which detections are hits; ``data`` is ``(truth, detections)`` of `make_toy`."""
    hits, doubles, poor = _match(*data)
    marks = as_array(answer, (len(hits),)).astype(bool).tolist()
    if marks == hits:
        return
    for number in doubles:
        if marks[number]:
            raise NotYet(
                f"Detection {number + 1} is on a box that a surer one has found already: the "
                "second on a box is a false alarm."
            )
    for number in poor:
        if marks[number]:
            raise NotYet(f"Detection {number + 1} overlaps its box; is its IoU at least 0.5?")
    wrong = sum(mark != hit for mark, hit in zip(marks, hits, strict=True))
    raise NotYet(
        f"{wrong} of {len(hits)} are wrong. A hit has an IoU of at least 0.5 with a true box that "
        "no surer detection has found."
    )


def exercise_3(answer: object, data: Any) -> None:
    """Check the average precision; ``data`` is ``(truth, detections)`` of `make_toy`."""
    boxes, hit = len(data[0]), np.array(_match(*data)[0])
    precision = [hit[: n + 1].mean() for n in range(len(hit))]
    best = np.array([max(precision[n:]) for n in range(len(hit))])
    whole_list = "That is the precision or the recall of the entire list; AP goes down the list."
    mistakes = {
        np.array(precision)[hit].sum() / boxes: (
            "Nearly: at each hit take the best precision from there on down the list, which may "
            "be at a later hit."
        ),
        best[
            hit
        ].mean(): "That is the mean over the hits. A box that is missed counts too, with 0.",
        hit.mean(): whole_list,
        hit.sum() / boxes: whole_list,
    }
    hint = (
        "For each of the hits: the best precision from there on. Add them up and divide by the "
        "number of true boxes."
    )
    # COCO takes the mean of 101 recalls, hence the tolerance
    grade_number(answer, best[hit].sum() / boxes, mistakes, hint=hint, rel_tol=0, abs_tol=0.006)


def exercise_4(answer: object, data: Any) -> None:
    """Check the IoU of a class; ``data`` is ``(confusion, name)``, rows the truth."""
    confusion, name = data
    right, true, drawn = confusion.loc[name, name], confusion.loc[name].sum(), confusion[name].sum()
    mistakes = {
        right / true: "That is the recall: of the true pixels. Add what was invented.",
        right / max(drawn, 1): "That is the precision: of the drawn pixels. Add what was missed.",
        right / confusion.to_numpy().sum(): (
            "Divide by the pixels that are of this class in the truth or in the map."
        ),
    }
    hint = (
        f"Right are confusion.loc['{name}', '{name}'] pixels. Divide by the row and the column of "
        "the class together, which contain the right ones twice."
    )
    grade_share(answer, right / (true + drawn - right), mistakes, hint=hint, abs_tol=0.003)


def exercise_5(answer: object, data: Any) -> None:
    """Check what a map says at a position; ``data`` is ``(path of the GeoTIFF, (lon, lat))``."""
    import rasterio

    path, (lon, lat) = data
    with rasterio.open(path) as file:
        tags, pixels = file.tags(1), file.read(1)
        row, column = file.index(lon, lat)
        swapped = file.index(lat, lon)
    names = [tags[f"class_{i}"] for i in range(len(tags)) if f"class_{i}" in tags]
    choice = as_choice(answer, names)
    if choice == names[pixels[row, column]]:
        return
    inside = 0 <= swapped[0] < pixels.shape[0] and 0 <= swapped[1] < pixels.shape[1]
    if inside and names[pixels[swapped]] == choice:
        raise NotYet("Which of the two numbers comes first? file.index takes lon, then lat.")
    raise NotYet(
        "file.index(lon, lat) gives row and column; the value of that pixel is the number of a "
        "class, counted from 0."
    )


def _match(truth: Any, detections: Any) -> tuple[list[bool], list[int], list[int]]:
    """Say which detections hit, and number those on a box found already and those that miss it."""
    hits, doubles, poor, taken = [], [], [], set()
    for number, box in enumerate(detections.iloc[:, :4].to_numpy()):
        areas = [_areas(box, true) for true in truth.iloc[:, :4].to_numpy()]
        iou = [shared / (a + b - shared) for shared, a, b in areas]
        free = [i for i, value in enumerate(iou) if value >= _MIN_IOU and i not in taken]
        hits.append(bool(free))
        if free:
            taken.add(max(free, key=lambda i: iou[i]))
        elif max(iou) >= _MIN_IOU:
            doubles.append(number)
        elif max(iou) > 0:
            poor.append(number)
    return hits, doubles, poor


def _areas(first: Any, second: Any) -> tuple[float, float, float]:
    """Return the area that two boxes share, and their own."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    own = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(width, 0) * max(height, 0), own[0], own[1]
