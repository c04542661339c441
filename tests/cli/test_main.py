"""What a person types: the whole way once, and one clear sentence for every mistake."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin

from geossl import ChipStore, Embeddings, GeoClusters, evaluate
from geossl.cli.main import _COMMANDS, _OLD_COMMANDS, _OLD_OPTIONS, _load, main
from geossl.data import scenes
from geossl.models import build_encoder, load_encoder, save_encoder
from geossl.train.config import PretrainConfig, paper_config
from geossl.transforms import moco_v2

SMALL = ["--batch-size", "8", "--epochs", "1", "--queue-size", "16", "--size-px", "16"]


def write_scene(path, *, left=500_000.0, value=None, crs="EPSG:32614", dtype="uint8", size=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 200, (3, size, size)).astype(dtype)
    if value is not None:
        pixels[:] = value
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=3, dtype=dtype, crs=crs,
        transform=from_origin(left, 5_000_000, 10, 10), nodata=0,
    ) as file:  # fmt: skip
        file.write(pixels)


@pytest.fixture
def folder(tmp_path):
    for year in (2015, 2018, 2020):
        write_scene(tmp_path / "scenes" / f"area_{year}.tif")
    return tmp_path / "scenes"


def run(*args):
    main([str(a) for a in args])


def refused(capsys, *args):
    """The one sentence that a command ends with."""
    with pytest.raises(SystemExit) as stop:
        run(*args)
    said = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2, said
    assert said[-1].startswith("geossl: ") and "Traceback" not in "\n".join(said)
    return said[-1]


@pytest.mark.slow
def test_a_name_that_a_file_cannot_hold_is_printed_as_well_as_it_can(folder):
    """The output into a file on Windows: of a code page, which has few letters."""
    output = folder / "\u6771\u4eac.parquet"
    command = [sys.executable, "-m", "geossl", "scenes", "geotiff", str(folder), "--chip-px", "16"]
    done = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, encoding="cp1252",
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0 and output.exists(), done.stderr
    assert "\\u6771\\u4eac.parquet: " in done.stdout


def scenes_of(folder, out, *more):
    run("scenes", "geotiff", folder, "--chip-px", 16, "--output", out, *more)


def test_from_a_folder_to_a_map(folder, tmp_path, capsys):
    table, store = tmp_path / "scenes.parquet", tmp_path / "chips"
    scenes_of(folder, table, "--test-side", "east", "--test-share", 0.5)
    run("chips", table, "--size-px", 16, "--output-dir", store)
    run("clusters", store, "--k", 3, "--output", tmp_path / "clusters.json")
    geo = ["--geo", tmp_path / "clusters.json"]
    run("pretrain", store, "--output-dir", tmp_path / "run", *geo, *SMALL)
    run("embed", store, "--encoder", tmp_path / "run", "--output", tmp_path / "e.parquet")
    run("embed", store, "--encoder", "random", "--output", tmp_path / "r.parquet")
    capsys.readouterr()
    run("retrieve", tmp_path / "e.parquet", tmp_path / "r.parquet")
    said = capsys.readouterr().out
    assert said.count("recall@1") == 2 and "chance 0.125" in said
    for source in (table, store, tmp_path / "e.parquet", tmp_path / "clusters.json"):
        run("map", source, "--output", tmp_path / "map.html")
        assert (tmp_path / "map.html").stat().st_size > 100_000
    assert pd.read_csv(tmp_path / "clusters.csv").columns.tolist() == ["cluster", "path"]


def test_a_map_of_a_small_table_opens_on_it_and_says_what_is_left_out(tmp_path, capsys):
    lon, lat = [190.0, None, 190.001, 190.002], [46.95, None, 46.951, 46.95]
    table = pd.DataFrame({"path": "a.png", "location": range(4), "lon": lon, "lat": lat})
    for rows, caption in (
        (slice(None), '"1 without coordinates are not shown."'),
        (slice(1), None),
    ):
        table[rows].to_csv(tmp_path / "t.csv", index=False)
        run("map", tmp_path / "t.csv", "-o", tmp_path / "m.html")
        page = (tmp_path / "m.html").read_text("utf-8")
        assert caption is None or caption in page
        (south, west), (north, east) = json.loads(re.search(r'"view":(\[\[.*?\]\])', page)[1])
        assert west < -170 < east and south < 46.95 < north
        assert (east - west < 0.003) == (caption is not None)
    table[1:2].to_csv(tmp_path / "t.csv", index=False)
    said = refused(capsys, "map", tmp_path / "t.csv", "-o", tmp_path / "m.html")
    assert "A map needs coordinates" in said


@pytest.mark.parametrize("command", ["", "scenes", *_COMMANDS])
def test_help_explains_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*command.split(), "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"usage: geossl {command}".strip() in text
    assert text.split("\n\n")[1].strip().endswith("."), text
    if command in _COMMANDS:
        for name in inspect.signature(_load(command)).parameters:
            assert f"    {name}: " in inspect.getdoc(_load(command)), name


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "scenes --help", "scenes geotiff --help", "stac -h"])
def test_help_does_not_load_torch(words):
    code = f"""
        import sys
        from geossl.cli import main
        try:
            main({words.split()})
        finally:
            assert not {{"torch", "pandas", "rasterio", "folium"}} & set(sys.modules)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize(
    "words, new",
    [
        (["pretrain", "chips", "--out", "run"], "`--out` is now `--output-dir`"),
        (["pretrain", "chips", "--batch", "8"], "`--batch` is now `--batch-size`"),
        (
            ["pretrain", "chips", "--checkpoint-s=8"],
            "`--checkpoint-s` is now `--checkpoint-every-s`",
        ),
        (["pretrain", "chips", "--grey", "0"], "`--grey` is now `--grayscale`"),
        (["chips", "t.csv", "--workers", "2"], "`--workers` is now `--num-workers`"),
        (["scenes", "open", "x", "--out", "t.csv"], "`--out` is now `--output`"),
        (["map", "x", "--colour", "label"], "`--colour` is now `--color`"),
    ],
)
def test_an_option_of_an_earlier_version_still_works_and_names_the_new_one(capsys, words, new):
    with pytest.raises(SystemExit):  # there is no such file
        run(*words)
    message, *rest = capsys.readouterr().err.splitlines()
    assert message == f"geossl: {new}; the old name goes in version 0.3."
    assert not any("Unrecognized" in line for line in rest)


