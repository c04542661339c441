from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms.functional import resize

from geossl import ChipStore, Embeddings, embed, models
from geossl import embeddings as embedding
from geossl.data import scenes
from geossl.data.table_files import write


def table_of(n, dates=2, **columns):
    place = np.arange(n) // dates
    table = pd.DataFrame({
        "path": [f"scene{i}.tif" for i in range(n)],
        "location": place,
        "time": pd.to_datetime("2019-12-01", utc=True)
        + pd.to_timedelta(90 * (np.arange(n) % dates), "D"),
        "lon": -179.0 + place,
        "lat": 40.0 - place / 2,
        "label": np.array(["dry", "wet"], object)[place % 2],
        "split": "train",
    })  # fmt: skip
    return scenes.check(table.assign(**columns))


def store_of(n, *, dtype="uint8", bands=3, size_px=16):
    top = np.iinfo(dtype).max
    chips = np.random.default_rng(0).integers(0, top, (n, bands, size_px, size_px), dtype)
    return ChipStore(
        path=Path("nowhere"), scenes=table_of(n), chips=chips, bands=list("abcdef"[:bands]),
        mean=np.full(bands, top / 2, np.float32), std=np.full(bands, top / 3, np.float32),
        dtype=dtype, size_px=size_px, rgb=[0, 1, 2], info={},
    )  # fmt: skip


def encoder_of(store, *, name="small", stem="small"):
    made = models.build_encoder(name, bands=len(store.bands), stem=stem, mean=store.mean.tolist(),
                          std=store.std.tolist())  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for module in made.modules():  # as after some training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=generator))
            module.running_var.uniform_(0.5, 2, generator=generator)
    return made


