"""Request files from web servers, with what `requests` lacks.

A server's Retry-After holds for all threads, bodies are limited in time and size, and broken
downloads resume where they stopped.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from geossl.utils.validate import NonNegativeInt, Positive, PositiveInt, check_fields, validated

__all__ = ["RetryPolicy", "UnavailableError", "download", "fetch", "fetch_range"]

T = TypeVar("T")

_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LONGEST_HOLD_S = 120.0  # a server that wants a longer break is not waited for
_SLOWEST_BYTES_PER_S = 1000  # a slower download hangs
_MAX_BYTES = 2**28  # of an answer in memory
_BLOCK = 2**16  # bytes read at once
_random = random.SystemRandom()  # leaves the global random state alone
_local = threading.local()
_held_until: dict[str, float] = {}  # server -> time of its next request, for all threads


class UnavailableError(Exception):
    """A server gives no usable answer; `temporary` says whether it may give one later."""

    def __init__(self, reason: str, *, temporary: bool = False):
        super().__init__(reason)
        self.temporary = temporary


class _RetryableError(Exception):
    """An attempt failed in a way that may pass."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try, and how long to wait for a server.

    Attributes:
        tries: attempts in a row that may fail.
        timeout_s: seconds without a byte; an answer that fits in memory has four times as long.
    """

    tries: PositiveInt = 5
    timeout_s: Positive = 30.0

    def __post_init__(self) -> None:
        check_fields(self)


@validated
def fetch(
    url: str, *, policy: RetryPolicy, body: Any = None, max_bytes: PositiveInt = _MAX_BYTES
) -> bytes:
    """Return the answer to a GET, or to a POST of ``body`` as JSON.

    Raises:
        UnavailableError: no answer, another status than 200, or more than ``max_bytes``.
    """

    def attempt() -> bytes:
        with _open(url, policy, body=body) as response:
            if response.status_code != 200:
                raise UnavailableError(f"HTTP {response.status_code}")
            return _read(response, policy, max_bytes)

    return _retry(url, policy, attempt)


@validated
def fetch_range(
    url: str, start: NonNegativeInt, stop: NonNegativeInt, *, policy: RetryPolicy
) -> tuple[bytes, int]:
    """Return bytes ``start`` to ``stop`` (or the end) of a file, and the size of the file.

    Raises:
        UnavailableError: no answer, or the server does not serve ranges.
    """

    def attempt() -> tuple[bytes, int]:
        with _open(url, policy, {"Range": f"bytes={start}-{stop - 1}"}) as response:
            if response.status_code == 200:
                raise UnavailableError("the server does not serve ranges of files")
            if response.status_code != 206:
                raise UnavailableError(f"HTTP {response.status_code}")
            content_range = response.headers.get("Content-Range", "")
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
            if not match or int(match[1]) != start:
                raise UnavailableError("the server sent another range of the file")
            content, size = _read(response, policy, stop - start), int(match[2])
            if len(content) != min(stop, size) - start:
                raise _RetryableError("a range that is cut short")
            return content, size

    return _retry(url, policy, attempt)


@validated
def download(
    url: str,
    path: Path,
    *,
    size: NonNegativeInt,
    policy: RetryPolicy,
    on_progress: Callable[[int], None] = lambda have: None,
) -> None:
    """Download a file of known size; one that is incomplete at ``path`` is resumed.

    Args:
        url: of the file.
        path: where to write; the caller verifies a checksum, for the parts may not fit together.
        size: of the file in bytes.
        policy: tries count only if they bring no byte more.
        on_progress: called with the bytes that are there.

    Raises:
        UnavailableError: no answer, or a file of another size.
    """

    def attempt() -> None:
        have = _size(path)
        if have == size and path.exists():
            return
        with _open(url, policy, {"Range": f"bytes={have}-"} if have else {}) as response:
            status, headers = response.status_code, response.headers
            resumes = status == 206 and headers.get("Content-Range", "").startswith(
                f"bytes {have}-"
            )
            if status == 416 or (status == 206 and not resumes):
                path.unlink()
                raise _RetryableError("a file of another size")
            if status not in (200, 206):
                raise UnavailableError(f"HTTP {status}")
            if status == 200:
                path.unlink(missing_ok=True)
                have = 0
            length = headers.get("Content-Length", "")
            if re.fullmatch("[0-9]{1,18}", length) and have + int(length) != size:
                path.unlink(missing_ok=True)
                raise UnavailableError(
                    f"it has {have + int(length):,} bytes instead of {size:,}, so it is another "
                    "file, or the log-in page of this network"
                )
            with open(path, "ab") as file:
                limit_s = 4 * policy.timeout_s + size / _SLOWEST_BYTES_PER_S
                for block in _blocks(response, limit_s):
                    file.write(block[: size - have])
                    have = min(size, have + len(block))
                    on_progress(have)
                    if have == size:
                        return
        raise _RetryableError(f"{have:,} of {size:,} bytes")

    _retry(url, policy, attempt, progress=lambda: _size(path))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _retry(
    url: str, policy: RetryPolicy, attempt: Callable[[], T], progress: Callable[[], int] = int
) -> T:
    """Repeat an attempt with growing pauses. Errors do not show the URL, which may be signed."""
    import requests
    import urllib3

    failures, before = 0, progress()
    while True:
        try:
            _wait_for(urlsplit(url).netloc)
            return attempt()
        except (ValueError, requests.TooManyRedirects) as error:  # no or another scheme, no host
            raise UnavailableError(f"the URL is not usable ({type(error).__name__})") from None
        except _RetryableError as error:
            reason = str(error)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            late = isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError)
            reason = "a time-out" if late else "a broken connection"
        now = progress()
        failures, before = (0 if now > before else failures + 1), now
        if failures == policy.tries:
            raise UnavailableError(
                f"no answer in {policy.tries} tries, the last: {reason}", temporary=True
            )
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** max(0, failures - 1))
        time.sleep(pause * _random.uniform(0.5, 1.5))


@contextmanager
def _open(
    url: str, policy: RetryPolicy, headers: dict[str, str] | None = None, body: Any = None
) -> Iterator[Any]:
    """Yield a response whose body is still to come; sessions reuse connections per thread."""
    import requests

    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    all_headers = {"User-Agent": "geossl"}
    if headers is not None:
        all_headers |= {"Accept-Encoding": "identity", **headers}
    with _local.session.request(
        "GET" if body is None else "POST", url, headers=all_headers, json=body, stream=True,
        timeout=policy.timeout_s,
    ) as response:  # fmt: skip
        if response.status_code in _RETRY_STATUS:
            _hold(urlsplit(url).netloc, response.headers.get("Retry-After"))
            raise _RetryableError(f"HTTP {response.status_code}")
        yield response


def _blocks(response: Any, limit_s: float) -> Iterator[bytes]:
    """Yield the body as it arrives, unless it takes too long."""
    import requests

    end = time.monotonic() + limit_s
    while block := response.raw.read1(_BLOCK, decode_content=True):
        yield block
        if time.monotonic() > end:
            raise requests.Timeout()


def _read(response: Any, policy: RetryPolicy, max_bytes: int) -> bytes:
    content = bytearray()
    for block in _blocks(response, 4 * policy.timeout_s):
        content += block
        if len(content) > max_bytes:
            raise UnavailableError(f"the answer is longer than {max_bytes:,} bytes")
    return bytes(content)


def _hold(server: str, retry_after: str | None) -> None:
    """Keep all threads of this process from a server for as long as it asks."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        seconds = Retry().parse_retry_after(retry_after) if retry_after else 0
    except (InvalidHeader, ValueError, OverflowError):
        return
    _held_until[server] = max(_held_until.get(server, 0), time.monotonic() + seconds)


def _wait_for(server: str) -> None:
    while (wait_s := _held_until.get(server, 0) - time.monotonic()) > 0:
        if wait_s > _LONGEST_HOLD_S:
            raise UnavailableError(
                f"the server wants no requests for {wait_s:,.0f} s", temporary=True
            )
        time.sleep(wait_s + _random.uniform(0, _FIRST_PAUSE_S))  # not all threads at once