def test_every_new_name_of_an_option_exists():
    parameters = set(inspect.signature(_load("pretrain")).parameters)
    parameters |= {f.name for f in dataclasses.fields(PretrainConfig)}
    parameters |= {f.name for f in dataclasses.fields(PretrainConfig().transform)}
    parameters |= {name for c in _COMMANDS for name in inspect.signature(_load(c)).parameters}
    assert {new[2:].replace("-", "_") for new in _OLD_OPTIONS.values()} <= parameters
    assert not {old[2:].replace("-", "_") for old in _OLD_OPTIONS} & parameters


def test_commands_of_an_earlier_version_still_run_and_name_the_new_one(capsys):
    for old, new in _OLD_COMMANDS.items():
        with pytest.raises(SystemExit) as stop:
            run(old, "--help")
        captured = capsys.readouterr()
        assert stop.value.code == 0 and f"usage: geossl {new}" in captured.out
        assert captured.err.startswith(f"geossl: `{old}` is now `{new}`")


def test_folders_that_do_not_do(tmp_path, capsys):
    out = tmp_path / "t.parquet"
    assert "does not exist" in refused(
        capsys, "scenes", "geotiff", tmp_path / "no", "--output", out
    )
    (tmp_path / "empty").mkdir()
    said = refused(capsys, "scenes", "geotiff", tmp_path / "empty", "--output", out)
    assert "There are no .tif or .tiff files in" in said
    assert not out.exists()


