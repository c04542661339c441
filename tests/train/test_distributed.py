"""Many processes on one machine: gloo, started by torchrun as a person starts them."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pretrain import CLOCK, write_store

from geossl import embed, models, pairs, pretrain
from geossl.cli.main import main
from geossl.clusters import GeoClusters
from geossl.data.store import ChipStore
from geossl.train.config import PretrainConfig
from geossl.train.loader import load_to_gpu
from geossl.transforms import Views, moco_v2
from geossl.utils import dist as distributed

pytestmark = pytest.mark.slow

pretraining = importlib.import_module("geossl.train.pretrain")

CONFIG = PretrainConfig(
    encoder="small", epochs=2, batch_size=16, queue_size=40, projection_dim=16,
    transform=Views(size_px=16), log_every=1, knn_every=2, precision="fp32", optimizer="sgd",
    lr=0.02, checkpoint_every_s=0, bn_splits=4,
)  # fmt: skip
GIVEN = {
    "pairs": pairs.temporal(), "seed": 1,
    "config": dataclasses.replace(CONFIG, epochs=3, knn_every=0),
}  # fmt: skip
# name: what is learnt from, and how it differs from CONFIG
RUNS = {
    "apart": ({"pairs": pairs.temporal()}, {"knn_every": 0}),
    "two parts, two batches a step, all heads, blurred": (
        {"pairs": pairs.same_image(), "geo": True, "label": "half"},
        {"bn_splits": 2, "accumulation_steps": 2, "transform": moco_v2(12), "epochs": 4},
    ),
    "labels alone": ({"label": "half"}, {"optimizer": "adamw", "lr": 1e-3}),
}


def train(store, name):
    given, changes = RUNS[name]
    given = dict(given)
    if given.pop("geo", False):
        given["geo"] = GeoClusters.fit(store.scenes, k=3, seed=0)
    config = dataclasses.replace(CONFIG, **changes)
    return pretrain(store, config=config, seed=1, **given).finish(progress=False)


def outcome(run):
    state = run._moco.state_dict()
    tensors = {
        k: v for k, v in state.items() if torch.is_tensor(v) and "num_batches_tracked" not in k
    }
    return {"logs": run.logs.drop(columns=CLOCK).to_dict("list"), "tensors": tensors}


def is_running(name):
    return "running_mean" in name or "running_var" in name


def assert_alike(one, many):
    """The curves and the weights agree within float error, but for running statistics.

    One process sees the parts of a batch one after the other; the processes average what each has
    seen of its own. Both follow the same statistics, so these are close, and nothing in training
    depends on them.
    """
    for name, values in one["logs"].items():
        if name == "knn":  # measured in eval mode, by running statistics
            continue
        np.testing.assert_allclose(many["logs"][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    for name, value in one["tensors"].items():
        other = many["tensors"][name]
        if is_running(name):
            assert (other - value).norm() <= 0.1 * value.norm(), name
            continue
        torch.testing.assert_close(other, value, rtol=1e-6, atol=1e-6, msg=f"{name} differs")


def in_double():
    """Make runs compute in float64, where nothing but a mistake tells them apart.

    In float32 rounding decides which side of a ReLU's kink a value lies on where BatchNorm sees
    four equal images: the gradient jumps, and training makes a few per cent of it in ten steps.
    """
    build, apply = models.MoCo.__init__, Views.apply

    def build_double(moco, *given, **options):
        build(moco, *given, **options)
        moco.double()

    def apply_double(views, chips, params, *, mean, std):
        return apply(views, chips, params, mean=mean.float(), std=std.float()).double()

    models.MoCo.__init__, Views.apply = build_double, apply_double

    def undo():
        models.MoCo.__init__, Views.apply = build, apply

    return undo


@pytest.fixture(scope="module", autouse=True)
def double():
    undo = in_double()
    yield
    undo()


def open_store(folder):
    """A store whose labels are known for two thirds of the places only."""
    store = ChipStore.open(folder)
    table = store.scenes.assign(half=store.scenes["label"].where(store.scenes["location"] % 3 > 0))
    return dataclasses.replace(store, scenes=table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    write_store(tmp_path_factory.mktemp("distributed") / "chips", places=36)
    return tmp_path_factory.getbasetemp() / "distributed0" / "chips"


@pytest.fixture(scope="module")
def alone(folder):
    """What one process comes to."""
    return {name: outcome(train(open_store(folder), name)) for name in RUNS}


def launch(processes, out, folder, *work, restarts=0):
    """Run functions of this file in several processes; what each saved, and how it ended."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        + [str(processes), "--max-restarts", str(restarts), __file__, str(out), str(folder), *work],
        capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error",
             "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
    )  # fmt: skip
    files = [out / f"{rank}.pt" for rank in range(processes)]
    return [torch.load(file, weights_only=False) for file in files if file.exists()], done


