"""`check`: is an exercise solved? It says "correct", or "not yet" with a hint, and never raises.

What is right stands in ``geossl_lessons.exercises_NN``, one function an exercise, loaded when it
is asked for: ``exercise_1(answer, given)`` returns when the answer is right, else raises `NotYet`.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STRICT = "GEOSSL_STRICT"  # environment variable; "1" lets `check` raise, for the tests
_MARKS = {True: ("\u2714", "correct", "#00664f"), False: ("\u25cb", "not yet", "#8a4b00")}


class NotYet(Exception):
    """An answer that is not right yet; its words are the hint."""


@dataclass(frozen=True)
class Verdict:
    """What `check` shows.

    Attributes:
        number: the exercise, as in "02.1".
        correct: whether the answer is right.
        hint: what to try next; empty when it is right.
    """

    number: str
    correct: bool
    hint: str = ""

    def __str__(self) -> str:
        mark, word, _ = _MARKS[self.correct]
        return f"{mark} {self.number}: {word}" + (f". {self.hint}" if self.hint else "")

    def _repr_html_(self) -> str:
        mark, word, color = _MARKS[self.correct]
        hint = f" {html.escape(self.hint)}" if self.hint else ""
        return (
            f'<div role="status" style="border-left: 5px solid {color}; padding: .3em .8em; '
            'margin: .3em 0; max-width: 44em; background: #fff; color: #1c2429">'
            f'<strong style="color: {color}">'
            f'<span aria-hidden="true">{mark}</span> {html.escape(self.number)}: {word}.'
            f"</strong>{hint}</div>"
        )


def check(number: str = "", answer: object = None, given: Any = None) -> None:
    """Say whether an exercise is solved; whatever the answer is, nothing is raised.

    Args:
        number: the exercise, as in "02.1".
        answer: what the learner found.
        given: what the exercise is about, where the lesson hands it over; never changed.

    Raises:
        NotYet: the answer is not right, and the environment has ``GEOSSL_STRICT=1``.
    """
    verdict = judge(number, answer, given)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if hasattr(shell, "kernel"):
        from IPython.display import display

        display(verdict)
    else:
        sys.stdout.write(f"{verdict}\n")
    if not verdict.correct and os.environ.get(STRICT) == "1":
        raise NotYet(verdict.hint)


def judge(number: object, answer: object, given: Any = None) -> Verdict:
    """The verdict on an answer, without showing it."""
    name = number if isinstance(number, str) else "?"
    try:
        examine = _exercise(number)
        if answer is ... or answer is None:
            raise NotYet(
                "Put your answer in place of the three dots, run that cell, then this one."
            )
        examine(answer, given)
    except NotYet as hint:
        return Verdict(name, False, str(hint))
    except Exception as error:  # an answer may be anything, and do anything when it is looked at
        return Verdict(
            name,
            False,
            f"Your answer could not be read ({_in_words(error)}). "
            "Look again at what kind of thing the exercise asks for.",
        )
    return Verdict(name, True)


def as_number(answer: object) -> float:
    """A finite number out of an answer: a Python, NumPy or torch one, or an array of one entry.

    Raises:
        NotYet: it is none.
    """
    if isinstance(answer, str | bytes | bool | np.bool_) or callable(answer):
        raise NotYet(f"A number is asked for; yours is {_kind(answer)}.")
    value = _array(answer)
    if value.size != 1:
        raise NotYet(f"One number is asked for; yours are {value.size:,} of them.")
    number = float(value.reshape(-1)[0])
    if not np.isfinite(number):
        raise NotYet(f"A finite number is asked for; yours is {number}.")
    return number


def as_array(answer: object, shape: Sequence[int] | None = None) -> np.ndarray:
    """Numbers of a shape out of an answer, as float64: a tensor, an array, a list, a column.

    Raises:
        NotYet: it holds no numbers, some that are not finite, or has another shape.
    """
    if isinstance(answer, str | bytes) or callable(answer):
        raise NotYet(f"An array of numbers is asked for; yours is {_kind(answer)}.")
    value = _array(answer)
    if shape is not None and value.shape != tuple(shape):
        raise NotYet(f"The shape {tuple(shape)} is asked for; yours is {value.shape}.")
    if not np.isfinite(value).all():
        raise NotYet("Some of your numbers are not finite (nan or inf).")
    return value


def as_matching(answer: object, order: Sequence[int]) -> int:
    """How many letters are matched rightly, of an answer with the number of each letter's partner.

    Args:
        answer: the numbers, from 1, in the order of the letters.
        order: the letter, from 0, that belongs to each number.

    Raises:
        NotYet: not each number stands there once.
    """
    found = as_array(answer, (len(order),))
    if sorted(found.tolist()) != list(range(1, len(order) + 1)):
        raise NotYet(
            f"Each number from 1 to {len(order)} stands there once, in the order A, B, ..."
        )
    return sum(order[int(number) - 1] == letter for letter, number in enumerate(found))


def as_choice(answer: object, options: Sequence[str]) -> str:
    """One of some words out of an answer, whatever its capitals and spaces.

    Raises:
        NotYet: it is none of them.
    """
    if isinstance(answer, str):
        for option in options:
            if option.casefold() == answer.strip().casefold():
                return option
    told = ", ".join(repr(option) for option in options)
    raise NotYet(f"One of these words is asked for: {told}.")


def _array(answer: object) -> np.ndarray:
    for step in ("detach", "cpu"):  # a tensor, wherever it lies; torch is not imported for it
        answer = getattr(answer, step, lambda kept=answer: kept)()
    try:
        return np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        raise NotYet(f"Numbers are asked for; yours is {_kind(answer)}.") from None


def _kind(answer: object) -> str:
    name = type(answer).__name__
    return f"a{'n' if name[:1].lower() in 'aeiou' else ''} {name}"


def _exercise(number: object) -> Any:
    match = re.fullmatch(r"(\d\d)\.(\d+)", number) if isinstance(number, str) else None
    if match:
        lesson = f"geossl_lessons.lesson_{match[1]}.exercises"
        if importlib.util.find_spec(lesson):
            found = getattr(importlib.import_module(lesson), f"exercise_{match[2]}", None)
            if found:
                return found
    raise NotYet("There is no exercise of this number; it is written as in check('02.1', answer).")


def _in_words(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:200]
    except Exception:  # the words of an answer's own exception may fail as well
        return type(error).__name__