def test_files_that_do_not_do(folder, tmp_path, capsys):
    out = tmp_path / "t.parquet"
    command = ("scenes", "geotiff", folder, "--chip-px", 16, "--output", out)
    (folder / "bad_2016.tif").write_bytes(b"no tif at all")
    assert "bad_2016.tif" in refused(capsys, *command)
    run(*command, "--skip-bad")
    assert "left out" in capsys.readouterr().out
    (folder / "bad_2016.tif").unlink()
    out.unlink()
    write_scene(folder / "none_2016.tif", crs=None)
    assert "no CRS" in refused(capsys, *command)
    (folder / "none_2016.tif").unlink()
    write_scene(folder / "undated.tif")
    assert "has no date in its name" in refused(capsys, *command)
    (folder / "undated.tif").unlink()
    pattern = ("--date-pattern", "(area)")
    assert "'area', which is not a date" in refused(capsys, *command, *pattern)
    assert not out.exists()


def test_scenes_that_do_not_overlap_are_areas_of_their_own(tmp_path, capsys):
    for i, year in enumerate((2015, 2018)):
        write_scene(tmp_path / "apart" / f"{year}.tif", left=500_000 + 100_000 * i)
    command = ("scenes", "geotiff", tmp_path / "apart", "--chip-px", 16)
    run(*command, "--output", tmp_path / "t.csv")
    assert "32 scenes of 32 locations" in capsys.readouterr().out


@pytest.mark.slow
def test_a_truncated_file_is_named_and_skipped_when_told(folder, tmp_path, capsys):
    whole = folder / "area_2018.tif"
    write_scene(whole, size=512)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for year in (2015, 2020):
        write_scene(folder / f"area_{year}.tif", size=512)
    table, store = tmp_path / "t.parquet", tmp_path / "chips"
    scenes_of(folder, table)
    said = refused(capsys, "chips", table, "--size-px", 16, "--output-dir", store)
    assert "area_2018.tif" in said and "--skip-bad" in said
    assert not (store / "store.json").exists()
    run("chips", table, "--size-px", 16, "--output-dir", store, "--skip-bad")
    assert "area_2018.tif" in capsys.readouterr().out
    info = json.loads((store / "store.json").read_text())
    assert list(info["bad"]) == [str(whole)] and info["n"] < 3 * 32 * 32


def test_nothing_but_nodata_and_nan(tmp_path, capsys):
    for year in (2015, 2018):
        write_scene(tmp_path / "zero" / f"{year}.tif", value=0)
        write_scene(tmp_path / "nan" / f"{year}.tif", value=np.nan, dtype="float32")
    scenes_of(tmp_path / "zero", tmp_path / "z.parquet")
    said = refused(capsys, "chips", tmp_path / "z.parquet", "--output-dir", tmp_path / "chips")
    assert "no data" in said and not (tmp_path / "chips" / "store.json").exists()
    said = refused(
        capsys,
        "scenes",
        "geotiff",
        tmp_path / "nan",
        "--chip-px",
        16,
        "--output",
        tmp_path / "t.csv",
    )
    assert "float32" in said and "scale" in said


@pytest.mark.parametrize(
    "lon, lat, words",
    [
        (10, 95, "swapped"),
        (300, 10, "0..360"),
        (-1000, -1000, "sentinel"),
        (700, 10, "out of range"),
        (np.nan, 10, "missing coordinate"),
    ],
)
def test_coordinates_that_do_not_do(tmp_path, capsys, lon, lat, words):
    table = pd.DataFrame({"location": [0, 1], "lon": [5.0, lon], "lat": [5.0, lat]})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert words in refused(
        capsys, "clusters", tmp_path / "t.csv", "--k", 1, "--output", tmp_path / "c.json"
    )
    assert not (tmp_path / "c.json").exists()


