"""Check the answers to exercises: "correct", or "not yet" with a hint, and never an error.

The right answers are in ``geossl_lessons.lesson_NN.exercises``, one function for each exercise,
loaded when needed: ``exercise_1(answer, data)`` returns when the answer is right and raises
`NotYet` with a hint otherwise, as all functions do here that read or grade an answer.
"""

from __future__ import annotations

import functools
import html
import importlib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STRICT = "GEOSSL_STRICT"  # environment variable; "1" lets `check` raise, for the tests
_STYLES = {True: ("\u2714", "correct", "#00664f"), False: ("\u25cb", "not yet", "#8a4b00")}


class NotYet(Exception):
    """An answer that is not right yet; the message is the hint."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check: the exercise, such as "02.1", and the hint when it is not solved."""

    number: str
    correct: bool
    hint: str = ""

    def __str__(self) -> str:
        mark, word, _ = _STYLES[self.correct]
        return f"{mark} {self.number}: {word}" + (f". {self.hint}" if self.hint else "")

    def _repr_html_(self) -> str:
        mark, word, color = _STYLES[self.correct]
        hint = f" {html.escape(self.hint)}" if self.hint else ""
        return (
            f'<div role="status" style="border-left: 5px solid {color}; padding: .3em .8em; '
            'margin: .3em 0; max-width: 44em; background: #fff; color: #1c2429">'
            f'<strong style="color: {color}">'
            f'<span aria-hidden="true">{mark}</span> {html.escape(self.number)}: {word}.'
            f"</strong>{hint}</div>"
        )


def check(number: str = "", answer: object = None, data: Any = None) -> None:
    """Show whether an exercise, such as "02.1", is solved; no answer raises an error.

    ``data`` is what the exercise is about, if the lesson passes it; it is never changed. With
    ``GEOSSL_STRICT=1`` in the environment an answer that is not right raises `NotYet`.
    """
    verdict = judge(number, answer, data)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if hasattr(shell, "kernel"):
        from IPython.display import display

        display(verdict)
    else:
        sys.stdout.write(f"{verdict}\n")
    if not verdict.correct and os.environ.get(STRICT) == "1":
        raise NotYet(verdict.hint)


def judge(number: object, answer: object, data: Any = None) -> Verdict:
    """Return the verdict on an answer without showing it."""
    name = number if isinstance(number, str) else "?"
    try:
        exercise = _find_exercise(number)
        if answer is ... or answer is None:
            raise NotYet("Replace the three dots with your answer, run that cell, then this one.")
        exercise(answer, data)
    except NotYet as hint:
        return Verdict(name, False, str(hint))
    except Exception as error:  # an answer may be anything, and do anything when it is read
        return Verdict(
            name,
            False,
            f"Your answer could not be read ({_describe(error)}). "
            "Read the exercise again: what type should the answer have?",
        )
    return Verdict(name, True)


def as_number(answer: object) -> float:
    """Read a finite number from an answer: a Python, NumPy or torch number, or an array of one."""
    if isinstance(answer, bool | np.bool_):
        raise NotYet("The answer must be a number; yours is True or False.")
    value = as_array(answer)
    if value.size != 1:
        raise NotYet(f"The answer must be one number; yours has {value.size:,}.")
    return float(value.reshape(-1)[0])


def as_array(answer: object, shape: Sequence[int] | None = None) -> np.ndarray:
    """Read finite numbers as float64 from an answer: a tensor, an array, a list or a column."""
    kind = type(answer).__name__
    try:
        if isinstance(answer, str | bytes) or callable(answer):
            raise TypeError
        for step in ("detach", "cpu"):  # a tensor on any device; torch is not imported for it
            answer = getattr(answer, step, lambda value=answer: value)()
        value = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        raise NotYet(f"The answer must hold numbers; yours is of the type {kind}.") from None
    if shape is not None and value.shape != tuple(shape):
        raise NotYet(f"The answer must have the shape {tuple(shape)}; yours has {value.shape}.")
    if not np.isfinite(value).all():
        raise NotYet("The answer must be finite; yours holds nan or inf.")
    return value


