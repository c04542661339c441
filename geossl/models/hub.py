"""Weights that others published, by name: downloaded once into torch's own cache.

The addresses are torchvision's and torchgeo's; they were not tried here, the tests use a server of
their own. A file's name ends in the first digits of its SHA-256, which are checked.
"""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

from geossl.utils.io import file_digest
from geossl.utils.validate import check_choice, validated

_TORCHGEO = "https://hf.co/torchgeo"
_FILE = f"{_TORCHGEO}/{{0}}/resolve/{{1}}/{{0}}-{{2}}.pth"
WEIGHTS = {
    "gassl": _FILE.format(
        "resnet50_fmow_rgb_gassl", "fe8a91026cf9104f1e884316b8e8772d7af9052c", "da43d987"
    ),
    "imagenet-resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "imagenet-resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "seco-resnet18": _FILE.format(
        "resnet18_sentinel2_rgb_seco", "f8dcee692cf7142163b55a5c197d981fe0e717a0", "cefca942"
    ),
    "seco-resnet50": _FILE.format(
        "resnet50_sentinel2_rgb_seco", "fbd07b02a8edb8fc1035f7957160deed4321c145", "018bf397"
    ),
    "ssl4eo-resnet18": _FILE.format(
        "resnet18_sentinel2_all_moco", "5b8cddc9a14f3844350b7f40b85bcd32aed75918", "59bfdff9"
    ),
    "ssl4eo-resnet50": _FILE.format(
        "resnet50_sentinel2_all_moco", "da4f3c9dbe09272eb902f3b37f46635fa4726879", "df8b932e"
    ),
    "ssl4eo-rgb-resnet18": _FILE.format(
        "resnet18_sentinel2_rgb_moco", "e1c032e7785fd0625224cdb6699aa138bb304eec", "e3a335e3"
    ),
    "ssl4eo-rgb-resnet50": _FILE.format(
        "resnet50_sentinel2_rgb_moco", "efd9723b59a88e9dc1420dc1e96afb25b0630a3c", "2b57ba8b"
    ),
}


@validated
def download_weights(name: str) -> Path:
    """Download published weights, unless torch's cache has them already.

    Args:
        name: one of `WEIGHTS`: the paper's own ("gassl"), torchvision's of ImageNet, those of SeCo,
            and of SSL4EO-S12 with 13 bands or three.

    Returns:
        The file, in the folder where torchvision and torchgeo keep theirs.

    Raises:
        ValueError: an unknown name, or a file that is not the published one.
        ConnectionError: no network; says what to do by hand.
    """
    import torch.hub

    check_choice("name", name, WEIGHTS)
    url = WEIGHTS[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    digits = path.stem.rpartition("-")[2]
    if path.exists():
        if not file_digest(path, algorithm="sha256").startswith(digits):
            raise ValueError(
                f"{path} is another file than the one that was published as {name!r}. Remove it, "
                "and it is downloaded again."
            )
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), digits)
    except RuntimeError:
        raise ValueError(
            f"{url} is another file than the one that was published, and is not kept. It may be "
            "the log-in page of this network."
        ) from None
    except (URLError, OSError, EOFError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"{url} cannot be downloaded ({reason}). Try again with a network, or put the file at "
            f"{path} by hand."
        ) from None
    return path