def test_messages_name_the_flags_of_the_command():
    from geossl.cli.data import scenes_geotiff, scenes_open
    from geossl.cli.main import _use_flags

    def command(store, *, block_deg=1.0, scale=None, skip_bad=False, dates=None):
        pass

    for message, flags in (
        ("`block_deg` must be > 0, got -1.", "`--block-deg` must be > 0, got -1."),
        ("Use block_deg=0.2.", "Use `--block-deg 0.2`."),
        ("pass `skip_bad=True` to", "pass `--skip-bad` to"),
        ("Pass `scale=(0, 255)`.", "Pass `--scale 0 255`."),
        ('Pass `dates="%d-%m-%Y"`.', "Pass `--dates %d-%m-%Y`."),
        ("e.g. dates='a b'.", "e.g. `--dates 'a b'`."),
        (r'e.g. `dates=r"(\d{4})_"` or `dates=""`', r"e.g. `--dates '(\d{4})_'` or `--dates ''`"),
        ("with `skip_bad=False`", "with `--no-skip-bad`"),
        ("or dates=same_image().", "or `--dates same-image`."),
        ("`store` has k=3.", "`store` has k=3."),
        ("D/scale=3/a.tif is not there", "D/scale=3/a.tif is not there"),
    ):
        assert _use_flags(message, command) == flags
    for message, flags in (  # of the data set that is opened
        ("Pass `root`, the folder", "Pass `--option root=...`, the folder"),
        ("with `positions=False`.", "with `--option positions=false`."),
        ('Pass `date_pattern="%d-%m-%Y"`.', "Pass `--option date_pattern=%d-%m-%Y`."),
        ("""`columns={"x": 'lat'}`""", """`--option 'columns={"x": "lat"}'`"""),
        ("`scale=(0, 1)`", "`--option 'scale=[0, 1]'`"),
        ('Pass `reader="table"`', "Pass `--reader table`"),
    ):
        assert _use_flags(message, scenes_open) == flags
    said = "`split` must be one of ['0'], or use lr=0.1"  # settings of the training
    assert (
        _use_flags(said, _load("pretrain")) == "`--split` must be one of ['0'], or use `--lr 0.1`"
    )
    message = "pass it to `open_scenes` with reader='table' and `bands=('B02', 'B03')`"
    for command in (scenes_geotiff, scenes_open):  # of which one has an option of this name
        assert _use_flags(message, command) == (
            "pass it to `geossl scenes open` with `--reader table` and "
            """`--option 'bands=["B02", "B03"]'`"""
        )
    for said, without in (  # of commands that cannot skip what is bad
        ("Repair or remove it, or pass `skip_bad=True` to skip bad ones.", "Repair or remove it."),
        ("Correct it, or leave such boxes out with skip_bad=True.", "Correct it."),
    ):
        assert _use_flags(said, _load("compare")) == without
    for said, flag in (
        ("Say which: models.with_bands(e, s.bands, reads=[...]), or --bands on the command line.",
         "Say which: `--bands`."),
        ("To say which: `reads`, or --bands.", "To say which: `--bands`."),
        ("say which (`reads`, --bands), or", "say which (`--bands`), or"),
        ("Lower `batch_size` or `size_px`.", "Lower `--size-px`."),
    ):  # fmt: skip
        assert _use_flags(said, _load("embed")) == flag
    assert "`--batch-size` or" in _use_flags("Lower `batch_size` or less.", _load("pretrain"))
    said = "Write it with GeoClusters.save()."
    assert _use_flags(said, _load("pretrain")) == "Write it with `geossl clusters`."


def test_what_is_no_chip_store_is_said_as_it_is(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("")
    assert "it is no folder. `geossl chips`" in refused(
        capsys, "pretrain", tmp_path / "a.txt", "--output-dir", tmp_path / "run"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--option", "root=a", "b=1", "--x", "y"],
        ["--option", "root=a", "--x", "y", "--option", "b=1"],
        ["--option=root=a", "--option=b=1", "--x", "y"],
    ],
)
def test_options_of_a_data_set_add_up(words):
    from geossl.cli.main import _join_options

    joined = _join_options(words)
    i = joined.index("--option")
    assert joined[i + 1 : i + 3] == ["root=a", "b=1"] and joined[joined.index("--x") + 1] == "y"


