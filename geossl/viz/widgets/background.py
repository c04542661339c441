"""Work in a thread of the kernel, which a message from the page can stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from geossl.utils.progress import in_notebook


class _Stopped(Exception):
    """The work is not wanted any more."""


class Background:
    """Run work in a thread where the messages of a page arrive: "cancel" is one of them.

    Elsewhere the work is done at once. Only the thread of the messages touches widgets.

    Args:
        show: gets the share that is done, and -1 when nothing runs.
        on_cancel: called after `cancel` stopped the work.
    """

    def __init__(self, show: Callable[[float], None], on_cancel: Callable[[], None]) -> None:
        self._show, self._on_cancel = show, on_cancel
        self._job: object | None = None

    def run(
        self, work: Callable[[Callable[[float], None]], Any], finish: Callable[[Any], None]
    ) -> None:
        """Run ``work(report)`` and pass what it returns, or its exception, to ``finish``.

        ``report`` takes the share that is done. Work that is stopped, or replaced by other work,
        ends at its next report, and ``finish`` is not called.
        """
        job = self._job = object()
        self._show(0.0)

        def report_here(share: float) -> None:
            if self._job is job:
                self._show(share)

        def report(share: float) -> None:
            if self._job is not job:
                raise _Stopped
            assert loop is not None
            loop.call_soon_threadsafe(report_here, share)

        def end(outcome: Any) -> None:
            if self._job is job:
                self.stop()
                finish(outcome)

        loop = _message_loop()
        if loop is not None:
            future = loop.run_in_executor(None, work, report)
            future.add_done_callback(lambda done: end(done.exception() or done.result()))
            return
        try:  # nobody could press "cancel"
            outcome = work(report_here)
        except Exception as error:  # any error must reach the person at the screen
            outcome = error
        end(outcome)

    def stop(self) -> None:
        """Stop the work, if any."""
        self._job = None
        self._show(-1.0)

    def cancel(self) -> None:
        """Stop the work because the person at the screen wants it; a click may come late."""
        if self._job is not None:
            self.stop()
            self._on_cancel()


def _message_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop in which a notebook's messages arrive; None elsewhere."""
    try:
        return asyncio.get_running_loop() if in_notebook() else None
    except RuntimeError:  # a thread of a notebook
        return None
