"""Store the files of a stream in a folder, or under a prefix of an S3 bucket."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from geossl.utils.io import check_file, replace_file
from geossl.utils.validate import validated

__all__ = ["import_litdata", "open_storage", "translate_errors"]

_TRIES = 8  # of a request to an object store, with growing pauses
_CONNECTIONS = 32
_ABSENT = ("404", "NoSuchKey", "NoSuchBucket")


class Folder:
    """A folder that all who read or write can see; names are relative, with ``/``."""

    remote: Literal[False] = False

    def __init__(self, path: str):
        self.path = path

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return check_file(Path(self.path) / name).read_bytes()

    def put(self, source: Path, name: str) -> None:
        """Move a file of the same disk here; it appears when it is complete."""
        target = Path(self.path) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(source, "rb+") as file:
            os.fsync(file.fileno())
        replace_file(source, target)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the bytes of each file directly in a folder, by its name."""
        root = Path(self.path) / folder
        files = [file for file in root.iterdir() if file.is_file()] if root.exists() else []
        return {file.name: file.stat().st_size for file in files}

    def remove(self, names: list[str]) -> None:
        """Delete those of the files that exist."""
        for name in names:
            (Path(self.path) / name).unlink(missing_ok=True)

    def clear(self, folder: str) -> None:
        """Delete a folder with all its files."""
        shutil.rmtree(Path(self.path) / folder, ignore_errors=True)


class Bucket:
    """A prefix of a bucket, with the methods of `Folder`."""

    remote: Literal[True] = True

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any] | None):
        with import_litdata():
            from botocore.config import Config

        self.path = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        retries = {"max_attempts": _TRIES, "mode": "standard"}  # an error after a minute or so
        config = Config(retries=retries, max_pool_connections=_CONNECTIONS)
        self.options = {"config": config, **(options or {})}
        self._connection: Any = None

    @property
    def _client(self) -> Any:
        if self._connection is None:
            with import_litdata():
                import boto3

            with translate_errors(self.path):
                self._connection = boto3.client("s3", **self.options)
        return self._connection

    def read(self, name: str) -> bytes:
        """Return the content of an object."""
        with translate_errors(f"{self.path}/{name}"):
            response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            return response["Body"].read()

    def put(self, source: Path, name: str) -> None:
        """Upload a file; it appears when it is complete."""
        with translate_errors(f"{self.path}/{name}"), open(source, "rb") as file:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=file)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the bytes of each object directly under a folder, by its name."""
        prefix = self._prefix + (f"{folder}/" if folder else "")
        pages = self._client.get_paginator("list_objects_v2")
        with translate_errors(self.path):
            return {
                item["Key"].removeprefix(prefix): item["Size"]
                for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/")
                for item in page.get("Contents", ())
            }

    def remove(self, names: list[str]) -> None:
        """Delete those of the objects that exist."""
        for start in range(0, len(names), 1000):
            keys = [{"Key": self._prefix + name} for name in names[start : start + 1000]]
            with translate_errors(self.path):
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys})

    def clear(self, folder: str) -> None:
        """Delete all objects under a folder."""
        self.remove([f"{folder}/{name}" for name in self.sizes(folder)])


@validated
def open_storage(
    path: str | os.PathLike[str], storage_options: dict[str, Any] | None = None
) -> Folder | Bucket:
    """Return the folder or bucket of a path; nothing is created or requested yet.

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
            f"`path` must be a folder or s3://bucket/prefix, got {text!r}. Use the S3 interface of "
            "other object stores, with storage_options={'endpoint_url': ...}."
        )
    return Bucket(bucket, prefix, storage_options)


@contextmanager
def import_litdata() -> Iterator[None]:
    """Say how to install the packages that are imported inside."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"Streams need the packages litdata and boto3 ({error}). "
            "Run: pip install 'geossl[stream]'"
        ) from error


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Raise errors of an object store as the builtin exceptions of files."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in _ABSENT:
            raise FileNotFoundError(f"The object store has no {name}.") from None
        kind = PermissionError if code in ("403", "AccessDenied") else OSError
        raise kind(f"The object store refuses {name}: {error}") from error
    except BotoCoreError as error:
        raise ConnectionError(
            f"The object store of {name} cannot be used ({error}). Check `storage_options`, e.g. "
            "{'endpoint_url': 'https://...'}, and the credentials."
        ) from error