def test_arguments_that_ask_for_too_much(folder, tmp_path, capsys):
    table, store, out = tmp_path / "t.parquet", tmp_path / "chips", tmp_path / "run"
    scenes_of(folder, table)
    run("chips", table, "--size-px", 16, "--output-dir", store)
    said = refused(capsys, "clusters", store, "--k", 99, "--output", tmp_path / "c.json")
    assert "`--k` must be <= 16" in said and "got 99" in said
    assert "Use a smaller batch" in refused(
        capsys, "pretrain", store, "--output-dir", out, "--batch-size", 4096
    )
    assert "`--device` is 'cuda:7'" in refused(
        capsys, "pretrain", store, "--output-dir", out, *SMALL, "--device", "cuda:7"
    )
    assert not out.exists()
    run("pretrain", store, "--output-dir", out, *SMALL)
    said = refused(capsys, "pretrain", store, "--output-dir", out, *SMALL, "--encoder", "resnet18")
    assert "another `--encoder` (tiny, not resnet18)" in said
    said = refused(
        capsys, "embed", store, "--encoder", tmp_path / "no", "--output", tmp_path / "e.parquet"
    )
    assert "There is no" in said and "Pass a file of weights" in said
    info = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**info, "format": 99}))
    assert "Update geossl" in refused(capsys, "pretrain", store, "--output-dir", out, *SMALL)


def test_training_starts_from_weights_on_the_bands_that_one_names(folder, tmp_path, capsys):
    scenes_of(folder, tmp_path / "s.parquet", "--band-names", "blue", "green", "red")
    run("chips", tmp_path / "s.parquet", "-o", tmp_path / "chips")
    made = build_encoder("tiny", bands=2, mean=[100] * 2, std=[50] * 2)
    made.metadata = {"bands": ["red", "nir"]}
    save_encoder(made, tmp_path / "two.safetensors")
    start = ("--start", tmp_path / "two.safetensors")
    train = ("pretrain", tmp_path / "chips", "-o", tmp_path / "run", *SMALL)
    assert refused(capsys, *train, *start).endswith("Say which of them it reads: `--bands`.")
    assert "`--bands` and `--adapt` are about" in refused(capsys, *train, "--bands", "red", "blue")
    assert "got 'nir'" in refused(capsys, *train, *start, "--bands", "red", "nir")
    run(*train, *start, "--bands", "red", "blue")
    trained = load_encoder(tmp_path / "run")
    assert trained.name == "tiny" and trained.bands == 3
    for encoder, bands in (("run", ()), ("two.safetensors", ("--bands", "3", "1"))):
        out = tmp_path / "vectors.parquet"
        run("embed", tmp_path / "chips", "--encoder", tmp_path / encoder, "-o", out, *bands)
        assert len(Embeddings.load(out)) == len(ChipStore.open(tmp_path / "chips"))
    capsys.readouterr()
    run(
        "embed",
        tmp_path / "chips",
        "--encoder",
        tmp_path / "two.safetensors",
        "-o",
        out,
        "--adapt",
        "mean",
    )
    assert "does not know blue, green" in capsys.readouterr().err


def test_one_date_everywhere_with_temporal_pairs(folder, tmp_path, capsys):
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    scenes_of(folder, tmp_path / "t.parquet")
    run("chips", tmp_path / "t.parquet", "--size-px", 16, "--output-dir", tmp_path / "chips")
    said = refused(capsys, "pretrain", tmp_path / "chips", "--output-dir", tmp_path / "run", *SMALL)
    assert "two dates" in said and not (tmp_path / "run").exists()


def test_clusters_are_learned_from_the_training_places(tmp_path, capsys):
    table = pd.DataFrame({
        "path": list("abcdef"), "location": range(6), "lon": [0.0, 1, 2, 100, 101, 102],
        "lat": 10.0, "split": ["train"] * 3 + ["test"] * 3,
    })  # fmt: skip
    table.to_csv(tmp_path / "t.csv", index=False)
    for split, places in ((), 3), (("--split", "test"), 3), (("--split", "None"), 6):
        run("clusters", tmp_path / "t.csv", "--k", 1, "--output", tmp_path / "c.json", *split)
        assert f"1 clusters of {places} to {places} locations" in capsys.readouterr().out
    table.assign(split=None).to_csv(tmp_path / "t.csv", index=False)
    run("clusters", tmp_path / "t.csv", "--k", 1, "--output", tmp_path / "c.json")
    assert "of 6 to 6 locations" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "c.csv")) == 6


