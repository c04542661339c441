"""What lesson 02 draws and films, its widgets, and what `check` knows of it."""

import copy
import math
import re
from collections import deque

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.lesson_02 import experiments, figures
from geossl_lessons.lesson_02.queue_widget import QueueFilm, QueuePlayer
from geossl_lessons.lesson_02.temperature_widget import TemperatureSlider, push, shares
from test_pretrain import write_store
from torch import nn

from geossl import losses, models
from geossl.transforms import Views

STILL = Views(crop=(1.0, 1.0), ratio=(1.0, 1.0), flip=0, dihedral=False, jitter=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("lesson") / "chips")


def said(number, answer, given=None):
    return checking.judge(number, answer, given).hint


def send(widget, **state):
    """A change as the browser sends it."""
    data = {"method": "update", "state": state, "buffer_paths": []}
    widget._handle_msg({"content": {"data": data}, "buffers": []})


def status(widget):
    return re.sub(r"<[^>]*>", "", widget._status.widget.value)


def still_views(store, rows):
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    generator = torch.Generator().manual_seed(0)
    return STILL(store.gather(rows), mean=mean, std=std, generator=generator)


# --- the exercises --------------------------------------------------------------------------------


def test_the_puzzle_right_and_wrong():
    order = [2, 0, 1]  # 1 shows C, 2 shows A, 3 shows B: A is 2, B is 3, C is 1
    assert said("02.1", [2, 3, 1], order) == ""
    assert "0 of 3" in said("02.1", [3, 1, 2], order)
    assert "1 of 3" in said("02.1", [2, 1, 3], order)
    assert "once" in said("02.1", [1, 1, 2], order)


def logits_of(query, key, queue, temperature):
    positive = (query * key).sum(1, keepdim=True)
    return torch.cat([positive, query @ queue.T], 1) / temperature


def loss_of(query, key, queue, temperature):
    return -logits_of(query, key, queue, temperature).log_softmax(1)[:, 0].mean()


def test_info_nce_with_a_queue_right_and_wrong():
    assert said("02.2", loss_of) == ""
    assert said("02.2", lambda q, k, z, t: losses.info_nce(q, k, z, temperature=t)) == ""

    def doubled(q, k, z, t):  # the loss of another formula, exactly
        logits = logits_of(q, k, z, t)
        return nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))

    assert said("02.2", doubled) == ""

    def without_positive(q, k, z, t):
        logits = logits_of(q, k, z, t)
        return (logits[:, 1:].logsumexp(1) - logits[:, 0]).mean()

    for wrong, words in (
        (lambda *x: -loss_of(*x), "the sign is wrong"),
        (lambda *x: loss_of(*x) / math.log(2), "in bits"),
        (lambda q, k, z, t: loss_of(q, k, z, 1.0), "temperature first"),
        (lambda q, k, z, t: loss_of(q, k, z, 1 / t), "do not multiply"),
        (lambda *x: loss_of(*x) * len(x[0]), "the sum over the queries"),
        (without_positive, "positive is missing"),
        (lambda *x: -logits_of(*x).log_softmax(1)[...].mean(), "column 0"),
        (lambda *x: -logits_of(*x).log_softmax(1)[:, 1].mean(), "column 0"),
        (lambda *x: -logits_of(*x).log_softmax(0)[:, 0].mean(), "column 0"),
        (lambda *x: -logits_of(*x).log_softmax(1)[:, 0], "returns the shape (3,)"),
        (lambda *x: loss_of(*x).item(), "no gradient"),
        (lambda *x: loss_of(*x).detach(), "no gradient"),
        (lambda q, k, z, t: torch.cat([..., ...], 1), "Are all the dots replaced?"),
        (lambda q: q, "stopped with TypeError"),
        (loss_of(*(torch.eye(3),) * 3, 0.2), "without parentheses"),
        (lambda *x: None, "returns nothing"),
    ):
        assert words in said("02.2", wrong), (words, said("02.2", wrong))


def moved_by(share, *, no_grad=True):
    def update(query, key, momentum):
        with torch.set_grad_enabled(not no_grad):
            for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
                slow.copy_(share(momentum) * slow + (1 - share(momentum)) * fast)

    return update


