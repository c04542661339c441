import os

import pytest

from geossl.data.files import DatasetError
from geossl.datasets.shared import listing


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_each_file_is_found_once_under_its_own_name(tmp_path):
    top, outside = tmp_path / "top", tmp_path / "outside"
    put(top, "b/1.TIF", "b/c d/ü.tif", "a.tif", "a.txt", "Thumbs.db", ".h/2.tif", "__MACOSX/3.tif")
    put(outside, "4.tif", "deep/5.tif")
    (top / "a link").symlink_to(top / "b")  # sorted before it, but b has a name of its own
    (top / "b" / "up").symlink_to(tmp_path)
    (top / "out").symlink_to(outside)
    (top / "again.tif").symlink_to(top / "a.tif")
    (top / "one.tif").symlink_to(outside / "deep" / "5.tif")
    (top / "loop").symlink_to(top / "loop")
    (top / "gone.tif").symlink_to(top / "nowhere")
    os.mkfifo(top / "pipe.tif")
    files, problems = listing.find_files(top, (".tif",))
    inside = sorted(os.path.relpath(file, top) for file in files)
    assert inside == ["a.tif", "b/1.TIF", "b/c d/ü.tif", "out/4.tif", "out/deep/5.tif"]
    assert problems == {str(top / "gone.tif"): "it is a link to a file that does not exist"}
    some, _ = listing.find_files(top, lambda name: True, limit=1)
    assert 1 <= len(some) < 6
    assert listing.find_files(tmp_path / "absent", (".tif",))[0] == []


def test_names_that_no_table_holds_are_said(tmp_path):
    put(tmp_path, "good.tif")
    with open(os.path.join(os.fsencode(tmp_path), b"bad\xff.tif"), "wb"):
        pass
    files, problems = listing.find_files(tmp_path, (".tif",))
    assert files == [str(tmp_path / "good.tif")]
    assert list(problems.values()) == ["its name is not UTF-8, rename it"]
    assert next(iter(problems)).isascii()


def test_folders_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    put(tmp_path, "open/1.tif", "shut/2.tif")
    scan = os.scandir

    def refuse(path):
        if os.path.basename(path) == "shut":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files, problems = listing.find_files(tmp_path, (".tif",))
    assert files == [str(tmp_path / "open" / "1.tif")]
    assert problems == {str(tmp_path / "shut"): "it cannot be listed: Permission denied"}
    with pytest.raises(DatasetError, match="shut cannot be listed: Permission denied. Change its"):
        listing.list_entries(tmp_path / "shut")
    assert listing.first_entries(tmp_path / "shut") == []  # a look at what may be there
    assert listing.list_entries(tmp_path / "absent") == []