def test_the_papers_protocol_has_words(tmp_path, capsys):
    """SGD, all dates of a location together, macro F1, on the split that the paper tests on."""
    rng = np.random.default_rng(0)
    location = np.repeat(np.arange(60), 3)
    table = pd.DataFrame({
        "location": location, "lon": location * 1.0, "lat": 10.0,
        "label": np.array(["airport", "barn"])[location % 2],
        "split": np.array(["train", "val", "train"])[location % 3],
    })  # fmt: skip
    vectors = rng.normal(size=(180, 8)) + 0.7 * (location % 2)[:, None]
    table["vector"] = list(vectors)
    table.to_parquet(tmp_path / "v.parquet")
    probe = ("probe", tmp_path / "v.parquet")
    assert "Pass one of ['val'] as `--test-split`." in refused(capsys, *probe)
    run(*probe, "--test-split", "val", "--solver", "sgd", "--temporal")
    line = capsys.readouterr().out
    result = evaluate.linear(
        Embeddings(vectors.astype(np.float32), scenes.check(table.drop(columns="vector"))),
        test_split="val", solver="sgd",
    )  # fmt: skip
    together = evaluate.temporal(result)
    assert together.n_test == 20 and f"{together}; macro F1" in line
    assert line.endswith(f"macro F1 {float(together.all_metrics()['value'][1]):.3f}\n")
    for words in (("--solver", "sgd"), ("--l2", "1")):
        assert "Leave it out for neighbors" in refused(capsys, *probe, "--kind", "knn", *words)


@pytest.mark.parametrize(
    ("words", "crop"), [((), 0.08), (("--pairs", "same-image"), 0.2), (("--pairs=none",), 0.2)]
)
def test_the_papers_settings_are_one_word_that_further_words_change(
    folder, tmp_path, capsys, monkeypatch, words, crop
):
    scenes_of(folder, tmp_path / "s.parquet")
    run("chips", tmp_path / "s.parquet", "-o", tmp_path / "chips")
    given = []
    monkeypatch.setattr("geossl.pretrain", lambda *_, config, **__: given.append(config) or given)
    train = ("pretrain", tmp_path / "chips", "-o", tmp_path / "run")
    with pytest.raises((SystemExit, AttributeError)):
        run(*train, "--paper", "--epochs", "3", *words)
    wanted = paper_config(epochs=3, transform=moco_v2(224, crop=(crop, 1.0), antialias=True))
    assert given == [wanted] and wanted.transform.crop == (crop, 1.0)
    assert (wanted.encoder, wanted.temperature, wanted.queue_size) == ("resnet50", 0.02, 65_536)
    for undone in (("--paper", "--no-paper"), ("--no_paper",)):
        with pytest.raises((SystemExit, AttributeError)):
            run(*train, *undone, "--epochs", "3", *words)
        assert given[-1] == PretrainConfig(epochs=3)
    with pytest.raises((SystemExit, AttributeError)):
        run(*train, "--no-paper", "--paper", "--epochs", "3", *words)
    assert given[-1] == wanted
    several = ("--paper", "--pairs", "spatial", "--season", "other")
    assert "need `--pairs temporal`, got spatial" in refused(capsys, *train, *several)


def test_any_known_layout_is_opened_and_described(tmp_path, capsys):
    for i in range(2):
        write_scene(tmp_path / "photos" / f"{i}.tif")
    listed = tmp_path / "photos" / "list.csv"
    listed.write_text("file,latitude,longitude,class\n0.tif,5,7,a\n1.tif,6,170,b\n")
    run("scenes", "open", listed, "--output", tmp_path / "t.parquet")
    assert capsys.readouterr().out.startswith("table: ")
    run("chips", tmp_path / "t.parquet", "--size-px", 16, "--output-dir", tmp_path / "chips")
    run("scenes", "describe", tmp_path / "chips")
    said = capsys.readouterr().out
    assert "lon 7 to 170, lat 5 to 6" in said and "labels                   a 1, b 1" in said
    pd.DataFrame({"location": [0, 1], "lon": [5, -1000], "lat": [5, -1000]}).to_csv(
        tmp_path / "odd.csv", index=False
    )
    run("scenes", "describe", tmp_path / "odd.csv")
    assert "1 rows have a sentinel" in capsys.readouterr().out
    for options, words in (
        (["--option", "boxes"], "NAME=VALUE"),
        (
            ["--option", "boxen=1"],
            "`boxen` is not an option of the data set table, which has columns",
        ),
        (["--reader", "fmoww"], "fmow_sentinel"),
    ):
        assert words in refused(
            capsys, "scenes", "open", listed, "--output", tmp_path / "n.csv", *options
        )
    assert "none does not exist" in refused(
        capsys, "scenes", "open", tmp_path / "none", "--output", tmp_path / "n.csv"
    )
    assert not (tmp_path / "n.csv").exists()


