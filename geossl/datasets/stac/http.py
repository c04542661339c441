"""Files and answers of web servers, asked for politely: pauses that grow, Retry-After honoured."""

from __future__ import annotations

import io
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

Taken = TypeVar("Taken")

_LATER = {408, 425, 429, 500, 502, 503, 504}  # "not now" in HTTP
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LONGEST_HOLD_S = 120.0  # a server that asks for more is left alone
_MOST_BYTES = 2**28
_PIECE = 2**16  # bytes read of a file at once, at least: most headers of COGs fit in
_chance = random.SystemRandom()  # not the global random state
_mine = threading.local()
_held: dict[str, float] = {}  # server -> until when nobody of this process asks it


class GaveUpError(Exception):
    """There is no usable answer; ``again`` says whether asking much later may help."""

    def __init__(self, reason: str, *, again: bool = False):
        super().__init__(reason)
        self.again = again


@dataclass(frozen=True)
class Patience:
    """How often to try, and how many seconds to wait for a sign of life."""

    tries: int = 5
    timeout_s: float = 30.0


def fetch(url: str, *, patience: Patience, body: Any = None) -> bytes:
    """The whole answer to a GET, or to a POST of ``body`` as JSON.

    Raises:
        GaveUpError: no answer, or another status than 200.
    """

    def take(answer: Any) -> bytes:
        if answer.status_code != 200:
            raise GaveUpError(f"HTTP {answer.status_code}")
        return _content(answer, patience, _MOST_BYTES)

    return _ask(url, patience, take, {}, body)


def fetch_part(url: str, start: int, stop: int, *, patience: Patience) -> tuple[bytes, int]:
    """Bytes ``start`` to ``stop`` (or the end) of a file, and the size of the whole file.

    Raises:
        GaveUpError: no answer, or the server does not serve parts.
    """
    import requests

    def take(answer: Any) -> tuple[bytes, int]:
        if answer.status_code == 200:
            raise GaveUpError("the server does not serve parts of files")
        if answer.status_code != 206:
            raise GaveUpError(f"HTTP {answer.status_code}")
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not told or int(told[1]) != start:
            raise GaveUpError("the server sent another part of the file than was asked for")
        content = _content(answer, patience, stop - start)
        if len(content) != min(stop, int(told[2])) - start:
            raise requests.ConnectionError("cut short")
        return content, int(told[2])

    headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    return _ask(url, patience, take, headers, None)


def _ask(
    url: str,
    patience: Patience,
    take: Callable[[Any], Taken],
    headers: dict[str, str],
    body: Any,
) -> Taken:
    """What ``take`` makes of the first good answer. Errors never show ``url``: it may be signed."""
    import requests
    import urllib3

    try:
        server = urlsplit(url)
        usable = server.scheme in ("http", "https") and bool(server.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise GaveUpError(f"expected an address http(s)://..., came {url[:40]!r}")
    about: dict[str, Any] = {
        "headers": {"User-Agent": "geossl", **headers},
        "json": body,
        "stream": True,
        "timeout": patience.timeout_s,
    }
    reason = ""
    for n in range(patience.tries):
        if n:
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (n - 1))
            time.sleep(pause * _chance.uniform(0.5, 1.5))
        _stand_by(server.netloc)
        try:
            with _session().request("GET" if body is None else "POST", url, **about) as answer:
                if answer.status_code not in _LATER:
                    return take(answer)
                reason = f"HTTP {answer.status_code}"
                _hold(server.netloc, answer.headers.get("Retry-After"))
        except (requests.exceptions.InvalidURL, requests.TooManyRedirects) as error:
            raise GaveUpError(f"no usable address ({type(error).__name__})") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            late = isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError)
            reason = "a time-out" if late else "a broken connection"
    raise GaveUpError(f"no answer in {patience.tries} tries, the last: {reason}", again=True)


