"""What the lessons in ``tutorials/`` stand on: checks, clear restarts, figures with words.

Widgets that teach are `geossl_lessons.lesson_03.widgets.DatesSlider`, `temperature.TemperatureSlider` and
`queue_film.QueueFilm`. For authors, ``python -m tools.tutorials --help``: copies for learners and
instructors, timed runs, the site, the workshop's folder.
"""

from geossl_lessons.checking import NotYet, check
from geossl_lessons.showing import Missing, figure, folder, need, table

__all__ = ["Missing", "NotYet", "check", "figure", "folder", "need", "table"]