@pytest.mark.slow
def test_the_module_is_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "geossl", "chips", "no.parquet", "--output-dir", "nowhere"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.strip().startswith(
        "geossl: There is no scene table"
    )


def test_advice_about_vectors_and_longitudes_is_an_option_of_the_command(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"lon": [5.0, 6.0, 7.0], "lat": [45.0, 46.0, 47.0]})
    table["clip"], table["dino"] = [list(rng.normal(size=(3, 40))) for _ in range(2)]
    table.loc[1, "dino"] = None
    table.to_parquet(tmp_path / "v.parquet")
    draw = ("map", tmp_path / "v.parquet", "--output", tmp_path / "m.html")
    assert "['clip', 'dino']. Pass one as `--column`." in refused(capsys, *draw)
    assert "or pass `--skip-bad` to" in refused(capsys, *draw, "--column", "dino")
    run(*draw, "--column", "dino", "--skip-bad")
    assert (tmp_path / "m.html").is_file()
    places = pd.DataFrame({"location": range(3), "lon": [359.0, 1.0, 2.0], "lat": 45.0})
    places.to_csv(tmp_path / "t.csv", index=False)
    fit = ("clusters", tmp_path / "t.csv", "--k", 1, "--output", tmp_path / "c.json")
    assert "0..360 (use `--normalize-lon`)" in refused(capsys, *fit)
    run(*fit, "--normalize-lon")
    assert abs(GeoClusters.load(tmp_path / "c.json").centers[0, 0]) < 1


def test_commands_say_what_they_cannot_use_before_they_work(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("name,latitude,longitude\nA,48.1,2.1\nB,48.2,2.2\n")
    points = tmp_path / "p.parquet"
    run("scenes", "open", tmp_path / "p.csv", "--output", points)
    assert f"next: geossl map {points} --output map.html" in capsys.readouterr().out
    run("map", points, "--output", tmp_path / "map.html")
    said = refused(capsys, "chips", points, "--output-dir", tmp_path / "chips")
    assert "points have no pixels" in said
    run("clusters", points, "--k", 1, "--output", tmp_path / "c.json")
    drawn = ("map", tmp_path / "c.json", "--output", tmp_path / "c.html", "--color", "name")
    assert "`--color` is of places" in refused(capsys, *drawn)
    for command in ("probe", "retrieve"):
        assert "must be one file or more" in refused(capsys, command)
    said = refused(capsys, "clusters", tmp_path / "p.gpkg", "--output", tmp_path / "d.json")
    assert "Make one of" in said and "`geossl scenes open`" in said
    said = refused(capsys, "embed", tmp_path, "--encoder", "random", "-o", tmp_path / "e.csv")
    assert "`--output` must end in .parquet or .geoparquet, got 'e.csv'" in said
    said = refused(capsys, "embed", tmp_path, "--encoder", "random", "-o", tmp_path / "e.parquet")
    assert "`geossl chips` or" in said
    table = pd.DataFrame({"location": range(40), "lon": 5.0, "lat": 45.0})
    table["split"] = ["train", "test"] * 20
    table["label"] = np.arange(40) // 2
    table["embedding"] = list(np.random.default_rng(0).normal(size=(40, 4)))
    table.to_parquet(tmp_path / "v.parquet")
    assert "Pass one `--l2`" in refused(capsys, "probe", tmp_path / "v.parquet")
    run("probe", tmp_path / "v.parquet", "--l2", 0.01)
    assert "l2 0.01" in capsys.readouterr().out
    knn = ("probe", tmp_path / "v.parquet", "--kind", "knn", "--l2", 1)
    assert "`--l2` is a penalty of `--kind linear`" in refused(capsys, *knn)
