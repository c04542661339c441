"""Where a stream lies: a folder, or a prefix of an S3 bucket; a file is whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

_TRIES = 8  # of a request to an object store, with growing pauses
_CONNECTIONS = 32
_ABSENT = ("404", "NoSuchKey", "NoSuchBucket")


class Storage(Protocol):
    """What a folder and a bucket can both do; names are relative, with ``/``."""

    remote: bool
    path: str

    def read(self, name: str) -> bytes:
        """The content of a file."""

    def put(self, source: Path, name: str) -> None:
        """Move a file of this machine here."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of each file directly in a folder, by its name."""

    def remove(self, names: list[str]) -> None:
        """Delete files, as far as they are there."""

    def clear(self, folder: str) -> None:
        """Delete a folder with all that is in it."""


def open_storage(path: str | os.PathLike[str], options: dict[str, Any] | None = None) -> Storage:
    """The folder or bucket of a path; nothing is made or asked yet.

    Raises:
        ValueError: another scheme than s3://, or no bucket.
    """
    text = os.fspath(path)
    if "://" not in text:
        return Folder(text)
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.strip("/").partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(
            f"expected a folder or s3://bucket/prefix, came {text!r}; other object stores are "
            "reached by the S3 interface they offer, with storage_options={'endpoint_url': ...}"
        )
    return Bucket(bucket, prefix, options)


class Folder:
    """A folder that all who read or write see alike."""

    remote = False

    def __init__(self, path: str):
        self.path = path
        self._root = Path(path)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self._root / name).read_bytes()

    def put(self, source: Path, name: str) -> None:
        """Move a file of the same disk here."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(source, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(source, target)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of each file directly in a folder, by its name."""
        at = self._root / folder
        return (
            {f.name: f.stat().st_size for f in at.iterdir() if f.is_file()} if at.exists() else {}
        )

    def remove(self, names: list[str]) -> None:
        """Delete files, as far as they are there."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def clear(self, folder: str) -> None:
        """Delete a folder with all that is in it."""
        shutil.rmtree(self._root / folder, ignore_errors=True)


class Bucket:
    """A prefix of a bucket; an upload is seen when it is complete."""

    remote = True

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any] | None):
        self.path = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self.options = with_retries(options)
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            with import_boto3():
                import boto3

            with translate_errors(self.path):
                self._made = boto3.client("s3", **self.options)
        return self._made

    def read(self, name: str) -> bytes:
        """The content of an object."""
        with translate_errors(f"{self.path}/{name}"):
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            return found["Body"].read()

    def put(self, source: Path, name: str) -> None:
        """Upload a file."""
        with translate_errors(f"{self.path}/{name}"), open(source, "rb") as file:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=file)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of each object directly under a folder, by its name."""
        prefix = self._prefix + (f"{folder}/" if folder else "")
        pages = self._client.get_paginator("list_objects_v2")
        with translate_errors(self.path):
            return {
                item["Key"].removeprefix(prefix): item["Size"]
                for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/")
                for item in page.get("Contents", ())
            }

    def remove(self, names: list[str]) -> None:
        """Delete objects, as far as they are there."""
        for start in range(0, len(names), 1000):
            keys = [{"Key": self._prefix + name} for name in names[start : start + 1000]]
            with translate_errors(self.path):
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys})

    def clear(self, folder: str) -> None:
        """Delete all objects under a folder."""
        self.remove([f"{folder}/{name}" for name in self.sizes(folder)])


def with_retries(options: dict[str, Any] | None) -> dict[str, Any]:
    """Arguments of ``boto3.client``; a server that is down is an error after a minute or so."""
    with import_boto3():
        from botocore.config import Config

    retries = {"max_attempts": _TRIES, "mode": "standard"}
    config = Config(retries=retries, max_pool_connections=_CONNECTIONS)
    return {"config": config, **(options or {})}


@contextmanager
def import_boto3() -> Iterator[None]:
    """Tell how to get the packages that are imported inside."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"streams need the packages litdata and boto3 ({error}); "
            "install them with: pip install 'geossl[stream]'"
        ) from error


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Errors of an object store as the builtin exceptions of files."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in _ABSENT:
            raise FileNotFoundError(f"expected {what}, the object store has none") from None
        kind = PermissionError if code in ("403", "AccessDenied") else OSError
        raise kind(f"the object store refuses {what}: {error}") from error
    except BotoCoreError as error:
        raise ConnectionError(
            f"the object store of {what} cannot be used ({error}); look at storage_options, e.g. "
            "{'endpoint_url': 'https://...'}, and at the credentials"
        ) from error
