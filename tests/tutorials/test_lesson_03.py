"""What lesson 03 simulates, measures and draws, and what `check` knows of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from geossl_lessons import checking
from geossl_lessons.lesson_03 import experiments, figures, floods
from test_pretrain import write_store

from geossl import models, pairs
from geossl.embeddings import Embeddings


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("lesson") / "chips", places=40, dates=3)


@pytest.fixture(scope="module")
def wet(dry):
    return floods.add_floods(dry, share=0.4, seed=1)


def hint(number, answer, given):
    return checking.judge(number, answer, given).hint


def dated(days, places=None):
    day = pd.to_timedelta(days, "D")
    return pd.DataFrame({
        "location": [0] * len(days) if places is None else places,
        "time": pd.Timestamp("2010-01-10", tz="UTC") + day, "lon": 0.0, "lat": 0.0,
    })  # fmt: skip


# --- the exercises --------------------------------------------------------------------------------


def test_the_keys_of_a_query_right_and_wrong():
    given = (dated([0, 400, 500, 579, 580, 900, 900], [7, 7, 7, 7, 7, 7, 8]), 1)
    assert hint("03.1", [5, 4, 0], given) == ""
    assert hint("03.1", np.array([0, 4, 5]), given) == ""
    assert "another location" in hint("03.1", [0, 4, 5, 6], given)
    assert "query itself" in hint("03.1", [0, 1, 4, 5], given)
    assert "nearer than 180 days" in hint("03.1", [0, 3, 4, 5], given)
    assert "2 of 3 rows" in hint("03.1", [4, 5], given)
    assert "0 of 3 rows" in hint("03.1", [], given)
    assert "row numbers from 0 to 6" in hint("03.1", [0, 4.5], given)


def test_the_policy_that_keeps_the_season_right_and_wrong():
    table = dated([0, 20, 180, 365, 550, 730])
    policies = {"any": pairs.temporal(), "same season": pairs.temporal(season="same"),
                "other": pairs.temporal(season="other")}  # fmt: skip
    given = (policies, table)
    assert hint("03.2", "Same season ", given) == ""
    assert "In 100% of the pairs" in hint("03.2", "other", given)
    assert "the seasons differ" in hint("03.2", "any", given)
    assert "must be one of these words" in hint("03.2", "season", given)


def test_the_share_left_alone_right_and_wrong():
    table = dated([0, 100, 800, 0, 366, 0, 0], [0, 0, 0, 1, 1, 2, 2])
    policy = pairs.temporal(max_gap_days=365)
    truth = pairs.report(policy, table)["degenerate_share"]
    assert truth == pytest.approx(5 / 7)
    given = (table, 365)
    assert hint("03.3", truth, given) == ""
    assert "percent" in hint("03.3", 100 * truth, given)
    assert "number of pairs" in hint("03.3", 5, given)
    assert "does have a partner" in hint("03.3", 1 - truth, given)
    assert "degenerate_share" in hint("03.3", 0.5, given)


@pytest.mark.parametrize("number", ["03.1", "03.2", "03.3", "03.4"])
def test_whatever_the_answer_is_nothing_is_raised(number):
    table = dated([0, 200, 400, 800])
    given = {
        "03.1": (table, 0), "03.2": ({"any": pairs.temporal()}, table), "03.3": (table, 365),
        "03.4": (np.array([0.1, 0.4, 0.3]), np.array([True, False, True])),
    }[number]  # fmt: skip
    for answer in (None, ..., "x", float("nan"), [[]], {}, object(), np.ones((3, 4)) / 3, len):
        verdict = checking.judge(number, answer, given)
        assert not verdict.correct and len(verdict.hint) > 15
        assert not checking.judge(number, answer, answer).correct


# --- what is simulated ----------------------------------------------------------------------------


def test_floods_cover_a_part_of_some_chips_and_leave_the_others(dry, wet):
    hit = (wet.scenes[floods.COLUMN] == floods.FLOODED).to_numpy()
    assert hit.sum() == round(0.4 * 120)
    assert (wet.chips[~hit] == dry.chips[~hit]).all()
    share = (wet.chips[hit] != dry.chips[hit]).any(1).mean((1, 2))
    assert (share > 0.1).all() and (share < 0.45).all()
    assert floods.COLUMN not in dry.scenes and (wet.chips != dry.chips).any()


def test_floods_are_drawn_by_their_seed_apart_from_the_place(dry, wet):
    again, other = (
        floods.add_floods(dry, share=0.4, seed=1),
        floods.add_floods(dry, share=0.4, seed=2),
    )
    assert (again.chips == wet.chips).all() and (other.chips != wet.chips).any()
    by_place = (wet.scenes[floods.COLUMN] == floods.FLOODED).groupby(wet.scenes["location"]).sum()
    assert set(by_place) >= {0, 1, 2}  # some dates of a place, not all or none


def test_floods_refuse_what_they_cannot_paint(dry):
    for share in (0, 1, 1.5):
        with pytest.raises(ValueError, match="`share` must be [<>] [01], got"):
            floods.add_floods(dry, share=share)


# --- what is measured -----------------------------------------------------------------------------


def test_all_pairs_of_dates_in_their_order():
    table = dated([5, 1, 9, 3, 2, 4], [0, 0, 1, 0, 1, 2])
    early, late = experiments.pairs_of_dates(table)
    found = set(zip(early.tolist(), late.tolist(), strict=True))
    assert found == {(1, 3), (1, 0), (3, 0), (4, 2)}


class Corner(models.Encoder):
    """Sees the upper left pixel, as an angle; nothing else of a picture moves it."""

    def __init__(self, embedding_dim=2):
        parts = {"bands": 3, "stem": "small", "embedding_dim": embedding_dim}
        super().__init__("small", torch.nn.Identity(), **parts)

    def forward(self, x):
        angle = x[:, 0, 0, 0] / 50
        return torch.stack([angle.cos(), angle.sin()], 1)


def painted(dry, by, *, column=floods.DRY):
    """Chips of one color each, in a store whose places are all test places."""
    chips = np.broadcast_to(np.asarray(by, np.uint8)[:, None, None, None], dry.chips.shape)
    table = dry.scenes.assign(split="test", **{floods.COLUMN: column})
    return dataclasses.replace(dry, chips=chips.copy(), scenes=table)


def test_what_moves_an_embedding_beside_another_place(dry):
    place = np.repeat(np.arange(40), 3)
    by_place = painted(dry, 5 * place)
    below = by_place.chips.copy()
    below[:, :, 8:] = 255
    unseen = dataclasses.replace(painted(dry, place, column=floods.FLOODED), chips=below)
    found = experiments.measure_shifts(by_place, unseen, {"corner": Corner()}).iloc[0]
    assert found[experiments.DATE] == pytest.approx(0, abs=1e-6)
    assert found[experiments.FLOOD] == pytest.approx(0, abs=1e-6)
    by_date = painted(dry, 40 * np.tile(np.arange(3), 40))
    angle = 0.8 * np.arange(3)
    apart = 1 - np.cos(angle[:, None] - angle)  # of two dates, at whatever places
    seen = painted(dry, 40 * np.tile(np.arange(3), 40) + 50, column=floods.FLOODED)
    found = experiments.measure_shifts(by_date, seen, {"corner": Corner()}).iloc[0]
    wanted = apart[np.triu_indices(3, 1)].mean() / apart.mean()
    assert found[experiments.DATE] == pytest.approx(wanted, rel=1e-4)
    assert found[experiments.FLOOD] == pytest.approx((1 - np.cos(1)) / apart.mean(), rel=1e-4)


def scored(table, vectors):
    return experiments.change_scores(Embeddings(np.asarray(vectors, np.float32), table))


def test_change_scores_are_the_distances_of_dates(wet):
    rng = np.random.default_rng(0)
    table = wet.scenes.assign(split=["test", "train"] * 60)
    x = rng.normal(size=(120, 4)).astype(np.float32)
    found = scored(table, x)
    rows = [
        (i, j)
        for i in range(0, 120, 2)
        for j in range(0, 120, 2)
        if table["location"][i] == table["location"][j] and table["time"][i] < table["time"][j]
    ]
    assert len(found) == len(rows) == 20
    cosine = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i, j in rows]
    assert sorted(found["score"]) == pytest.approx(sorted(1 - np.array(cosine)), abs=1e-5)
    differ = sum(table["flood"][i] != table["flood"][j] for i, j in rows)
    assert found["changed"].sum() == differ > 0


def test_wins_are_those_of_a_double_loop_and_their_interval_holds_them():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "location": np.repeat(np.arange(100), 2), "score": rng.integers(0, 8, 200) / 8,
        "changed": rng.random(200) < 0.4,
    })  # fmt: skip
    table.loc[table["changed"], "score"] += 0.25
    wins = experiments._wins(table)
    yes, no = (table.loc[table["changed"] == c, "score"].to_numpy() for c in (True, False))
    truth = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in yes for b in no])
    assert float(wins.mean()) == pytest.approx(truth, abs=1e-6)
    low, high = experiments._interval_of_wins(wins, table, seed=0)
    assert low < truth < high < low + 0.3
    assert experiments._interval_of_wins(torch.ones_like(wins), table, seed=0) == (1.0, 1.0)


def test_the_verdict_names_what_was_gained_and_lost(tmp_path):
    dry = write_store(tmp_path / "chips", places=60, dates=4)
    place, rng = np.repeat(np.arange(60), 4), np.random.default_rng(0)
    flood = rng.random(240) < 0.5
    chips = np.zeros((240, 3, 16, 16), np.uint8)
    chips[:, 0] = (4 * place)[:, None, None]
    chips[:, 1] = rng.integers(0, 256, 240)[:, None, None]
    chips[:, 2] = np.where(flood, 200, 0)[:, None, None]
    table = dry.scenes.assign(
        label=np.where(place % 2, "odd", "even"), split=np.where(place < 30, "train", "test"),
        **{floods.COLUMN: np.where(flood, floods.FLOODED, floods.DRY)},
    )  # fmt: skip
    store = dataclasses.replace(dry, chips=chips, scenes=table)

    class Sees(Corner):
        def __init__(self, *weights):
            super().__init__(embedding_dim=3)
            self.weights = torch.tensor(weights)

        def forward(self, x):
            return x[:, :, 0, 0] * self.weights + torch.tensor([0.0, 40.0, 0.0])

    encoders = {"one": Sees(0.1, 0.0, 1.0), "two": Sees(1.0, 0.0, 0.0)}
    told = experiments.compare_encoders(store, encoders, baseline="one", candidate="two").set_index(
        "task"
    )
    assert told.iloc[:, -1].str.split(":").str[0].loc[experiments.SAME_LOCATION] == "gained"
    assert told.iloc[:, -1].str.split(":").str[0].loc[experiments.CHANGED] == "lost"
    assert told.loc[experiments.LABELED, "one"] == "100.0%"
    assert list(told.columns) == ["chance", "one", "two", "two, compared with one"]


def test_the_change_score_right_and_wrong():
    score, changed = np.array([0.9, 0.2, 0.5, 0.1, 0.3]), np.array([1, 1, 0, 0, 0], bool)
    truth = 4 / 6
    given = (score, changed.astype(float))
    assert hint("03.4", truth, given) == ""
    assert "unchanged pair scores higher" in hint("03.4", 1 - truth, given)
    assert "percent" in hint("03.4", 100 * truth, given)
    assert "yes[:, None] > no[None]" in hint("03.4", 0.9, given)


def test_policies_in_words():
    table = dated([0, 100, 800, 0, 366, 0, 0], [0, 0, 0, 1, 1, 2, 2])
    policies = {"any": pairs.temporal(), "near": pairs.temporal(max_gap_days=365),
                "none": pairs.same_image()}  # fmt: skip
    told = experiments.policies_table(policies, table).set_index("policy")
    assert told.loc["near", "with itself"] == "71%" and told.loc["near", "median gap"] == "100 days"
    assert told.loc["none", "same season"] == "–" and told.loc["any", "pairs per epoch"] == "7"


def test_the_figures_of_lesson_03():
    moved = pd.DataFrame({"encoder": ["a", "b"], "another date": [0.5, 0.25], "a flood": [1, 0.1]})
    ax = figures.plot_shifts(moved)
    assert [text.get_text() for text in ax.texts] == ["0.50", "0.25", "1.00", "0.10"]
    assert [bar.get_width() for bar in ax.patches] == [0.5, 0.25, 1, 0.1]
    table = pd.DataFrame({"score": [0.1, 0.4, 0.2], "changed": [False, True, False]})
    figure = figures.plot_scores({"a": table, "b": table})
    assert [ax.get_title() for ax in figure.axes] == ["a", "b"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [50, 100]
