"""What the lessons share: exercises that check themselves, and figures with alt text.

The code that belongs to one lesson is in ``geossl_lessons.lesson_NN``. For authors and instructors
see ``python -m tools.tutorials --help`` in the repository.
"""

from geossl_lessons.checking import NotYet, check
from geossl_lessons.showing import Missing, figure, folder, need, print_estimate, table

__all__ = [
    "Missing", "NotYet", "check", "figure", "folder", "need", "print_estimate", "table",
]  # fmt: skip
