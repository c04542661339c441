"""List the files of a public S3 bucket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from urllib.parse import urlencode
from xml.etree import ElementTree

from geossl.datasets.download.catalog import File, PublicData
from geossl.utils.http import RetryPolicy, UnavailableError, fetch
from geossl.utils.parallel import run_tasks
from geossl.utils.validate import PositiveInt, validated

__all__ = ["files_in_bucket"]

_MAX_BYTES = 2**23  # of a list
_SEQUENCES = 4  # of each category


@validated
def files_in_bucket(
    data: PublicData, *, policy: RetryPolicy, num_workers: PositiveInt
) -> Iterator[File]:
    """Yield the files of the first sequences of each folder below a prefix, in order of names.

    Raises:
        ConnectionError: no answer, or none that is a list of files.
    """
    address, prefix = data.bucket or ("", "")
    root = prefix.rstrip("/").rpartition("/")[0] + "/"

    def list_below(query: dict[str, str]) -> ElementTree.Element:
        url = f"{address}?{urlencode({'list-type': '2', **query})}"
        try:
            tree = ElementTree.fromstring(fetch(url, policy=policy, max_bytes=_MAX_BYTES))
        except UnavailableError as error:
            raise ConnectionError(
                f"{address} returned no list of files: {error}. Run the same command again when "
                f"the network is back (see {data.page})."
            ) from error
        except ElementTree.ParseError as error:
            raise ConnectionError(
                f"{address} returned no list of files ({error}). See {data.page}."
            ) from None
        return tree

    top = list_below({"prefix": prefix, "delimiter": "/"})
    folders = [element.text or "" for element in top.findall("{*}CommonPrefixes/{*}Prefix")]
    if not folders:
        raise ConnectionError(f"{address} lists no files below {prefix}. See {data.page}.")
    queries = ({"prefix": folder, "max-keys": "500"} for folder in folders)
    with closing(run_tasks(list_below, queries, num_workers=num_workers)) as results:
        trees = {query["prefix"]: tree for query, tree in results}
    for folder in folders:
        rows = [(row.findtext("{*}Key", ""), row) for row in trees[folder].findall("{*}Contents")]
        sequences = [list(group) for _, group in groupby(rows, lambda row: _folder(row[0]))]
        if trees[folder].findtext("{*}IsTruncated") == "true":
            sequences.pop()  # it may be incomplete
        for key, row in (row for sequence in sequences[:_SEQUENCES] for row in sequence):
            size = row.findtext("{*}Size", "")
            if (
                key.endswith(("_rgb.jpg", "_rgb.json"))
                and key.startswith(root)
                and re.fullmatch("[1-9][0-9]{0,17}", size)
            ):
                tag = row.findtext("{*}ETag", "").strip('"')
                checksum = f"md5:{tag}" if re.fullmatch("[0-9a-f]{32}", tag) else None
                yield File(key.removeprefix(root), address + key, int(size), checksum)


def _folder(key: str) -> str:
    return key.rpartition("/")[0]