def test_the_momentum_update_right_and_wrong():
    assert said("02.3", moved_by(lambda m: m)) == ""

    @torch.no_grad()
    def by_lerp(query, key, momentum):
        for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)

    def by_data(query, key, momentum):
        for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
            slow.data = momentum * slow.data + (1 - momentum) * fast.data

    def by_the_library(query, key, momentum):
        moco = models.MoCo(models.build_encoder(), queue_size=1, momentum=momentum)
        moco.encoder, moco.key_encoder = query, key
        moco.update_key()

    for right in (by_lerp, by_data, by_the_library):
        assert said("02.3", right) == ""

    @torch.no_grad()
    def renamed(query, key, momentum):
        for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
            slow = momentum * slow + (1 - momentum) * fast

    @torch.no_grad()
    def backwards(query, key, momentum):
        by_lerp(key, query, momentum)

    @torch.no_grad()
    def first_only(query, key, momentum):
        by_lerp(query[0], key[0], momentum)

    @torch.no_grad()
    def unfinished(query, key, momentum):
        for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
            slow.copy_(... * slow + ... * fast)

    for wrong, words in (
        (moved_by(lambda m: 1 - m), "wrong way round"),
        (moved_by(lambda m: 0.5), "With momentum 0.9"),
        (moved_by(lambda m: 0.9), "With momentum 0.25"),
        (moved_by(lambda m: m, no_grad=False), "torch.no_grad()"),
        (renamed, "has not moved"),
        (backwards, "query network has changed"),
        (first_only, "for all parameters"),
        (unfinished, "Are all the dots replaced?"),
        (None.__class__, "stopped with TypeError"),
    ):
        assert words in said("02.3", wrong), (words, said("02.3", wrong))


def test_the_collapsed_matrix_right_and_wrong():
    good = 0.1 + 0.8 * np.eye(4)
    collapsed = np.full((4, 4), 0.99)
    assert said("02.4", collapsed, good) == ""
    assert said("02.4", torch.tensor(collapsed, requires_grad=True), good) == ""
    assert "mean cosine of 0.10" in said("02.4", good, good)
    assert "never larger than 1" in said("02.4", 5 * collapsed, good)
    assert "shape (4, 4)" in said("02.4", collapsed[:3], good)


# --- the widgets ----------------------------------------------------------------------------------


def test_shares_and_push_are_those_of_the_loss():
    generator = torch.Generator().manual_seed(0)
    query, key = (
        torch.nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=1)
        for _ in range(2)
    )
    cosine = (query @ key.T).double().requires_grad_()
    (losses.info_nce_from_logits(torch.cat([cosine[:1, :1], cosine[:1, 1:]], 1) / 0.1)).backward()
    slope = cosine.grad[0, 1:]
    assert np.allclose(push(cosine.detach(), 0.1)[0, 1:], (slope / slope.sum()).numpy())
    truth = torch.nn.functional.cross_entropy(cosine / 0.1, torch.arange(6))
    assert np.isclose(-np.log(shares(cosine.detach(), 0.1).diagonal()).mean(), truth.item())
    assert np.allclose(shares(cosine.detach(), 1e-3).max(1), 1, atol=0.2)
    for bad in (np.ones(3), np.ones((1, 1)), np.ones((2, 3))):
        with pytest.raises(ValueError, match="at least two pairs"):
            push(bad, 0.1)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        shares(np.ones((2, 2)), 0)


def test_the_temperature_slider_follows_its_controls():
    similarity = np.array([[0.9, 0.8, 0.1], [0.2, 0.5, 0.6], [0.0, 0.3, 0.7]])
    seen = TemperatureSlider(similarity, pictures=np.zeros((3, 8, 8, 3), np.uint8))
    send(seen.temperature_slider, value=0.05)
    assert seen.temperature == 0.05
    hardest = math.exp(0.8 / 0.05) / (math.exp(0.8 / 0.05) + math.exp(0.1 / 0.05))
    assert f"query 0 takes {hardest:.0%} of the push" in status(seen)
    send(seen.query_slider, value=1)
    hardest = 1 / (1 + math.exp((0.2 - 0.6) / 0.05))
    assert f"query 1 takes {hardest:.0%} of the push" in status(seen)
    page = seen._page.value
    assert page.count("<rect") == 10 and 'role="img"' in page and 'alt="key 2"' in page
    found = [page.index(f">{name}<") for name in ("negative 2", "positive", "negative 0")]
    assert found == sorted(found)
    for control in (seen.temperature_slider, seen.query_slider):
        assert control.tooltip and control.description
    with pytest.raises(ValueError, match="`pictures` must be 3 pictures, got 2"):
        TemperatureSlider(similarity, pictures=np.zeros((2, 8, 8, 3), np.uint8))


