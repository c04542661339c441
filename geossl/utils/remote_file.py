"""Read parts of a file of a web server, as rasterio asks for them."""

from __future__ import annotations

import io
from typing import Any

from geossl.utils.http import RetryPolicy, UnavailableError, fetch_range
from geossl.utils.validate import validated

__all__ = ["RemoteFile"]

_BLOCK = 2**16  # bytes of a request, at least: most headers of COGs fit in
_MAX_BYTES = 2**28


class RemoteFile:
    """A file of a web server, of which each block that is read is transferred once.

    `open` is an ``opener`` for rasterio. An error is kept in ``error`` and looks like the end of
    the file, for GDAL lets no exception through. (GDAL's own /vsicurl ignores Retry-After, tells
    no status, and remembers failures for the life of the process.)
    """

    @validated
    def __init__(self, url: str, *, policy: RetryPolicy):
        self.url, self.policy = url, policy
        self.error: UnavailableError | None = None
        self._blocks: dict[int, bytes] = {}
        self._size: int | None = None

    def open(self, path: str = "", mode: str = "rb") -> io.RawIOBase:
        """Return a file object of its own; rasterio opens a file more than once at a time."""
        return _Handle(self)

    def size(self) -> int:
        """Return the size in bytes; 0 after an error."""
        if self._size is None:
            self._load(0, 1)
        return self._size or 0

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes ``start`` to ``stop`` or the end; none after an error."""
        stop = min(stop, self.size())
        self._load(start, stop)
        if self.error is not None:
            return b""
        first = start // _BLOCK
        content = b"".join(self._blocks[i] for i in range(first, -(-stop // _BLOCK)))
        return content[start - first * _BLOCK : stop - first * _BLOCK]

    def _load(self, start: int, stop: int) -> None:
        """Fetch the missing blocks of a range, adjacent ones in one request."""
        missing = [i for i in range(start // _BLOCK, -(-stop // _BLOCK)) if i not in self._blocks]
        while missing and self.error is None:
            run = [i for n, i in enumerate(missing) if i - missing[0] == n]
            missing = missing[len(run) :]
            try:
                if (len(self._blocks) + len(run)) * _BLOCK > _MAX_BYTES:
                    raise UnavailableError(f"more than {_MAX_BYTES:,} bytes of the file are needed")
                ends = run[0] * _BLOCK, (run[-1] + 1) * _BLOCK
                content, size = fetch_range(self.url, *ends, policy=self.policy)
                if self._size not in (None, size):
                    raise UnavailableError("the file changed while it was read", temporary=True)
            except UnavailableError as error:
                self.error = error
                return
            self._size = size
            for n, i in enumerate(run):
                self._blocks[i] = content[n * _BLOCK : (n + 1) * _BLOCK]


class _Handle(io.RawIOBase):
    """A position in a `RemoteFile`."""

    def __init__(self, remote: RemoteFile):
        self._remote, self._position = remote, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        end = self._remote.size() if whence == io.SEEK_END else 0
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: end}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = self._remote.read(self._position, self._position + len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
