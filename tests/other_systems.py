"""Run the main job of the library on this system without what Windows and macOS lack.

``python -X warn_default_encoding tests/other_systems.py FOLDER``; the test is in test_portable.py.
"""

import builtins
import multiprocessing
import os
import re
import shutil
import signal
import sys
import warnings
from pathlib import Path

MODULES = {
    "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios",
    "tty",
}  # fmt: skip
OF_OS = """
    O_CLOEXEC O_DIRECTORY O_DSYNC O_NOATIME O_NOFOLLOW O_NONBLOCK O_SYNC chown chroot ctermid
    fchmod fchown fdatasync fork forkpty getegid geteuid getgid getgrouplist getgroups getloadavg
    getpgid getpriority getresuid getsid getuid killpg lchown lockf major makedev minor mkfifo mknod
    nice openpty pathconf posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev
    readv sched_getaffinity sched_setaffinity sched_yield sendfile setpgid setpriority setsid setuid
    statvfs sync sysconf sysconf_names tcgetpgrp ttyname uname wait wait3 wait4 writev
""".split()
OF_SIGNAL = """
    SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP
    SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask setitimer
    siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
""".split()
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|(?i:(con|prn|aux|nul|com\d|lpt\d)(\.|$))')


class Smaller:
    """A module without some of its names."""

    def __init__(self, module, names):
        self._module, self._names = module, names

    def __getattr__(self, name):
        if name in self._names:
            raise AttributeError(f"{self._module.__name__} has no {name} on other systems")
        return getattr(self._module, name)


def take_away(folder):
    """Take what is POSIX's from geossl, and refuse in ``folder`` what Windows refuses.

    Other packages keep it: they ask for the name of the system first.
    """
    plain_import = builtins.__import__

    def checked_import(name, globals=None, *rest, **options):
        if not ((globals or {}).get("__name__") or "").startswith("geossl"):
            return plain_import(name, globals, *rest, **options)
        if name in MODULES:
            raise ImportError(f"no module {name} on other systems")
        return smaller.get(name) or plain_import(name, globals, *rest, **options)

    smaller = {"os": Smaller(os, OF_OS), "signal": Smaller(signal, OF_SIGNAL)}
    builtins.__import__ = checked_import
    multiprocessing.set_start_method("spawn", force=True)
    warnings.filterwarnings("error", category=EncodingWarning, module="geossl")

    def check_name(event, args):
        if event not in ("open", "os.mkdir", "os.rename"):
            return
        for path in args:
            if isinstance(path, str | os.PathLike) and folder in Path(path).parents:
                for name in Path(path).relative_to(folder).parts:
                    assert not FORBIDDEN.search(name), f"Windows has no file {name!r}"

    sys.addaudithook(check_name)
    shutil._use_fd_functions = False  # rmtree() by paths, as there
    for name in ("replace", "rename", "unlink", "remove"):
        setattr(os, name, refusing_open_files(getattr(os, name)))
    plain_open = os.open

    def open_file(path, *args, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "a folder is no file", str(path))
        return plain_open(path, *args, **options)

    os.open = open_file


def refusing_open_files(function):
    """Return a function that refuses paths which this process has open or mapped into memory."""

    def checked(*paths, **options):
        with open("/proc/self/maps", encoding="utf-8") as file:
            held = {line.split(maxsplit=5)[5].strip() for line in file if "/" in line}
        for number in os.listdir("/proc/self/fd"):
            if os.path.exists(link := f"/proc/self/fd/{number}"):
                held.add(os.readlink(link))
        for path in paths:
            own = ".filelock-" not in str(path)  # of a package that does otherwise on Windows
            if own and os.path.realpath(path) in held:
                raise PermissionError(13, "it is open", str(path))
        return function(*paths, **options)

    return checked