def filmed(store, *, moves, steps=6, batch=4, queue_size=12):
    """A film of a network that moves by itself, and its steps: chips, views, the network then."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(store.chips[0].size, 8))
    film, known = QueueFilm(np.arange(len(store))[::-1], queue_size), []
    for index in torch.randperm(len(store), generator=generator)[: steps * batch].split(batch):
        views = still_views(store, index)
        with torch.no_grad():
            film.record(index, views, nn.functional.normalize(network(views), dim=1), network)
            known.append((index, views, copy.deepcopy(network)))
            for p in network.parameters():
                p += moves * torch.randn(p.shape, generator=generator)
    return film, known


def test_the_queue_is_first_in_first_out_and_drifts(store):
    film, known = filmed(store, moves=0.01)
    line = deque(maxlen=3)  # steps, the newest first
    for step, frame in zip(known, film.frames, strict=True):
        line.appendleft(step)
        rows = [len(store) - 1 - index.numpy() for index, _, _ in line]  # here backwards
        assert frame.rows.tolist() == np.concatenate(rows).tolist()
        assert frame.age.tolist() == np.repeat(np.arange(len(line)), 4).tolist()
        wanted = [
            1 - nn.functional.cosine_similarity(then(views), step[2](views)).detach().numpy()
            for _, views, then in line
        ]
        assert np.allclose(frame.drift, np.concatenate(wanted), atol=1e-5)
    last = film.frames[-1]
    assert last.drift[last.age == 0].max() < 1e-5 < last.drift[last.age > 0].min()


def test_the_player_shows_each_film(store):
    films = {
        f"momentum {m:g}": filmed(store, moves=0.03 * (1 - m), queue_size=8)[0] for m in (0.99, 0.9)
    }
    seen = QueuePlayer(store, films)
    assert seen.step == 2  # it opens in the middle
    for step in range(6):
        send(seen.play, value=step)
        assert seen.step == step and status(seen).startswith(f"momentum 0.99, step {step + 1}:")
    assert seen._page.value.count(">new<") == 4 and seen._page.value.count("dashed") == 4
    send(seen.run_choice, index=1)
    assert status(seen).startswith("momentum 0.9, step 6: 4 keys came in, 8 of 8 slots")
    widths = [int(w) for w in re.findall(r"width: (\d+)%", seen._page.value)]
    assert max(widths) == 100  # the run that drifts more sets the scale
    send(seen.run_choice, index=0)
    assert max(int(w) for w in re.findall(r"width: (\d+)%", seen._page.value)) < 50
    send(seen.step_slider, value=0)
    assert seen.play.value == 0 and "4 of 8 slots" in status(seen)
    assert "dashed" not in seen._page.value and seen._page.value.count("–<") == 4
    for control in (seen.run_choice, seen.play, seen.step_slider):
        assert control.tooltip and control.description
    with pytest.raises(ValueError, match="at least one film"):
        QueuePlayer(store, {})


# --- figures and words ----------------------------------------------------------------------------


def test_the_figures_show_what_they_are_given(store):
    rows = np.array([0, 4, 9])
    views = still_views(store, rows)
    pictures = figures.to_pictures(store, views)
    assert np.abs(pictures - store.preview(rows).astype(int)).max() <= 2
    puzzle = figures.plot_puzzle(store, views, views[[2, 0, 1]]).axes
    shown = {ax.get_title(): ax.images[0].get_array() for ax in puzzle}
    assert list(shown) == ["A", "B", "C", "1", "2", "3"]
    assert np.array_equal(shown["1"], pictures[2]) and np.array_equal(shown["2"], pictures[0])
    assert len(figures.plot_views(store, store.gather(rows), views, views).axes) == 9
    matrices = {"a": np.eye(4), "b": torch.eye(4) - 0.5}
    left, right, bar = figures.plot_similarities(matrices).axes
    assert len(left.patches) == 4 and left.get_xlabel() == "key" and right.get_title() == "b"
    assert left.images[0].get_clim() == right.images[0].get_clim() == (-0.5, 1)
    assert bar.get_ylabel() == "cosine similarity"
    ax = figures.plot_losses([1.0, 6.0, 3.0], chance=5.0)
    assert ax.lines[0].get_ydata().tolist() == [1, 6, 3] and ax.get_ylim()[1] > 6


def test_shares_are_drawn_in_percent_with_their_intervals():
    results = {
        "x": {"a": (0.5, 0.4, 0.6), "b": (0.2, 0.1, 0.3)},
        "y": {"b": (1, 1, 1), "a": (0, 0, 0)},
    }
    drawn = figures.plot_shares(results, roles={"a": "untrained", "b": "MoCo-v2"})
    left, right = drawn.axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in left.texts] == ["50 %", "20 %"]
    assert [t.get_text() for t in right.texts] == ["0 %", "100 %"]
    bars = [line.get_xdata() for line in left.lines if len(line.get_xdata()) == 2]
    assert np.allclose(bars, [[40, 60], [10, 30]])
    assert left.lines[0].get_color() != left.lines[2].get_color()
    assert right.get_xlim()[1] >= 100 and left.get_title(loc="left") == "x"


def test_what_it_knows_is_concluded_from_the_intervals():
    values = {"a": (0.2, 0.5, 0.5), "b": (0.5, 0.55, 0.2)}
    lines = [
        [name, task, value, value - 0.1, value + 0.1]
        for name, row in values.items()
        for task, value in zip("xyz", row, strict=True)
    ]
    told = experiments.summarize(
        pd.DataFrame(lines, columns=["encoder", "task", "value", "low", "high"])
    )
    assert told["a"][0] == "20.0% (10.0% to 30.0%)" and list(told["task"]) == ["x", "y", "z"]
    assert [words.split()[0] for words in told["learned?"]] == ["yes,", "no", "no,"]