def as_choice(answer: object, options: Sequence[str]) -> str:
    """Read one of several words from an answer; upper case and outer spaces do not matter."""
    if isinstance(answer, str):
        for option in options:
            if option.casefold() == answer.strip().casefold():
                return option
    raise NotYet(f"The answer must be one of these words: {', '.join(map(repr, options))}.")


def call_answer(function: object, *arguments: Any, returns: bool = True) -> Any:
    """Call a learner's function; what goes wrong in it is a hint, and so is a missing result."""
    if not callable(function):
        raise NotYet("The answer must be your function itself, its name without parentheses.")
    try:
        with np.errstate(all="ignore"):
            value = function(*arguments)
    except Exception as error:  # a learner's function may raise anything
        raise NotYet(
            f"Your function stopped with {type(error).__name__}: {error}"[:300]
            + " Are all the dots replaced?"
        ) from None
    if returns and (value is None or value is ...):
        raise NotYet("Your function returns nothing yet. Its last line should `return` the result.")
    return value


def count_matches(answer: object, order: Sequence[int]) -> int:
    """Count the letters that an answer matches with the right number.

    Args:
        answer: the number of each letter's partner, from 1, in the order of the letters.
        order: the letter, from 0, that belongs to each number.
    """
    numbers = as_array(answer, (len(order),))
    if sorted(numbers.tolist()) != list(range(1, len(order) + 1)):
        raise NotYet(f"Use each number from 1 to {len(order)} once, in the order A, B, ...")
    return sum(order[int(number) - 1] == letter for letter, number in enumerate(numbers))


def grade_number(
    answer: object,
    truth: float,
    mistakes: Mapping[float, str],
    *,
    hint: str,
    rel_tol: float = 2e-3,
    abs_tol: float = 0.0,
) -> None:
    """Accept an answer near the true number.

    Any other answer gets the hint of the first of the ``mistakes`` (wrong number -> hint) that it
    matches within the same tolerances, else ``hint``.
    """
    value = as_number(answer)
    is_close = functools.partial(math.isclose, value, rel_tol=rel_tol, abs_tol=abs_tol)
    if not is_close(truth):
        words = (words for number, words in mistakes.items() if is_close(number))
        raise NotYet(next(words, hint))


def grade_share(
    answer: object, truth: float, mistakes: Mapping[float, str], *, hint: str, abs_tol: float = 2e-3
) -> None:
    """Accept an answer near a share from 0 to 1, with a hint for percent; see `grade_number`."""
    value = as_number(answer)
    if math.isclose(value, 100 * truth, abs_tol=100 * abs_tol):
        mistakes = {value: "That is in percent. Give a share from 0 to 1."}
    grade_number(value, truth, mistakes, hint=hint, rel_tol=0, abs_tol=abs_tol)


def grade_quiz(answer: object, questions: Sequence[tuple[str, str]]) -> None:
    """Accept a string of letters; a question is its right letter and help for those who miss it."""
    letters = answer.strip().casefold() if isinstance(answer, str) else ""
    if len(letters) != len(questions) or set(letters) - set("abc"):
        raise NotYet("The answer must be three letters of a, b and c, such as 'bac'.")
    right, helps = [], []
    for number, (letter, (solution, hint)) in enumerate(zip(letters, questions, strict=True), 1):
        if letter == solution:
            right.append(str(number))
        else:
            helps.append(f"Question {number}: {hint}")
    if helps:
        start = [f"Right: question {' and '.join(right)}."] if right else []
        raise NotYet(" ".join(start + helps))


def _find_exercise(number: object) -> Any:
    match = re.fullmatch(r"(\d\d)\.(\d+)", number) if isinstance(number, str) else None
    if match:
        lesson = f"geossl_lessons.lesson_{match[1]}"
        if importlib.util.find_spec(lesson):
            exercises = importlib.import_module(f"{lesson}.exercises")
            exercise = getattr(exercises, f"exercise_{match[2]}", None)
            if exercise:
                return exercise
    raise NotYet("There is no exercise with this number; write it as in check('02.1', answer).")


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:200]
    except Exception:  # the exception of an answer may fail to print as well
        return type(error).__name__