def main(folder):
    """Do what a user does in a first session, small."""
    import pandas as pd

    import geossl
    from geossl.cli.main import main as command_line
    from geossl.data import streaming
    from geossl.tasks import finetune
    from geossl.viz import maps

    scenes = geossl.datasets.blue_marble(places=60, dates=2, seed=0)
    build = {"size_px": 16, "num_workers": 2, "progress": False}
    store = geossl.ChipStore.build(folder / "chips", scenes, **build)
    assert len(geossl.ChipStore.build(folder / "chips", scenes, **build)) == len(store) == 120
    clusters = geossl.GeoClusters.fit(store.scenes, k=4, seed=0)
    clusters.save(folder / "clusters.json")
    config = geossl.PretrainConfig(
        epochs=3, batch_size=16, queue_size=32, log_every=2, checkpoint_every_s=0
    )
    given = {"pairs": geossl.pairs.temporal(), "geo": clusters, "config": config, "seed": 0}
    run = geossl.pretrain(store, output_dir=folder / "run", **given)
    next(logs := iter(run))
    logs.close()
    resumed = geossl.pretrain(store, output_dir=folder / "run", **given)
    assert 0 < resumed.step < resumed.steps
    encoder = resumed.finish(progress=False).encoder
    whole = geossl.pretrain(store, **given).finish(progress=False)
    assert resumed.logs["loss"].tolist() == whole.logs["loss"].tolist()
    geossl.embeddings._BIG = 100  # then the vectors have a file of their own
    for _ in range(2):
        geossl.embed(store, encoder).save(folder / "vectors.parquet")
        embeddings = geossl.Embeddings.load(folder / "vectors.parquet")
        embeddings.save(folder / "vectors.parquet")
    assert 0 <= geossl.evaluate.linear(embeddings, label="label").value <= 1
    tuned = finetune.fine_tune(
        store, encoder, config=finetune.FineTuneConfig(epochs=1), output_dir=folder / "tuned"
    )
    assert 0 <= tuned.result.value <= 1
    maps.map_embeddings(embeddings).save(str(folder / "map.html"))
    assert "<html" in (folder / "map.html").read_text("utf-8")
    stream = streaming.write(store, folder / "stream", num_workers=2, progress=False)
    assert (streaming.open_store(folder / "stream").chips[:3] == stream.chips[:3]).all()
    mend_a_store(folder / "own", build)
    for words in (["scenes", "describe"], ["doctor"]):
        command_line([*words, str(folder / "chips")])
    assert len(pd.read_json(folder / "run" / "log.jsonl", lines=True)) == len(whole.logs)
    command_line(["--help"])


def mend_a_store(folder, build):
    """Build a store of images again when one has changed, and see what is said while it is open."""
    import numpy as np
    from PIL import Image

    import geossl
    from geossl.utils import io

    def draw(seed):
        for number in range(6):
            pixels = np.random.default_rng([seed, number]).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")

    folder.mkdir()
    draw(0)
    rows = [f"{i}.png,{i},{i},a" for i in range(6)]
    (folder / "scenes.csv").write_text("\n".join(["path,lon,lat,label", *rows]), "utf-8")
    scenes = geossl.datasets.table(folder / "scenes.csv", root=folder)
    store = geossl.ChipStore.build(folder / "chips", scenes, **build)
    before = np.array(store.chips)
    draw(1)
    io._PAUSES_S = (0.01,)
    try:
        geossl.ChipStore.build(folder / "chips", scenes, **build)
    except PermissionError as error:
        assert "chips.npy cannot be replaced (it is open). Close the program" in str(error), error
    else:
        raise AssertionError("an open store was replaced")
    del store
    after = geossl.ChipStore.build(folder / "chips", scenes, **build)
    assert not np.array_equal(after.chips, before)


if __name__ == "__main__":
    # other packages are imported before: on this system they may use what it has
    import asyncio  # noqa: F401

    import folium  # noqa: F401
    import litdata  # noqa: F401
    import rasterio  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch  # noqa: F401
    import torchvision  # noqa: F401

    there = Path(sys.argv[1]).resolve()
    take_away(there)
    main(there)
