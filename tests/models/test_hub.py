"""Published weights by name, from a server on this machine."""

import hashlib
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
import torchvision

from geossl import models
from geossl.models import hub, pretrained


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Weights of ImageNet on a server, under their published name; the server, and the cache."""
    path = tmp_path / "served" / "net.pth"
    path.parent.mkdir()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    path = path.rename(path.with_name(f"resnet18-{digits}.pth"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=path.parent)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{path.name}"
        monkeypatch.setitem(hub.WEIGHTS, "imagenet-resnet18", url)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield path
        server.shutdown()


def test_a_name_is_downloaded_once_and_then_found_without_a_network(served, tmp_path):
    first = models.load("imagenet-resnet18")
    assert first.metadata["input"] == "imagenet" and first.metadata["bands"] == [
        "red",
        "green",
        "blue",
    ]
    content = served.read_bytes()
    served.unlink()
    again = models.load("imagenet-resnet18")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in first.state_dict().items())
    files = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert [p.read_bytes() for p in files] == [content]


def test_another_file_and_none_at_all_are_told_in_a_sentence(served, tmp_path):
    content = served.read_bytes()
    served.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(ValueError, match="another file than the one that was published"):
        models.load("imagenet-resnet18")
    served.unlink()
    with pytest.raises(
        ConnectionError, match=r"cannot be downloaded \(.*put the file at .*by hand"
    ):
        models.load("imagenet-resnet18")
    path = hub.Path(torch.hub.get_dir()) / "checkpoints" / served.name
    assert not list((tmp_path / "cache").rglob("*.p*"))
    path.write_bytes(content)
    assert models.load("imagenet-resnet18").name == "resnet18"
    path.write_bytes(content + b"1")
    with pytest.raises(ValueError, match="another file than the one .* Remove it, and"):
        models.load("imagenet-resnet18")


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models.save_encoder(models.build_encoder(), "gassl")
    assert models.load("gassl").name == "tiny"


def test_names_say_their_digits_and_their_input_is_known():
    for name, url in hub.WEIGHTS.items():
        digits = re.search(r"-([0-9a-f]{8})\.pth$", url)[1]
        assert name.startswith("imagenet") or digits in pretrained._PUBLISHED
    with pytest.raises(ValueError, match="`name` must be one of .*'gassl'"):
        hub.download_weights("resnet50")
    with pytest.raises(FileNotFoundError, match="no encoder at gasl.*downloaded: gassl, imagenet-"):
        models.load("gasl")