@pytest.fixture(scope="module")
def two(folder, tmp_path_factory):
    """Two processes do everything; one of their runs was begun by one process alone."""
    out = tmp_path_factory.mktemp("two")
    for log in pretrain(open_store(folder), output_dir=out / "one then two", **GIVEN):
        if log.step == 4:
            break
    found, done = launch(2, out, folder, "every_run", "embedded", "spread", "written")
    assert done.returncode == 0, done.stderr[-3000:]
    return out, found, done


@pytest.fixture(scope="module")
def four(folder, tmp_path_factory):
    found, done = launch(
        4, tmp_path_factory.mktemp("four"), folder, "some_runs", "embedded", "spread"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return found


# --- what the processes do ------------------------------------------------------------------------


class Counted:
    """Counts the numbers that the collectives carry, and the chips that are read."""

    def __init__(self):
        import torch.distributed as dist

        self.numbers, self.calls, self.read = {}, {}, 0
        for name in ("all_reduce", "all_gather"):
            self._wrap(dist, name)
        take = ChipStore._take

        def counted(store, index):
            self.read += len(index)
            return take(store, index)

        ChipStore._take = counted

    def _wrap(self, dist, name):
        real = getattr(dist, name)

        def counted(first, *given, **options):
            tensors = first if isinstance(first, list) else [first]
            size = sum(tensor.numel() for tensor in tensors)
            self.numbers[name] = self.numbers.get(name, 0) + size
            self.calls[name] = self.calls.get(name, 0) + 1
            return real(first, *given, **options)

        setattr(dist, name, counted)

    def reset(self):
        self.numbers, self.calls, self.read = {}, {}, 0


def every_run(out, folder):
    return runs_of(list(RUNS), folder)


def some_runs(out, folder):
    return runs_of(list(RUNS)[:1], folder)


def runs_of(names, folder):
    store, found = open_store(folder), {}
    counted = Counted()
    for name in names:
        counted.reset()
        run = train(store, name)
        found[name] = outcome(run) | {
            "numbers": dict(counted.numbers), "calls": dict(counted.calls), "read": counted.read,
            "steps": run.steps, "queue": run._moco.queue,
        }  # fmt: skip
    return found


def embedded(out, folder):
    store = open_store(folder)
    encoder = models.build_encoder(mean=store.mean.tolist(), std=store.std.tolist(), seed=3)
    counted = Counted()
    whole = embed(store, encoder, index=np.arange(70), batch_size=7)
    read = counted.read
    one = embed(store, encoder, index=[5])
    none = embed(store, encoder, index=[])
    return {"whole": whole.vectors, "one": one.vectors, "none": none.vectors, "read": read}


def spread(out, folder):
    """Tensors of which each process fills its share, and chips of which it reads its share."""
    found = []
    for count in (0, 1, 3, 7):
        whole = torch.zeros(count, 3, dtype=torch.int16)
        mine = distributed.local_slice(count)
        whole[mine] = values(count)[mine]
        distributed.broadcast_shards(whole)
        found.append(whole)
    counted = Counted()
    chips = load_to_gpu(open_store(folder), torch.arange(70).flip(0), torch.device("cpu"))
    return {"tensors": found, "chips": chips, "read": counted.read}


def values(count):
    return (torch.arange(count * 3).reshape(count, 3) * 9973 - 30_000).to(torch.int16)


def written(out, folder):
    """Whole runs and halves of runs on disk, and which files this process opens to write."""
    store = open_store(folder)
    opened = []

    def hook(event, args):
        if event == "open" and isinstance(args[0], str) and str(out) in args[0]:
            if args[2] & (os.O_WRONLY | os.O_RDWR):
                opened.append(args[0])

    sys.addaudithook(hook)
    first = pretrain(store, output_dir=out / "two then one", **GIVEN)
    for log in first:
        if log.step == 5:
            break
    second = pretrain(store, output_dir=out / "one then two", **GIVEN)
    begun = second.step
    second.finish(progress=False)

    third = pretrain(store, output_dir=out / "stopped", **GIVEN)
    stopped = False
    try:
        for log in third:
            if log.step == 3 and distributed.rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        stopped = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    wrong = []
    for config in (
        dataclasses.replace(CONFIG, batch_size=15),
        dataclasses.replace(CONFIG, bn_splits=3),
        dataclasses.replace(CONFIG, lr=0.1 + distributed.rank()),
    ):
        with pytest.raises(ValueError) as error:
            pretrain(store, pairs=pairs.temporal(), config=config)
        wrong.append(str(error.value))
    with pytest.raises(ValueError) as error:  # rank 0 finds it, all are told
        pretrain(store, output_dir=out / "stopped", **{**GIVEN, "seed": 2})
    wrong.append(str(error.value))
    mine = [name for name in opened if "rank" not in name]
    main(
        [
            "pretrain",
            str(folder),
            "--output-dir",
            str(out / "cli"),
            "--epochs",
            "1",
            "--batch-size",
            "16",
        ]
    )
    told = ["--encoder", str(out / "cli"), "--output", str(out / "vectors.parquet")]
    main(["embed", str(folder), *told])
    return {
        "second": outcome(second), "begun": begun, "stopped": stopped, "step": third.step,
        "wrong": wrong, "opened": mine,
    }  # fmt: skip


def dying(out, folder):
    """The command line, whose second process is killed in its eighth step, the first time."""
    real, first = pretraining.Run._one_step, os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def one_step(run):
        if run.step == 7 and distributed.rank() == 1 and first:
            os.kill(os.getpid(), signal.SIGKILL)
        real(run)

    pretraining.Run._one_step = one_step
    main(command_line(folder, out / "run"))


def command_line(folder, out, **changes):
    options = {
        "batch-size": 16, "epochs": 4, "queue-size": 40, "projection-dim": 16, "log-every": 2,
        "knn-every": 0, "precision": "fp32", "checkpoint-every-s": 0, "bn-splits": 2, **changes,
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["pretrain", str(folder), "--output-dir", str(out), *words]


if __name__ == "__main__":
    in_double()
    out, folder = Path(sys.argv[1]), Path(sys.argv[2])
    result = {name: globals()[name](out, folder) for name in sys.argv[3:]}
    torch.save(result, out / f"{distributed.rank()}.pt")


# --- what they come to ----------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_gives_the_same_run(alone, processes, request):
    found = request.getfixturevalue("two")[1] if processes == 2 else request.getfixturevalue("four")
    runs = [each["every_run" if processes == 2 else "some_runs"] for each in found]
    assert len(runs) == processes
    for name in runs[0]:
        assert_alike(alone[name], runs[0][name])
        for other in runs[1:]:  # the queue among them: every process holds the same, bit for bit
            for key, value in runs[0][name]["tensors"].items():
                assert torch.equal(value, other[name]["tensors"][key]), (name, key)
            for key, values in runs[0][name]["logs"].items():
                np.testing.assert_array_equal(values, other[name]["logs"][key], err_msg=key)


@pytest.mark.parametrize("processes", [2, 4])
def test_each_process_reads_its_share_and_tells_no_more_than_it_must(processes, request):
    found = request.getfixturevalue("two")[1] if processes == 2 else request.getfixturevalue("four")
    model = models.MoCo(
        models.build_encoder("small"), projection_dim=CONFIG.projection_dim, queue_size=1
    )
    gradients = sum(p.numel() for p in model.parameters() if p.requires_grad)
    statistics = sum(b.numel() for n, b in model.named_buffers() if "running" in n)
    keys, records = (
        CONFIG.batch_size * CONFIG.projection_dim,
        CONFIG.batch_size * (256 + CONFIG.projection_dim),
    )
    small = 3 + 1  # the means of a record (loss, contrastive loss and accuracy), whether to stop
    assert statistics < 0.01 * gradients
    for each in found:
        seen = each["every_run" if processes == 2 else "some_runs"]["apart"]
        steps = seen["steps"]
        assert (
            seen["read"] == steps * 2 * CONFIG.batch_size // processes
        )  # a query and a key a pair
        assert seen["numbers"] == {
            "all_reduce": steps * (gradients + statistics + small),
            "all_gather": steps * (keys + records),
        }
        assert seen["calls"] == {"all_reduce": steps * 3, "all_gather": steps * 3}


@pytest.mark.parametrize("processes", [2, 4])
def test_embedding_is_shared_out(folder, processes, request):
    found = request.getfixturevalue("two")[1] if processes == 2 else request.getfixturevalue("four")
    store = open_store(folder)
    encoder = models.build_encoder(mean=store.mean.tolist(), std=store.std.tolist(), seed=3)
    whole = embed(store, encoder, index=np.arange(70)).vectors
    read = [each["embedded"]["read"] for each in found]
    assert read == ([35, 35] if processes == 2 else [18, 18, 18, 16])
    for each in found:
        vectors = each["embedded"]
        np.testing.assert_allclose(vectors["whole"], whole, atol=2e-5)
        np.testing.assert_allclose(vectors["one"], whole[5:6], atol=2e-5)
        assert vectors["none"].shape == (0, 256)


@pytest.mark.parametrize("processes", [2, 4])
def test_what_each_process_has_a_share_of_comes_to_all(folder, processes, request):
    found = request.getfixturevalue("two")[1] if processes == 2 else request.getfixturevalue("four")
    whole = open_store(folder).gather(torch.arange(70).flip(0))
    for each in found:
        for count, tensor in zip((0, 1, 3, 7), each["spread"]["tensors"], strict=True):
            assert torch.equal(tensor, values(count))
        assert torch.equal(each["spread"]["chips"], whole)
    read = [each["spread"]["read"] for each in found]
    assert read == ([35, 35] if processes == 2 else [18, 18, 18, 16])


def test_runs_go_on_with_more_processes_and_with_fewer(folder, two):
    out, found, _ = two
    store = open_store(folder)
    whole = outcome(pretrain(store, **GIVEN).finish(progress=False))
    for each in found:
        assert each["written"]["begun"] == 4
        assert_alike(whole, each["written"]["second"])
    rest = pretrain(store, output_dir=out / "two then one", **GIVEN)
    assert rest.step == 5
    assert_alike(whole, outcome(rest.finish(progress=False)))


def test_sigterm_on_one_process_stops_all_after_the_same_step(folder, two):
    out, found, _ = two
    assert [each["written"]["stopped"] for each in found] == [True, True]
    assert [each["written"]["step"] for each in found] == [4, 4]  # the flag lags by a step
    assert pretrain(open_store(folder), output_dir=out / "stopped", **GIVEN).step == 4


def test_the_first_process_writes_and_speaks(two):
    out, found, done = two
    assert found[0]["written"]["opened"] and not found[1]["written"]["opened"]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "pairs", str(out / "cli"), str(out / "vectors.parquet"),
    ]  # fmt: skip


def test_clear_words_for_what_processes_cannot_share(two):
    first, second = (each["written"]["wrong"] for each in two[1])
    assert "`batch_size` must be a multiple of the 2 processes, got 15. Use 16" in first[0]
    assert "Use bn_splits=2" in first[1]
    assert "same `lr`, got 1.1 on rank 1 and 0.1 on rank 0" in first[2]
    assert "same `lr`, got 0.1 on rank 0 and 1.1 on rank 1" in second[2]
    assert "another `seed` (1, not 2)" in second[3]  # rank 0 found it
    assert first[:2] == second[:2] and first[3] == second[3]


def test_a_process_that_dies_ends_the_run_which_then_goes_on_alone(folder, tmp_path):
    found, done = launch(2, tmp_path, folder, "dying")
    assert done.returncode != 0 and not found
    told = [line for line in done.stderr.splitlines() if line.startswith("geossl: ")]
    assert len(told) == 1 and "Rank 0 of 2 lost touch with another rank" in told[0]
    assert "Start the same line again" in told[0]
    assert "rank      : 1" in done.stderr and "SIGKILL" in done.stderr
    main(command_line(folder, tmp_path / "run"))
    main(command_line(folder, tmp_path / "whole"))
    resumed, whole = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    )
    assert [r["step"] for r in resumed] == [w["step"] for w in whole]
    np.testing.assert_allclose([r["loss"] for r in resumed], [w["loss"] for w in whole], rtol=1e-6)


def test_torchrun_starts_it_again_where_the_checkpoint_left_it(folder, tmp_path):
    _, done = launch(2, tmp_path, folder, "dying", restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [line for line in done.stderr.splitlines() if line.startswith("geossl: ")]
    assert len(told) == 1 and "lost touch with another rank" in told[0]
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == list(range(2, steps[-1] + 1, 2)) and steps[-1] > 8


def test_one_sentence_from_one_process(folder, tmp_path, monkeypatch, capsys):
    words = command_line(folder, tmp_path / "run", **{"batch-size": 15})
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "as torchrun sets it")
    for rank in (0, 1):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        for line, sentence in ((words, "multiple of the 2 processes"), (["pretend"], "pretend")):
            with pytest.raises(SystemExit) as end:
                main(line)
            told = "".join(capsys.readouterr())
            assert end.value.code == 2 and (sentence in told if rank == 0 else told == "")
    assert not (tmp_path / "run").exists()