def vectors_of(m, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(m, width)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_embeddings_are_those_of_each_chip_alone(dtype):
    store = store_of(7, dtype=dtype, bands=4)
    encoder = encoder_of(store).eval()
    found = embed(store, encoder, batch_size=3)
    with torch.no_grad():
        for i, chip in enumerate(store.chips):
            x = (torch.from_numpy(chip.astype(np.float32)) - encoder.mean[0]) / encoder.std[0]
            alone = encoder(x[None])[0].numpy()
            np.testing.assert_allclose(found.vectors[i], alone, atol=2e-5)
    assert found.vectors.dtype == np.float32 and found.vectors.shape == (7, encoder.embedding_dim)
    assert np.ptp(found.vectors, 0).max() > 0.1  # the chips differ
    pd.testing.assert_frame_equal(found.scenes, store.scenes)


def test_chips_are_resized_as_torchvision_does_before_they_are_embedded():
    store = store_of(7)
    encoder = encoder_of(store, name="tiny").eval()
    chips = torch.from_numpy(store.chips).float()
    for size in (8, 24):
        resized = resize(chips, [size, size], antialias=True)
        with torch.no_grad():
            wanted = encoder(encoder.normalize(resized))
        got = embed(store, encoder, size_px=size, batch_size=5)
        np.testing.assert_allclose(got.vectors, wanted, rtol=1e-4, atol=1e-4)
    same = embed(store, encoder, size_px=store.size_px)
    np.testing.assert_array_equal(same.vectors, embed(store, encoder).vectors)
    assert embed(store, encoder, size_px=12, grid=3).vectors.shape == (len(store), 9 * 256)
    with pytest.raises(ValueError, match="`grid` must divide the 10 px"):
        embed(store, encoder, size_px=10, grid=3)
    for size, grid in ((1, 1), (4, 4)):
        with pytest.raises(ValueError, match="`size_px` / `grid` must be >= 2 px .*, got"):
            embed(store, encoder, size_px=size, grid=grid)


def test_a_grid_embeds_each_cell_alone_and_row_by_row():
    store = store_of(3, size_px=32)
    encoder = encoder_of(store).eval()
    found = embed(store, encoder, grid=2, batch_size=2)
    assert found.vectors.shape == (3, 4 * encoder.embedding_dim)
    with torch.no_grad():
        for i, chip in enumerate(torch.from_numpy(store.chips)):
            cells = [chip[:, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)]
            want = encoder(encoder.normalize(torch.stack(cells))).flatten()
            np.testing.assert_allclose(found.vectors[i], want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`grid` must divide the 32 px of the chips, got 3"):
        embed(store, encoder, grid=3)


@pytest.mark.parametrize("batch", [1, 2, 11, 500])
def test_the_batch_size_changes_nothing(batch):
    store = store_of(11)
    encoder = encoder_of(store)
    whole = embed(store, encoder).vectors
    np.testing.assert_allclose(embed(store, encoder, batch_size=batch).vectors, whole, atol=2e-5)


def test_the_encoder_is_left_as_it_was():
    store = store_of(5)
    encoder = encoder_of(store)
    encoder.train()
    encoder.backbone[1].eval()  # one frozen layer in a network that trains
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    state = torch.get_rng_state()
    found = embed(store, encoder, batch_size=2)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert [module.training for module in encoder.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(found.vectors, embed(store, encoder.eval(), batch_size=2).vectors)


def test_the_encoder_is_given_back_when_embedding_fails(monkeypatch):
    store = store_of(3)
    encoder = encoder_of(store).train()
    monkeypatch.setattr(type(encoder), "normalize", lambda self, chips: chips / 0 / None)
    with pytest.raises(TypeError):
        embed(store, encoder)
    assert all(module.training for module in encoder.modules())


def test_some_chips_in_any_order():
    store = store_of(9)
    encoder = encoder_of(store)
    whole = embed(store, encoder).vectors
    some = embed(store, encoder, index=[7, 0, 7], batch_size=2)
    np.testing.assert_allclose(some.vectors, whole[[7, 0, 7]], atol=2e-5)
    assert list(some.scenes["path"]) == ["scene7.tif", "scene0.tif", "scene7.tif"]
    assert list(some.scenes.index) == [0, 1, 2]
    late = embed(store, encoder, index=store.scenes["location"] > 2)
    assert list(late.scenes["location"]) == [3, 3, 4]
    assert embed(store, encoder, index=[]).vectors.shape == (0, encoder.embedding_dim)
    assert embed(store, encoder, index=torch.tensor([8]), device="cpu").vectors.shape == (1, 256)


def test_another_device_works_on_a_copy():
    store = store_of(3)
    encoder = encoder_of(store)
    with pytest.raises(NotImplementedError):  # meta holds no numbers, but it is another device
        embed(store, encoder, device=torch.device("meta"))
    assert encoder.mean.device.type == "cpu"


@pytest.mark.gpu
def test_embeddings_of_a_gpu_are_those_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    store = store_of(9, dtype="uint16")
    encoder = encoder_of(store)
    there = embed(store, encoder, device="cuda", batch_size=4)
    assert encoder.mean.device.type == "cpu"
    np.testing.assert_allclose(there.vectors, embed(store, encoder).vectors, atol=5e-2)


def test_wrong_asks_are_told():
    store = store_of(4)
    with pytest.raises(
        ValueError, match="`encoder` must take the store's 3 bands .* got one for 2"
    ):
        embed(store, models.build_encoder(bands=2))
    encoder = encoder_of(store)
    with pytest.raises(
        ValueError, match="`index` must be row numbers from 0 to 3 .* got int64 from -1 to 2"
    ):
        embed(store, encoder, index=[-1, 2])
    with pytest.raises(
        ValueError, match="`index` must be row numbers from 0 to 3 .* got int64 from 1 to 4"
    ):
        embed(store, encoder, index=[1, 4])
    with pytest.raises(
        ValueError, match=r"`index` must be .* a mask of 4 rows, got bool of shape \(3,\)"
    ):
        embed(store, encoder, index=np.ones(3, bool))
    with pytest.raises(ValueError, match="`index` must be row numbers .* got float64"):
        embed(store, encoder, index=[0.5])
    with pytest.raises(ValueError, match="`device` must be .*, got 'gpu'"):
        embed(store, encoder, device="gpu")
    with pytest.raises(ValueError, match="`batch_size` must be > 0, got 0"):
        embed(store, encoder, batch_size=0)
    with pytest.raises(ValueError, match="GiB are available. Lower `batch_size` or `size_px`"):
        embed(store, encoder, size_px=100_000)
    with pytest.raises(
        ValueError, match=r"`vectors` must be \(M, E\), .* 4 `scenes`, got shape \(3, 2\)"
    ):
        Embeddings(np.zeros((3, 2)), table_of(4))


@pytest.mark.parametrize("suffix", [".parquet", ".geoparquet"])
@pytest.mark.parametrize("big", [False, True])
def test_saved_embeddings_come_back_bit_for_bit(tmp_path, monkeypatch, suffix, big):
    if big:
        monkeypatch.setattr(embedding, "_BIG", 10)
    before = Embeddings(vectors_of(5), table_of(5, split=None, clouds=np.arange(5) / 3))
    path = tmp_path / "new" / f"v{suffix}"
    before.save(path)
    files = {path.name} | ({"v.embedding.npy"} if big else set())
    assert {p.name for p in path.parent.iterdir()} == files
    after = Embeddings.load(path)
    assert after.vectors.dtype == np.float32
    np.testing.assert_array_equal(after.vectors, before.vectors)
    pd.testing.assert_frame_equal(after.scenes, before.scenes)
    assert Embeddings.is_file(path)
    if suffix == ".geoparquet":
        import geopandas

        frame = geopandas.read_parquet(path)
        assert frame.crs.to_epsg() == 4326
        assert frame.geometry.x.tolist() == before.scenes["lon"].tolist()


def test_a_small_save_over_a_big_one(tmp_path, monkeypatch):
    path = tmp_path / "v.parquet"
    (tmp_path / "v.npy").write_text("somebody's own")
    monkeypatch.setattr(embedding, "_BIG", 10)
    Embeddings(vectors_of(4), table_of(4)).save(path)
    monkeypatch.setattr(embedding, "_BIG", 10**9)
    small = Embeddings(vectors_of(3, seed=1), table_of(3))
    small.save(path)
    np.testing.assert_array_equal(Embeddings.load(path).vectors, small.vectors)
    assert {p.name for p in tmp_path.iterdir()} == {"v.parquet", "v.npy"}


def test_files_that_are_no_embeddings_are_told(tmp_path, monkeypatch):
    table = table_of(4)
    with pytest.raises(ValueError, match="`path` must end in .parquet or .geoparquet, got 'v.csv'"):
        Embeddings(vectors_of(4), table).save(tmp_path / "v.csv")
    with pytest.raises(ValueError, match="no embeddings to save"):
        Embeddings(vectors_of(0), table.iloc[:0]).save(tmp_path / "v.parquet")
    with pytest.raises(FileNotFoundError, match="no embeddings at .*v.parquet"):
        Embeddings.load(tmp_path / "v.parquet")
    write(table, tmp_path / "scenes.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    for name, problem in (
        ("scenes.parquet", r"has no vectors among its columns \['path', 'location'"),
        ("text.parquet", "text.parquet cannot be read as parquet"),
    ):
        assert not Embeddings.is_file(tmp_path / name)
        with pytest.raises(ValueError, match=problem):
            Embeddings.load(tmp_path / name)
    monkeypatch.setattr(embedding, "_BIG", 10)
    Embeddings(vectors_of(4), table).save(tmp_path / "v.parquet")
    (tmp_path / "v.embedding.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="v.embedding.npy cannot be read as an .npy"):
        Embeddings.load(tmp_path / "v.parquet")
    (tmp_path / "v.embedding.npy").unlink()
    with pytest.raises(FileNotFoundError, match="Move the two together"):
        Embeddings.load(tmp_path / "v.parquet")


def test_centering_takes_out_what_a_date_shares():
    own = vectors_of(12, seed=1)
    table = table_of(12, dates=3)
    shared = np.array([[0, 50], [-9, 3], [7, 7]], np.float32)[np.arange(12) % 3]
    found = Embeddings(own[:, :2] + shared, table).centered().vectors
    expected = own[:, :2].copy()
    for date in range(3):
        expected[date::3] -= expected[date::3].mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_centering_by_year_where_every_scene_has_its_own_time():
    table = table_of(8)
    table["time"] += pd.to_timedelta(np.arange(8), "h")  # 2019 and 2020, eight times
    embeddings = Embeddings(vectors_of(8), table)
    with pytest.raises(ValueError, match="8 of 8 scenes .* Use by='year'"):
        embeddings.centered()
    found = embeddings.centered(by="year").vectors
    np.testing.assert_allclose(found[::2].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found[1::2].mean(0), 0, atol=1e-6)
    with pytest.raises(ValueError, match=r"`by` must be one of \['time', 'year'\], got 'month'"):
        embeddings.centered(by="month")


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("cells", [1, 30, 10**6])
def test_neighbors_as_a_loop(monkeypatch, exclude, cells):
    monkeypatch.setattr(embedding, "_CELLS", cells)
    embeddings = Embeddings(vectors_of(15), table_of(15, dates=3))
    rows, similarity = embedding.neighbors(embeddings, [4, 0], k=6, exclude_location=exclude)
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    place = embeddings.scenes["location"]
    for line, q in enumerate([4, 0]):
        allowed = [i for i in range(15) if (place[i] != place[q] if exclude else i != q)]
        best = sorted(allowed, key=lambda i: -(unit[q] @ unit[i]))[:6]
        assert rows[line].tolist() == best
        np.testing.assert_allclose(similarity[line], unit[best] @ unit[q], atol=1e-6)


def test_neighbors_when_there_are_few():
    embeddings = Embeddings(vectors_of(4), table_of(4))
    assert embedding.neighbors(embeddings, 0, k=9)[0].shape == (1, 2)
    with pytest.raises(ValueError, match="chips of other locations"):
        embedding.neighbors(Embeddings(vectors_of(2), table_of(2)), [0])
    with pytest.raises(ValueError, match="`index` must be row numbers from 0 to 3 .* from 4 to 4"):
        embedding.neighbors(embeddings, [4])
