"""Public data sets that `geossl fetch` downloads: address, size, license and checksum.

Checksums and sizes: of the two series, those of copies of the public files; of EuroSAT, as several
public projects quote them (md5: what Zenodo states); of fMoW, what the bucket lists. fMoW's own val
sample is a torrent only, so a sample of the same split stands in. The tests use a server of their
own: the addresses are those of the data sets' pages, and were not tried.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SETS", "File", "PublicData"]


@dataclass(frozen=True)
class File:
    """A file to download.

    Attributes:
        path: relative to the folder of its data set.
        url: its address.
        size: in bytes.
        checksum: "sha256:..." or "md5:..."; None if none is published.
    """

    path: str
    url: str
    size: int
    checksum: str | None


@dataclass(frozen=True)
class PublicData:
    """A public data set.

    Attributes:
        title: one line.
        license: one line.
        page: where to read about it, and to get it by hand.
        files: what to download; a single archive (.zip, .tar, .tar.gz, ...) is unpacked.
        unpacked: bytes that the archive holds at most; more is refused.
        bucket: in place of files, the start of an S3 bucket's address and of its keys.
        size: approximate bytes of a bucket's sample.
    """

    title: str
    license: str
    page: str
    files: tuple[File, ...] = ()
    unpacked: int = 0
    bucket: tuple[str, str] | None = None
    size: int = 0


_SERIES = "https://raw.githubusercontent.com/opengeos/data"
_NAIP = (
    ("20090818", 2641535, "568f0d3dc3118d6df63510361db6c627b81541ad4c65122caf54e18030fc7100"),
    ("20100629", 2765026, "9d9033eb670025c10c0ce3deff5112aa08aad64b56c5a28f99649cefccf9899b"),
    ("20120731", 2746404, "695ff3bef666f84b9d8bee8292c21be1edf5fbd52b0db839a40a949403799dc4"),
    ("20140720", 2566645, "cbb65d34c3f8ad566800677d1f0ba15b221305e46b9873ddb20b5fc922ab6104"),
    ("20150926", 2383135, "e2f4898eaada52f53a0cf7920836a4ff42e41a05357c0f082cfbfcb048b21b9d"),
    ("20160816", 2580135, "6e60094af5a5b605178277831a0bb5e28650ef4729cb5eb91ac94ec5643462b4"),
    ("20170827", 2621014, "d1138bef2d496ed4ff731f48def08e0695e326aeb55dc291ebb9b415e7bda2f8"),
    ("20180716", 2397090, "599bb9bb7f78e9a1f3e0e712290e6423e2f513c69afc00a18ff586a6fcd4aba7"),
    ("20190904", 2526050, "bfa915b54ad6e4e4fe60ad6afdd9115ff5d00c363d4d1ccfaaa33ebb3cad2df2"),
    ("20200831", 2487763, "e8eb18475678d16a98a44f28b1c777fd0b2c56e9c8afed302a5e071e2e237f90"),
)
_LANDSAT = (
    ("1985", 828125, "32676315c2a365776fac49e549377ea3f36345b645dacfab074ca51c4bdce13a"),
    ("1990", 848612, "7d09817f9124affc7ab3d6ba0bb2d28761f324dd8308e660f89608a5e2b184c0"),
    ("1995", 896780, "f7f4cdf6148f721eefc8075b8061974833c309292b20cc23700a61adf90e827d"),
    ("2000", 849316, "63a35f6f01c37b01831b9cf01c919ce03b1410bdce7526aabdfbfd26be960a8d"),
    ("2005", 887023, "8f001015fa89aa3da952e293234e9f6cd6042799425ddb8980a69489b86ead16"),
    ("2010", 898511, "987f401ab4708cb3ed2c70d6e39ec0a859df112a35f9df04663a80106f74cebc"),
    ("2015", 856811, "974f1865cc07b9012bc9dfbde3ba9282aa4f9611ee8c683269e2c5066f655c2a"),
    ("2020", 893624, "47d49b578bf64701f4b23fbe48096ae148e3b5f9e2e6e1e7e55354b0348faeab"),
)
_ZENODO = "https://zenodo.org/records/7711810"


def _series(
    address: str, rows: tuple[tuple[str, int, str], ...], name: str = "{}.tif"
) -> tuple[File, ...]:
    return tuple(
        File(
            name.format(date), f"{_SERIES}/{address}/{name.format(date)}", size, f"sha256:{digest}"
        )
        for date, size, digest in rows
    )


def _zenodo(name: str, size: int, checksum: str) -> tuple[File, ...]:
    return (File(name, f"{_ZENODO}/files/{name}", size, checksum),)


SETS = {
    "naip": PublicData(
        title="NAIP aerial images of North Dakota wetlands, 10 dates 2009-2020, 5 m, 4 bands",
        license="public domain (USDA)",
        page="https://github.com/opengeos/data/tree/main/naip",
        files=_series(
            "15702be1b124db7b77a33d20df08f01e3ba0f4e9/naip", _NAIP, "m_4709963_se_14_1_{}.tif"
        ),
    ),
    "landsat": PublicData(
        title="Landsat composites of Pucallpa, Peru, 8 dates 1985-2020, 90 m, 4 bands",
        license="public domain (USGS)",
        page="https://github.com/opengeos/data/tree/main/landsat",
        files=_series("5bf38f6130137df371428a8b08834bb68214e308/landsat", _LANDSAT),
    ),
    "eurosat-rgb": PublicData(
        title="EuroSAT, 27,000 Sentinel-2 chips of 10 classes, true color",
        license="MIT (Copernicus Sentinel data)",
        page=_ZENODO,
        files=_zenodo(
            "EuroSAT_RGB.zip",
            94_658_721,
            "sha256:b4f5b234ecb7d7ff9c6cddb046543b4717c53fd6e9815be6c0e80cc614f51b90",
        ),
        unpacked=300_000_000,
    ),
    "eurosat-ms": PublicData(
        title="EuroSAT, 27,000 Sentinel-2 chips of 10 classes, 13 bands, georeferenced",
        license="MIT (Copernicus Sentinel data)",
        page=_ZENODO,
        files=_zenodo("EuroSAT_MS.zip", 2_065_402_329, "md5:091174add3c8e680a49244acf185b9f0"),
        unpacked=4_000_000_000,
    ),
    "fmow-sample": PublicData(
        title="fMoW-rgb, the first 4 sequences of each category of its val split",
        license="Functional Map of the World Challenge Public License (non-commercial)",
        page="https://github.com/fMoW/dataset",
        bucket=("https://spacenet-dataset.s3.amazonaws.com/", "Hosted-Datasets/fmow/fmow-rgb/val/"),
        size=500_000_000,
    ),
}