def _session() -> Any:
    """A requests session of this thread alone, so that connections are used again."""
    import requests

    if not hasattr(_mine, "session"):
        _mine.session = requests.Session()
    return _mine.session


def _content(answer: Any, patience: Patience, most: int) -> bytes:
    """The body, unless it trickles for ever or is longer than it may be."""
    import requests

    end, parts, size = time.monotonic() + 4 * patience.timeout_s, [], 0
    while part := answer.raw.read1(_PIECE, decode_content=True):  # what came, be it one byte
        parts.append(part)
        size += len(part)
        if size > most:
            raise GaveUpError(f"the answer is longer than {most:,} bytes")
        if time.monotonic() > end:
            raise requests.Timeout()
    return b"".join(parts)


def _hold(server: str, retry_after: str | None) -> None:
    """Keep all threads of this process from a server for as long as it asks."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        seconds = Retry().parse_retry_after(retry_after) if retry_after else 0
    except (InvalidHeader, ValueError, OverflowError):
        return
    _held[server] = max(_held.get(server, 0), time.monotonic() + seconds)


def _stand_by(server: str) -> None:
    while (wait := _held.get(server, 0) - time.monotonic()) > 0:
        if wait > _LONGEST_HOLD_S:
            raise GaveUpError(f"the server asks to be left alone for {wait:,.0f} s", again=True)
        time.sleep(wait + _chance.uniform(0, _FIRST_PAUSE_S))  # not all threads at once


class RemoteFile:
    """A file of a web server, of which only the parts that are read travel; each part once.

    `open` is an ``opener`` for rasterio. An error is kept in ``error`` and looks like the end of
    the file, for GDAL lets no exception through. (GDAL's own /vsicurl knows no Retry-After, tells
    no status, and remembers failures for the life of the process.)
    """

    def __init__(self, url: str, *, patience: Patience):
        self.url, self.patience = url, patience
        self.error: GaveUpError | None = None
        self._pieces: dict[int, bytes] = {}
        self._size: int | None = None

    def open(self, path: str = "", mode: str = "rb") -> io.RawIOBase:
        """A file object of its own, for rasterio opens a file more than once at a time."""
        return _Handle(self)

    def size(self) -> int:
        """In bytes; 0 after an error."""
        if self._size is None:
            self._need(0, 1)
        return self._size or 0

    def read(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` or the end; none after an error."""
        stop = min(stop, self.size())
        self._need(start, stop)
        if self.error is not None:
            return b""
        first = start // _PIECE
        whole = b"".join(self._pieces[i] for i in range(first, -(-stop // _PIECE)))
        return whole[start - first * _PIECE : stop - first * _PIECE]

    def _need(self, start: int, stop: int) -> None:
        """Fetch the pieces of a span that are not here, neighbors in one request."""
        missing = [i for i in range(start // _PIECE, -(-stop // _PIECE)) if i not in self._pieces]
        while missing and self.error is None:
            run = [i for n, i in enumerate(missing) if i - missing[0] == n]
            missing = missing[len(run) :]
            try:
                if (len(self._pieces) + len(run)) * _PIECE > _MOST_BYTES:
                    raise GaveUpError(f"more than {_MOST_BYTES:,} bytes of the file are needed")
                ends = run[0] * _PIECE, (run[-1] + 1) * _PIECE
                content, size = fetch_part(self.url, *ends, patience=self.patience)
                if self._size not in (None, size):
                    raise GaveUpError("the file changed while it was read", again=True)
            except GaveUpError as error:
                self.error = error
                return
            self._size = size
            for n, i in enumerate(run):
                self._pieces[i] = content[n * _PIECE : (n + 1) * _PIECE]


class _Handle(io.RawIOBase):
    """A position in a `RemoteFile`."""

    def __init__(self, remote: RemoteFile):
        self._remote, self._at = remote, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        end = self._remote.size() if whence == io.SEEK_END else 0
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: end}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._remote.read(self._at, self._at + len(buffer))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)
