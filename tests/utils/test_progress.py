import io
import math
import sys

from geossl.utils.progress import format_duration, progress_bar, show_values


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_gets_few_updates_and_a_terminal_all(monkeypatch):
    texts = {}
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        clock = [0.0]
        with progress_bar(600, unit="step") as bar:
            bar._time = lambda clock=clock: clock[0]
            bar.start_t = bar.last_print_t = 0.0
            for _ in range(600):
                clock[0] += 0.5  # five minutes
                bar.update()
        texts[type(stream)] = stream.getvalue().split("\r")
    log, screen = texts[io.StringIO], texts[Terminal]
    assert len(log) < 10 < 200 < len(screen)
    assert "120/600 [01:00<04:00,  2.00step/s]" in log[2]  # with the time left
    assert log[-1].startswith("100%") and screen[-1].startswith("100%")


def test_a_bar_shows_values_that_are_there(capsys):
    with progress_bar(2, unit="step", desc="a") as bar:
        show_values(bar, {"loss": 1.234, "knn": math.nan})
        bar.update(2)
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("a: 100%") and "loss=1.23]" in last and "nan" not in last
    with progress_bar(2, unit="step", show=False) as bar:
        bar.update(2)
    assert list(progress_bar([3, 4], unit="x", show=False)) == [3, 4]
    assert capsys.readouterr().err == ""


def test_durations_are_words():
    words = {0: "0 seconds", 0.42: "0.42 seconds", 7: "7.0 seconds", 89: "89 seconds",
             90: "1.5 minutes", 600: "10 minutes", 5399: "90 minutes", 5400: "1.5 hours",
             86_400 * 3: "3.0 days", 86_400 * 365.25 * 15: "15 years"}  # fmt: skip
    assert {seconds: format_duration(seconds) for seconds in words} == words
