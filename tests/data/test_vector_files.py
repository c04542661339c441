"""Embeddings of other tools, in the layouts that they document."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from pyarrow import parquet

from geossl import Embeddings
from geossl.data.files import DatasetError
from geossl.data.vector_files import has_vectors, read_vectors

VECTORS = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
LON = np.array([2.0, 2.0, 5.5, 5.5, -70.25, 179.9])
LAT = np.array([48.0, 48.0, 43.0, 43.0, -33.5, -17.0])


def lists(vectors=VECTORS):
    return [row.tolist() for row in vectors]


def check_positions(table, digits=6):
    np.testing.assert_allclose(table["lon"], LON, atol=10.0**-digits)
    np.testing.assert_allclose(table["lat"], LAT, atol=10.0**-digits)


def boxes():
    return shapely.box(LON - 0.01, LAT - 0.01, LON + 0.01, LAT + 0.01)


@pytest.mark.parametrize("name", ["embedding", "vector", "Features", "emb"])
@pytest.mark.parametrize("kind", ["list", "fixed", "tensor", "float16"])
def test_a_parquet_column_of_lists(tmp_path, name, kind):
    flat = pa.array(VECTORS.reshape(-1))
    fixed = pa.FixedSizeListArray.from_arrays(flat, 12)
    column = {
        "list": pa.array(lists(), pa.list_(pa.float64())),
        "fixed": fixed,
        "tensor": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (12,)), fixed),
        "float16": pa.array(list(VECTORS.astype(np.float16)), pa.list_(pa.float16())),
    }[kind]
    table = pa.table({"id": list("abcdef"), "longitude": LON, "Latitude": LAT, name: column})
    parquet.write_table(table, tmp_path / "v.parquet")
    vectors, scenes = read_vectors(tmp_path / "v.parquet")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, VECTORS, atol=1e-3 if kind == "float16" else 0)
    check_positions(scenes)
    assert scenes["id"].tolist() == list("abcdef")
    assert scenes["location"].tolist() == [0, 0, 1, 1, 2, 3]  # the same position, the same place
    assert scenes["time"].isna().all() and scenes["label"].isna().all()
    assert has_vectors(tmp_path / "v.parquet")


@pytest.mark.parametrize("prefix", ["emb_", "A", "f", "feature-", "", "tessera_"])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbered_columns_in_the_order_of_their_numbers(tmp_path, prefix, first, suffix):
    names = [f"{prefix}{i + first}" for i in range(12)]  # as text, 10 comes before 2
    table = pd.DataFrame(VECTORS, columns=names).assign(lat=LAT, lon=LON, class_name=list("xxyyzz"))
    table = table[sorted(table.columns)]
    path = tmp_path / f"v{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    vectors, scenes = read_vectors(path)
    np.testing.assert_allclose(vectors, VECTORS, rtol=1e-6)
    check_positions(scenes)
    assert scenes["label"].tolist() == list("xxyyzz")
    assert not set(names) & set(scenes)


@pytest.mark.parametrize("style", ["json", "numpy", "semicolons"])
def test_lists_as_text_in_a_csv(tmp_path, style):
    text = {
        "json": [json.dumps(row) for row in lists()],
        "numpy": [str(row) for row in VECTORS],  # blanks and line breaks
        "semicolons": [";".join(map(str, row)) for row in VECTORS],
    }[style]
    pd.DataFrame({"lon": LON, "lat": LAT, "embedding": text}).to_csv(tmp_path / "v.csv")
    vectors, scenes = read_vectors(tmp_path / "v.csv")
    np.testing.assert_allclose(vectors, VECTORS, rtol=1e-6 if style != "numpy" else 1e-4)
    check_positions(scenes)


def test_an_npy_with_its_table_beside_it_given_or_without_one(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    vectors, scenes = read_vectors(tmp_path / "v.npy")
    np.testing.assert_array_equal(vectors, VECTORS)
    assert scenes["lon"].isna().all() and scenes["location"].nunique() == 6
    table = pd.DataFrame({"lon": LON, "lat": LAT})
    table.to_csv(tmp_path / "other.csv", index=False)
    vectors, scenes = read_vectors(tmp_path / "other.csv", vectors=tmp_path / "v.npy")
    np.testing.assert_array_equal(vectors, VECTORS)
    check_positions(scenes)
    table.iloc[:5].to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(DatasetError, match="v.npy has 6 vectors, but their table has 5 rows"):
        read_vectors(tmp_path / "v.npy")
    table.to_csv(tmp_path / "v.csv", index=False)
    check_positions(read_vectors(tmp_path / "v.npy")[1])


def test_an_npz_of_named_arrays(tmp_path):
    np.savez(
        tmp_path / "v.npz", embeddings=VECTORS, lon=LON, lat=LAT, label=np.array(list("aabbcc"))
    )
    vectors, scenes = read_vectors(tmp_path / "v.npz")
    np.testing.assert_array_equal(vectors, VECTORS)
    check_positions(scenes)
    assert scenes["label"].tolist() == list("aabbcc")


def test_major_tom(tmp_path):
    times = [f"2023011{i}T161811" for i in range(6)]
    table = pa.table({
        "unique_id": [f"{i:064x}" for i in range(6)],
        "embedding": pa.array(list(VECTORS.astype(np.float16)), pa.list_(pa.float16())),
        "timestamp": times,
        "product_id": ["S2A_MSIL1C_20230119T161811_N0509_R111_T01CDJ_20230119T190838"] * 6,
        "grid_cell": [f"{i}U_{i}R" for i in range(6)],
        "grid_row_u": pa.array(range(6), pa.int16()),
        "grid_col_r": pa.array(range(6), pa.int16()),
        "geometry": [shapely.to_wkb(box) for box in boxes()],
        "centre_lat": pa.array(LAT, pa.float32()),
        "centre_lon": pa.array(LON, pa.float32()),
        "utm_footprint": ["POLYGON ((0 0, 0 1, 1 1, 0 0))"] * 6,
        "utm_crs": ["EPSG:32601"] * 6,
        "pixel_bbox": [[0, 0, 224, 224]] * 6,
    })  # fmt: skip
    (tmp_path / "embeddings").mkdir()
    parquet.write_table(table.slice(0, 4), tmp_path / "embeddings" / "part_00001-00050.parquet")
    parquet.write_table(table.slice(4, 2), tmp_path / "embeddings" / "part_00051-00100.parquet")
    vectors, scenes = read_vectors(tmp_path / "embeddings")
    np.testing.assert_allclose(vectors, VECTORS, atol=2e-3)
    check_positions(scenes, digits=4)
    assert scenes["time"].tolist() == [pd.Timestamp(time, tz="UTC") for time in times]
    assert has_vectors(tmp_path / "embeddings")


def test_clay(tmp_path):
    import geopandas

    frame = geopandas.GeoDataFrame(
        {
            "source_url": [f"s3://tiles/claytile_{i}.tif" for i in range(6)],
            "date": [pd.Timestamp(2021, 1, i + 1).date() for i in range(6)],
            "embeddings": list(VECTORS),
        },
        geometry=list(boxes()),
        crs="OGC:CRS84",
    )
    frame.to_parquet(tmp_path / "32VLM_v01.gpq")
    vectors, scenes = read_vectors(tmp_path / "32VLM_v01.gpq")
    np.testing.assert_array_equal(vectors, VECTORS)
    check_positions(scenes)
    assert scenes["time"].dt.day.tolist() == [1, 2, 3, 4, 5, 6]
    frame.iloc[:4].to_crs(32631).to_parquet(tmp_path / "utm.parquet")  # meters
    np.testing.assert_allclose(read_vectors(tmp_path / "utm.parquet")[1]["lon"], LON[:4], atol=1e-5)


@pytest.mark.parametrize("quantized", [False, True])
def test_an_earth_engine_table_of_alpha_earth(tmp_path, quantized):
    values = np.random.default_rng(1).integers(-127, 128, (6, 64))
    true = np.sign(values) * (values / 127.5) ** 2
    names = [f"A{i:02d}" for i in range(64)]
    table = pd.DataFrame(values if quantized else true, columns=names)
    table.insert(0, "system:index", [f"1_{i}" for i in range(6)])
    table["year"] = 2024
    table[".geo"] = [
        json.dumps({"type": "Point", "coordinates": [lon, lat]})
        for lon, lat in zip(LON, LAT, strict=True)
    ]
    table.to_csv(tmp_path / "aef.csv", index=False)
    vectors, scenes = read_vectors(tmp_path / "aef.csv")
    np.testing.assert_allclose(vectors, true, atol=1e-6)
    check_positions(scenes)
    assert (scenes["time"] == pd.Timestamp(2024, 1, 1, tz="UTC")).all()
    table.loc[2, names] = -128 if quantized else np.nan  # masked
    table.to_csv(tmp_path / "aef.csv", index=False)
    with pytest.raises(DatasetError, match="1 of 6 vectors in 'A' .* row 2: 'A00' is nan"):
        read_vectors(tmp_path / "aef.csv")
    assert len(read_vectors(tmp_path / "aef.csv", skip_bad=True)[0]) == 5


@pytest.mark.parametrize(
    "value, problem",
    [
        (None, "no vector"),
        ([1.0, 2.0], "2 values, where most rows have 12"),
        ([float("nan")] * 12, "value 0 is nan"),
        ([0.0] * 5 + [None] + [0.0] * 6, "value 5 is nan"),
        ([0.0] * 11 + [1e300], "value 11 is inf"),
    ],
)
def test_a_bad_vector_is_named_by_row_and_can_be_left_out(tmp_path, value, problem):
    rows = lists()
    rows[4] = value
    table = pa.table({"lon": LON, "lat": LAT, "embedding": pa.array(rows, pa.list_(pa.float64()))})
    parquet.write_table(table, tmp_path / "v.parquet")
    with pytest.raises(DatasetError, match=f"1 of 6 .* 'embedding' .* row 4: {problem}. Repair"):
        read_vectors(tmp_path / "v.parquet")
    vectors, scenes = read_vectors(tmp_path / "v.parquet", skip_bad=True)
    np.testing.assert_array_equal(vectors, np.delete(VECTORS, 4, 0))
    np.testing.assert_array_equal(scenes["lon"], np.delete(LON, 4))


@pytest.mark.parametrize(
    "text, problem",
    [("[1.0 2.0 ... 3.0]", "shortened by"), ("cat", "'cat', not numbers"), ("", "no vector")],
)
def test_a_text_that_is_no_vector(tmp_path, text, problem):
    rows = [json.dumps(row) for row in lists()]
    rows[1] = text
    pd.DataFrame({"embedding": rows}).to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(DatasetError, match=f"row 1: .*{problem}"):
        read_vectors(tmp_path / "v.csv")


def test_a_word_in_a_numbered_column_is_named(tmp_path):
    table = pd.DataFrame(VECTORS, columns=[f"emb_{i}" for i in range(12)]).astype(object)
    table.loc[3, "emb_7"] = "?"
    table.to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(DatasetError, match=r"'emb_' .* row 3: 'emb_7' is \?. Repair"):
        read_vectors(tmp_path / "v.csv")
    vectors, _ = read_vectors(tmp_path / "v.csv", skip_bad=True)
    np.testing.assert_allclose(vectors, np.delete(VECTORS, 3, 0), rtol=1e-6)


def test_several_columns_of_vectors_are_not_guessed(tmp_path):
    table = pd.DataFrame(
        {"embedding": lists(), "vector": lists(-VECTORS), "bbox": [[0, 0, 1, 1]] * 6}
    )
    table.to_parquet(tmp_path / "v.parquet")
    with pytest.raises(DatasetError, match=r"\['embedding', 'vector'\]. Pass one as `column`"):
        read_vectors(tmp_path / "v.parquet")
    np.testing.assert_array_equal(
        read_vectors(tmp_path / "v.parquet", column="vector")[0], -VECTORS
    )
    with pytest.raises(ValueError, match="`column` must be one of .*'embedding'.*got 'x'"):
        read_vectors(tmp_path / "v.parquet", column="x")


def test_bands_and_boxes_of_a_scene_table_are_no_vectors(tmp_path):
    table = pd.DataFrame({"lon": LON, "lat": LAT, "bbox": [[0.0, 0.0, 1.0, 1.0]] * 6})
    table[[f"B{i}" for i in range(1, 13)]] = VECTORS
    table.to_parquet(tmp_path / "t.parquet")
    assert not has_vectors(tmp_path / "t.parquet")
    table[["ndvi_2019", "ndvi_2020"]] = 0.5
    for name in (f"B{i}" for i in range(1, 13)):
        table.pop(name)
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match="has no vectors among its columns"):
        read_vectors(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["object.npy", "cube.npy", "text.npy", "empty.npy", "short.npy"])
def test_an_npy_that_holds_no_vectors(tmp_path, name):
    path = tmp_path / name
    arrays = {
        "object.npy": np.array([{"a": 1}], object),
        "cube.npy": np.zeros((2, 3, 4)),
        "text.npy": np.array(["a", "b"]),
    }
    if name in arrays:
        np.save(path, arrays[name], allow_pickle=True)
    else:
        np.save(path, VECTORS)
        path.write_bytes(path.read_bytes()[: 0 if name == "empty.npy" else 200])
    with pytest.raises(
        DatasetError, match=f"{name} (must hold|cannot be read|holds vectors of pixels)"
    ):
        read_vectors(path)


def test_flipped_bits_of_saved_vectors_are_noticed(tmp_path):
    path = tmp_path / "v.parquet"
    Embeddings(VECTORS, pd.DataFrame({"location": range(6), "lon": LON, "lat": LAT})).save(path)
    data = bytearray(path.read_bytes())
    at = data.find(VECTORS[2].tobytes()[:16])
    if at < 0:  # compressed: somewhere in the first pages
        at = len(data) // 4
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="cannot be read as parquet"):
        Embeddings.load(path)


def test_longitudes_to_360_and_columns_by_name(tmp_path):
    table = pd.DataFrame({"embedding": lists(), "E": LON % 360, "N": LAT})
    table.to_parquet(tmp_path / "v.parquet")
    embeddings = Embeddings.load(tmp_path / "v.parquet", columns={"E": "lon", "N": "lat"})
    check_positions(embeddings.scenes)


@pytest.mark.parametrize(
    "values, words",
    [
        (["far"] * 6, "row 0: 'far', not numbers"),
        ([b"abcd"] * 6, "row 0: 4 bytes, not numbers"),
        ([None] * 6, "row 0: no vector"),
    ],
)
def test_a_column_of_vectors_that_holds_none_is_named_by_its_row(tmp_path, values, words):
    pd.DataFrame({"lon": LON, "lat": LAT, "embedding": values}).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(DatasetError, match=f"in 'embedding' cannot be used.*{words}") as error:
        Embeddings.load(tmp_path / "v.parquet")
    assert "skip_bad" not in str(error.value)  # nothing would remain


def test_vectors_without_values_and_directories_without_tables(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS[:, :0])
    with pytest.raises(DatasetError, match="the vectors in 'v.npy' have no values"):
        read_vectors(tmp_path / "v.npy")
    (tmp_path / "parts").mkdir()
    with pytest.raises(FileNotFoundError, match="parts has no .parquet files"):
        read_vectors(tmp_path / "parts")


def test_suffixes_in_capitals(tmp_path):
    pd.DataFrame({"embedding": lists()}).to_csv(tmp_path / "v.CSV")
    np.testing.assert_allclose(read_vectors(tmp_path / "v.CSV")[0], VECTORS, rtol=1e-6)
    assert has_vectors(tmp_path / "v.CSV")
