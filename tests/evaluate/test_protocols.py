import copy
import functools
import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from test_pretrain import write_store
from test_probes import RNG, embeddings

from geossl import embed, evaluate, models
from geossl.embeddings import Embeddings
from geossl.evaluate import bootstrap, splits
from geossl.models import layers
from geossl.tasks import finetune
from geossl.train.optim import warmup_cosine
from geossl.transforms import Views


def standard(found, train):
    part = found.vectors[train].astype(float)
    return (found.vectors - part.mean(0)) / part.std(0)


def rows(found, name):
    return np.flatnonzero(found.scenes["split"] == name)


# --- the paper's SGD --------------------------------------------------------------------------


def test_sgd_is_a_loop_of_numpy():
    """Full batches, so that the order cannot matter: momentum, decay and drops by hand."""
    found = embeddings()
    train, test = rows(found, "train"), rows(found, "test")
    config = evaluate.SGD(
        lr=2.0, momentum=0.8, weight_decay=0.01, batch_size=1000, epochs=9, drops=(4, 7)
    )
    x = np.c_[standard(found, train) / 6**0.5, np.ones(240)]
    y = pd.get_dummies(found.scenes["label"]).to_numpy(float)
    weight, speed = np.zeros((7, 3)), np.zeros((7, 3))

    def softmax(rows):
        e = np.exp(x[rows] @ weight)
        return e / e.sum(1, keepdims=True)

    for epoch in range(9):
        rate = 2.0 if epoch < 4 else 0.2 if epoch < 7 else 0.02
        gradient = x[train].T @ (softmax(train) - y[train]) / len(train) + 0.01 * weight
        speed = 0.8 * speed + gradient
        weight = weight - rate * speed
    result = evaluate.linear(found, solver=config)
    np.testing.assert_allclose(result.probabilities, softmax(test), atol=1e-5)
    assert not np.allclose(result.probabilities.std(0), 0, atol=0.01)


def test_sgd_draws_by_its_seed_and_does_not_care_for_the_scale():
    found = embeddings(noise=2.0)
    before = torch.get_rng_state()
    quick = functools.partial(evaluate.linear, solver=evaluate.SGD(batch_size=16, epochs=5))
    one, again, other = (quick(found, seed=s).probabilities for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(one, again) and not np.allclose(one, other)
    larger = quick(Embeddings(1e4 * found.vectors + 7, found.scenes)).probabilities
    np.testing.assert_allclose(larger, one, atol=0.02)


def test_the_papers_protocol_comes_near_the_optimum():
    found = embeddings(places=240, noise=0.5)
    by_sgd, best = evaluate.linear(found, solver="sgd"), evaluate.linear(found)
    assert by_sgd.value == pytest.approx(best.value, abs=0.05) and by_sgd.value > 0.8
    assert by_sgd.n_train == len(rows(found, "train")) and "SGD" in by_sgd.metric


# --- classes ------------------------------------------------------------------------------------


def without_class_in_training(found, name="b"):
    table = found.scenes.copy()
    table.loc[(table["label"] == name) & (table["split"] != "test"), "label"] = None
    return Embeddings(found.vectors, table)


@pytest.mark.parametrize("measure", [evaluate.linear, evaluate.knn])
def test_a_class_missing_from_training_is_missed_and_said(measure):
    found = without_class_in_training(embeddings())
    result = measure(found)
    seen = result.predictions
    assert (seen["truth"] == "b").any() and not seen["hit"][seen["truth"] == "b"].any()
    assert result.value == pytest.approx((seen["truth"] == seen["predicted"]).mean())
    assert "test classes without a training chip 1" in str(result)
    table = result.per_class.set_index("label")
    assert table["train_chips"]["b"] == 0 and table["recall"]["b"] == table["f1"]["b"] == 0
    assert result.probabilities.shape == (len(seen), 3) and not result.probabilities[:, 1].any()
    assert "without" not in str(measure(embeddings()))


def test_a_missing_class_leaves_the_others_as_scikit_learn_fits_them():
    from sklearn.linear_model import LogisticRegression

    found = without_class_in_training(embeddings(classes=4))
    table = found.scenes
    train = np.flatnonzero((table["split"] == "train") & table["label"].notna())
    x = standard(found, train)
    model = LogisticRegression(C=1 / (2 * 0.01 * len(train)), tol=1e-8, max_iter=5000)
    model.fit(x[train], table["label"][train])
    result = evaluate.linear(found, l2=0.01)
    want = model.predict_proba(x[result.predictions["row"]])
    np.testing.assert_allclose(result.probabilities[:, [0, 2, 3]], want, atol=2e-3)


def test_a_stand_in_val_leaves_every_class_in_training():
    table = pd.DataFrame({"location": np.repeat(np.arange(30), 2)})
    kind = np.minimum(np.arange(60) // 2, 20)  # 20 classes of one location, one of ten
    for seed in range(10):
        train, val = splits.hold_out_validation(table, np.arange(60), kind, label="x", seed=seed)
        assert set(kind[train]) == set(range(21)) and set(kind[val]) == {20}
        assert not set(table["location"][train]) & set(table["location"][val])
        assert sorted([*train, *val]) == list(range(60))
    with pytest.raises(ValueError, match="more training locations than classes of 'x'"):
        splits.hold_out_validation(table, np.arange(40), kind, label="x", seed=0)


# --- figures ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    return evaluate.linear(embeddings(places=160, classes=7, noise=1.5))


def test_figures_are_scikit_learns(result):
    from sklearn import metrics

    seen, p = result.predictions, result.probabilities
    names = list(result.classes.index)
    onehot = (seen["truth"].to_numpy()[:, None] == np.array(names)).astype(int)
    want = {
        "top-1": metrics.accuracy_score(seen["truth"], seen["predicted"]),
        "top-5": metrics.top_k_accuracy_score(seen["truth"], p, k=5, labels=names),
        "macro F1": metrics.f1_score(seen["truth"], seen["predicted"], average="macro"),
        "mAP": metrics.average_precision_score(onehot, p, average="macro"),
    }
    table = result.figures(resamples=50).set_index("metric")
    assert list(table.index) == [*want, "calibration error"]
    for name, value in want.items():
        assert table["value"][name] == pytest.approx(value), name
        assert table["low"][name] < value < table["high"][name]
    assert table.loc["top-1", ["low", "high"]].tolist() == [result.low, result.high]
    confusion = metrics.confusion_matrix(seen["truth"], seen["predicted"], labels=names)
    assert np.array_equal(result.confusion, confusion) and list(result.confusion.columns) == names
    f1 = metrics.f1_score(seen["truth"], seen["predicted"], average=None)
    assert result.per_class["f1"].tolist() == pytest.approx(f1)


def test_calibration_table_and_error_agree(result):
    seen, table = result.predictions, result.calibration(bins=10)
    assert table["chips"].sum() == len(seen) and (table["chips"] > 0).all()
    for line in table.itertuples():
        there = seen["confidence"].between(line.low, line.high, inclusive="right")
        assert line.chips == there.sum()
        assert line.accuracy == pytest.approx(seen["hit"][there].mean())
        assert line.confidence == pytest.approx(seen["confidence"][there].mean())
    wide = result.calibration()
    error = (wide["chips"] * (wide["accuracy"] - wide["confidence"]).abs()).sum() / len(seen)
    figures = result.figures(resamples=2).set_index("metric")["value"]
    assert figures["calibration error"] == pytest.approx(error)


def test_intervals_draw_whole_places():
    """Of any measure: the mean of weighted chips has the interval of `bootstrap.interval`."""
    group = np.repeat(np.arange(60), 4)
    hit = np.repeat(RNG(0).uniform(0, 1, 60), 4) > RNG(1).uniform(0, 1, 240)
    asked = []

    def mean(weights):
        asked.append(weights)
        return (weights * torch.from_numpy(hit)).sum(1) / weights.sum(1)

    low, high = bootstrap.bootstrap_interval(mean, group, seed=0, resamples=3000)
    _, want_low, want_high = bootstrap.interval(hit, group, 1)
    assert (low, high) == pytest.approx((want_low, want_high), abs=0.015)
    weights = torch.cat(asked)
    assert weights.shape == (3000, 240) and (weights.sum(1) == 240).all()
    assert (weights.reshape(3000, 60, 4) == weights[:, ::4, None]).all()
    nothing = bootstrap.bootstrap_interval(lambda w: w[:, 0] * np.nan, group, seed=0, resamples=3)
    assert np.isnan(nothing).all()


def test_knn_has_figures_and_retrieval_has_none():
    found = embeddings(classes=7)
    table = evaluate.knn(found).figures(resamples=5)
    assert len(table) == 5 and table.notna().to_numpy().all()
    again = evaluate.same_place(found)
    for call in (again.figures, again.calibration, lambda: again.confusion):
        with pytest.raises(ValueError, match="result of a classifier for .*recall@1"):
            call()
    assert {"recall", "f1"} <= set(again.per_class) and "train_chips" not in again.per_class


# --- all dates of a place -----------------------------------------------------------------------


def test_temporal_sums_the_probabilities_of_a_place():
    single = evaluate.linear(embeddings(dates=4, noise=3.0))
    places = evaluate.temporal(single)
    seen = single.predictions
    names = np.array(single.classes.index)
    hits = []
    for place, part in seen.groupby("location", sort=False):
        guess = names[single.probabilities[part.index].sum(0).argmax()]
        line = places.predictions[places.predictions["location"] == place].iloc[0]
        assert (line["predicted"], line["images"], line["row"]) == (guess, 4, part["row"].iloc[0])
        hits.append(guess == part["truth"].iloc[0])
    assert places.value == np.mean(hits) and places.n_test == len(hits)
    assert places.value > single.value + 0.05 and places.low < places.value < places.high
    assert "images a place 4" in str(places)
    assert places.figures(resamples=5)["value"].iloc[0] == places.value


def test_temporal_refuses_what_it_cannot_sum():
    found = embeddings()
    with pytest.raises(ValueError, match="one class a chip to sum over dates, came 'same place"):
        evaluate.temporal(evaluate.same_place(found))
    table = found.scenes.assign(label=np.tile(["a", "b"], 120))
    with pytest.raises(ValueError, match="one class a place .* 30 places have several"):
        evaluate.temporal(evaluate.knn(Embeddings(found.vectors, table)))


# --- several labels -----------------------------------------------------------------------------


def multi(places=90, seed=0):
    """Vectors whose signs say which of three labels a chip has, with noise."""
    found = embeddings(places=places, noise=1.0, seed=seed)
    has = found.vectors[:, :3] + RNG(seed + 1).normal(0, 1, (len(found), 3)) > 0
    labels = ["|".join(np.array(["sea", "ice", "wood"])[row]) for row in has]
    return Embeddings(found.vectors, found.scenes.assign(labels=labels))


def test_several_labels_are_scikit_learns_logistic_regressions():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score, f1_score

    found = multi()
    train, test = rows(found, "train"), rows(found, "test")
    x = standard(found, train)
    has = found.scenes["labels"].str.get_dummies("|")[["ice", "sea", "wood"]].to_numpy()
    result = evaluate.multi_label(found, l2=0.01)
    assert list(result.classes.index) == ["ice", "sea", "wood"]
    for c in range(3):
        model = LogisticRegression(C=1 / (2 * 0.01 * len(train)), tol=1e-8, max_iter=5000)
        want = model.fit(x[train], has[train, c]).predict_proba(x[test])[:, 1]
        np.testing.assert_allclose(result.probabilities[:, c], want, atol=2e-3)
    p, true = result.probabilities, has[test]
    assert result.value == pytest.approx(average_precision_score(true, p))
    micro = average_precision_score(true, p, average="micro")
    assert result.more["micro AP"] == pytest.approx(micro)
    assert result.chance == pytest.approx(true.mean()) and result.low < result.value < result.high
    table = result.figures(resamples=5).set_index("metric")["value"]
    assert table["exact match"] == pytest.approx(((p > 0.5) == true).all(1).mean())
    assert table["mAP"] == pytest.approx(result.value)
    assert table["micro AP"] == pytest.approx(micro)
    assert table["macro F1"] == pytest.approx(f1_score(true, p > 0.5, average="macro"))
    each = f1_score(true, p > 0.5, average=None)
    assert result.per_class["f1"].tolist() == pytest.approx(each)
    assert result.per_class["train_chips"].tolist() == has[train].sum(0).tolist()
    assert result.calibration()["chips"].sum() == true.size
    with pytest.raises(ValueError, match="one class a chip for a confusion matrix"):
        _ = result.confusion


def test_several_labels_choose_their_penalty_and_know_odd_chips():
    found = multi()
    table = found.scenes.copy()
    test = rows(found, "test")
    table.loc[test[0], "labels"] = " sea |rare"  # a label that no training chip has
    table.loc[test[1], "labels"] = ""
    table.loc[test[2], "labels"] = None
    result = evaluate.multi_label(Embeddings(found.vectors, table))
    assert result.n_test == len(test) - 1 and result.more["l2"] in evaluate.L2
    assert result.predictions["truth"].iloc[0] == "rare|sea"
    assert result.predictions["truth"].iloc[1] == ""
    assert "test classes without a training chip 1" in str(result)
    lines = result.per_class.set_index("label")
    assert lines["recall"]["rare"] == 0 and lines["chips"]["rare"] == 1
    assert not result.probabilities[:, list(result.classes.index).index("rare")].any()
    bare = Embeddings(found.vectors, found.scenes.replace({"split": {"val": None}}))
    assert 0 < evaluate.multi_label(bare).more["val"] <= 1


def test_several_labels_refuse_none():
    found = multi()
    for labels in ("", "sea", None):
        table = found.scenes.assign(labels=labels)
        with pytest.raises(ValueError, match="some training chips have and others lack|came none"):
            evaluate.multi_label(Embeddings(found.vectors, table))
    with pytest.raises(ValueError, match="a column 'tags' of labels"):
        evaluate.multi_label(found, label="tags")
    with pytest.raises(ValueError, match="l2 > 0"):
        evaluate.multi_label(found, l2=())


# --- cross-validation ---------------------------------------------------------------------------


def test_every_location_is_tested_once_by_other_blocks():
    from geossl.geo import block_ids

    found = embeddings()
    table = found.scenes.copy()
    table.loc[table["location"] % 10 == 0, "label"] = None
    found = Embeddings(found.vectors, table)
    seen_splits = []

    def spy(some, *, label, split, seed):
        block = block_ids(some.scenes["lon"], some.scenes["lat"], block_deg=20.0)
        assert not set(block[split == "train"]) & set(block[split == "test"])
        assert set(split) == {"train", "test"} and (label, seed) == ("label", 3)
        seen_splits.append((some, split))
        return evaluate.knn(some, label=label, split=split, seed=seed)

    result = evaluate.cross_validate(found, folds=4, block_deg=20.0, measure=spy, seed=3)
    assert len(seen_splits) == 4
    known = np.flatnonzero(table["label"].notna())
    assert result.predictions["row"].tolist() == known.tolist() and result.n_test == len(known)
    seen = result.predictions
    assert (seen["location"].to_numpy() == table["location"].to_numpy()[known]).all()
    assert (seen.groupby("location")["fold"].nunique() == 1).all()
    for fold, (some, split) in enumerate(seen_splits):
        alone = evaluate.knn(some, split=split, seed=3)
        part = seen[seen["fold"] == fold]
        assert part["predicted"].tolist() == alone.predictions["predicted"].tolist()
        assert np.array_equal(result.probabilities[part.index], alone.probabilities)
    assert result.value == pytest.approx(seen["hit"].mean()) and "4 folds" in result.metric
    assert result.n_train == round(0.75 * len(known))
    assert result.figures(resamples=3)["value"].iloc[0] == result.value


def test_cross_validation_of_other_measures_and_of_too_little():
    many = multi()
    result = evaluate.cross_validate(
        many, label="labels", folds=3, block_deg=30.0,
        measure=functools.partial(evaluate.multi_label, l2=0.1),
    )  # fmt: skip
    has = many.scenes["labels"].str.get_dummies("|")[["ice", "sea", "wood"]].to_numpy()
    from sklearn.metrics import average_precision_score

    assert result.value == pytest.approx(average_precision_score(has, result.probabilities))
    found = embeddings()
    one_block = found.scenes.copy()
    one_block.loc[found.scenes["label"] == "b", ["lon", "lat"]] = 179.0, 89.0
    lonely = evaluate.cross_validate(
        Embeddings(found.vectors, one_block), folds=3, measure=evaluate.knn, block_deg=5.0
    )
    assert lonely.classes["b"] == 0 and "without a training chip 1" in str(lonely)
    for folds, table, words in [
        (1, found.scenes, "folds >= 2"),
        (5, found.scenes.assign(lon=0.0, lat=0.0), "at least 5 blocks"),
        (5, found.scenes.assign(label=None), "came none among 240"),
        (5, found.scenes.assign(lon=np.nan), "coordinates of every row"),
    ]:
        with pytest.raises(ValueError, match=words):
            evaluate.cross_validate(Embeddings(found.vectors, table), folds=folds)


# --- few labels ---------------------------------------------------------------------------------


def spy_of(found, seen):
    def spy(given, *, label, split, seed):
        assert given is found
        seen.append(split)
        return evaluate.knn(given, label=label, split=split, seed=seed)

    return spy


def test_few_labels_are_drawn_by_places_and_classes():
    found, seen = embeddings(places=240), []
    table = evaluate.label_efficiency(
        found, shares=(0.01, 0.1, 0.5, 1), seeds=(0, 1), measure=spy_of(found, seen)
    )
    assert (
        len(table) == len(seen) == 8
        and table["share"].tolist() == np.repeat([0.01, 0.1, 0.5, 1], 2).tolist()
    )
    place, label = found.scenes["location"], found.scenes["label"]
    for name, column, each in (("train", "places", 40), ("val", "val_places", 20)):
        there = [set(place[(split == name).to_numpy()]) for split in seen]
        for line, places in zip(table.itertuples(), there, strict=True):
            want = max(1, round(line.share * each))  # of each of three classes
            of_class = label[place.drop_duplicates().index[sorted(places)]].value_counts()
            assert of_class.tolist() == [want] * 3 and getattr(line, column) == 3 * want
            assert places <= set(place[found.scenes["split"] == name])
        assert there[0] < there[2] < there[4] < there[6] and there[4] != there[5]
    for split in seen:
        assert ((split == "test") == (found.scenes["split"] == "test")).all()
        both = pd.DataFrame({"place": place, "split": split.fillna("none")})
        assert (both.groupby("place")["split"].nunique() == 1).all()
    whole = evaluate.knn(found)
    last = table.iloc[-2]
    assert (last["value"], last["low"], last["n_train"]) == (whole.value, whole.low, whole.n_train)


def test_few_labels_by_number_and_with_the_default_probe():
    found = embeddings(places=240)
    table = evaluate.label_efficiency(found, per_class=(2, 1000), seeds=(0,))
    assert table["per_class"].tolist() == [2, 1000] and "share" not in table
    assert table["places"].tolist() == [6, 120] and table["val_places"].tolist() == [3, 60]
    assert table["value"].iloc[1] == evaluate.linear(found).value
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert table["value"].iloc[0] <= table["value"].iloc[1]


def test_few_labels_refuse_what_is_no_share():
    found = embeddings()
    for given in ({"shares": (0.0,)}, {"shares": (2,)}, {"shares": ()}, {"per_class": (0,)}):
        with pytest.raises(ValueError, match=r"shares in \(0, 1\] or per_class >= 1"):
            evaluate.label_efficiency(found, **given)
    with pytest.raises(ValueError, match="at least one seed"):
        evaluate.label_efficiency(found, seeds=())
    bare = Embeddings(found.vectors, found.scenes.replace({"split": {"val": None}}))
    with pytest.raises(ValueError, match="give one l2"):
        evaluate.label_efficiency(bare, per_class=(1,))
    one = functools.partial(evaluate.linear, l2=1e-2)
    assert len(evaluate.label_efficiency(bare, per_class=(1,), seeds=(0,), measure=one)) == 1


# --- how far apart ------------------------------------------------------------------------------


def test_leakage_is_the_distance_by_brute_force():
    from geossl.geo import great_circle_km

    found = embeddings(places=90)
    rng = RNG(0)
    at = {"lon": rng.uniform(-180, 180, 90), "lat": np.degrees(np.arcsin(rng.uniform(-1, 1, 90)))}
    at["lon"][:2], at["lat"][:2] = [179.9, -179.9], [10, 10]  # 22 km over the antimeridian
    table = found.scenes.assign(**{k: v[found.scenes["location"]] for k, v in at.items()})
    split = table["split"].copy()
    split[table["location"] == 0], split[table["location"] == 1] = "test", "train"
    split[table["location"] == 2] = ["train", "test"]  # a place in both
    report = evaluate.leakage(table, split=split)
    first = table.assign(split=split).drop_duplicates(["location", "split"])
    test, train = (first[first["split"] == name] for name in ("test", "train"))
    far = great_circle_km(
        test["lon"].to_numpy()[:, None], test["lat"].to_numpy()[:, None],
        train["lon"].to_numpy(), train["lat"].to_numpy(),
    )  # fmt: skip
    places = report.places.set_index("location")
    assert places["km"][test["location"]].tolist() == pytest.approx(far.min(1).tolist())
    want = train["location"].to_numpy()[far.argmin(1)]
    assert places["nearest"][test["location"]].tolist() == want.tolist()
    assert places["nearest"][0] == 1 and places["km"][0] == pytest.approx(21.9, abs=0.1)
    assert places["km"][2] == 0 and report.n_shared == 1 and report.n_train == len(train)
    assert report.share_below(100) == pytest.approx((far.min(1) < 100).mean())
    assert report.quantiles()[0.5] == pytest.approx(np.median(far.min(1)))
    words = f"{len(test)} test places .* nearest of {len(train)} training places: .*1 places are"
    import re

    assert re.search(words, str(report)), str(report)


def test_leakage_of_blocks_and_of_tables_it_cannot_measure():
    found = embeddings()
    apart = evaluate.leakage(found, split="blocks", block_deg=30.0)
    assert apart.n_shared == 0 and apart.share_below(1) == 0 and "in both" not in str(apart)
    with pytest.raises(ValueError, match="coordinates of every row for distances"):
        evaluate.leakage(found.scenes.assign(lon=np.nan))
    with pytest.raises(ValueError, match="rows of split 'test'"):
        evaluate.leakage(found.scenes.assign(split="train"))


# --- fine-tuning --------------------------------------------------------------------------------

QUICK = finetune.FineTuneConfig(
    epochs=2, batch_size=8, lr=5e-3, transform=Views(size_px=16), precision="fp32", device="cpu"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = write_store(tmp_path_factory.mktemp("probe_more") / "chips", places=30)
    table = made.scenes
    table["split"] = np.where(table["location"] % 3 == 1, "test", table["split"])
    return made


def untrained(store, seed=0):
    return models.build_encoder(
        bands=3, mean=store.mean.tolist(), std=store.std.tolist(), seed=seed
    ).requires_grad_(False)


def fingerprint(encoder):
    """Every bit of an encoder: weights, buffers, modes, gradients."""
    found = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        found.update(name.encode() + value.numpy().tobytes())
    for part in (
        [m.training for m in encoder.modules()],
        [(p.requires_grad, p.grad) for p in encoder.parameters()],
    ):
        found.update(repr(part).encode())
    return found.hexdigest()


def test_probing_leaves_the_backbone_and_the_vectors_as_they_were(store):
    encoder = untrained(store)
    encoder.train()
    encoder.backbone[1].eval()
    before, chips = fingerprint(encoder), np.array(store.chips)
    state = torch.get_rng_state()
    found = embed(store, encoder)
    vectors, table = found.vectors.copy(), found.scenes.copy()
    evaluate.linear(found)
    evaluate.linear(found, solver=evaluate.SGD(epochs=2))
    evaluate.knn(found)
    evaluate.temporal(evaluate.linear(found, l2=0.1)).figures(resamples=2)
    evaluate.same_place(found)
    evaluate.cross_validate(found, folds=2, measure=evaluate.knn)
    evaluate.label_efficiency(found, shares=(0.5,), measure=evaluate.knn)
    finetune.fine_tune(store, encoder, config=QUICK)
    assert fingerprint(encoder) == before
    assert np.array_equal(found.vectors, vectors) and found.scenes.equals(table)
    assert np.array_equal(store.chips, chips)
    assert torch.equal(state, torch.get_rng_state())


def test_fine_tuning_learns_the_same_thing_twice(store):
    encoder = untrained(store)
    config = finetune.FineTuneConfig(**{**vars(QUICK), "epochs": 6})
    with torch.no_grad():
        one, two = (finetune.fine_tune(store, encoder, config=config, seed=s) for s in (0, 0))
        other = finetune.fine_tune(store, encoder, config=QUICK, seed=1)
    for name, value in one.encoder.state_dict().items():
        assert torch.equal(value, two.encoder.state_dict()[name]), name
    assert np.array_equal(one.result.probabilities, two.result.probabilities)
    assert not np.allclose(one.result.probabilities, other.result.probabilities)
    assert one.result.value > 0.9 and one.logs["loss"].iloc[-1] < one.logs["loss"].iloc[0]
    assert one.logs["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert one.result.more["val"] == one.logs["val"].iloc[-1]
    # every layer has moved, and what it holds is what was measured
    for name, value in one.encoder.named_parameters():
        assert not torch.equal(value, dict(encoder.named_parameters())[name]), name
    test = one.result.predictions["row"].to_numpy()
    again = one.head(embed(store, one.encoder, index=test).tensor()).softmax(1)
    np.testing.assert_allclose(one.result.probabilities, again.detach().numpy(), atol=1e-6)
    assert one.encoder.backbone[1].num_batches_tracked == 6 * (30 // 8)  # norms learn as well
    assert not one.encoder.training and one.classes == ["even", "odd"]
    places = evaluate.temporal(one.result)
    assert places.n_test == 10 and "fine-tuned" in str(one)


def test_fine_tuning_looks_at_neither_val_nor_test(store):
    encoder = untrained(store)
    seen = finetune.fine_tune(store, encoder, config=QUICK)
    other = copy.copy(store)
    table = store.scenes.copy()
    held = table["split"].isin(["val", "test"])
    table.loc[held, "label"] = np.where(RNG(0).uniform(0, 1, held.sum()) < 0.5, "even", "new")
    object.__setattr__(other, "scenes", table)
    blind = finetune.fine_tune(other, encoder, config=QUICK)
    for name, value in seen.encoder.state_dict().items():
        assert torch.equal(value, blind.encoder.state_dict()[name]), name
    assert "test classes without a training chip 1" in str(blind.result)
    assert blind.classes == ["even", "odd"] and not blind.result.probabilities[:, 1].any()


def test_early_layers_learn_slowly():
    head = torch.nn.Linear(512, 4)
    net = models.build_encoder("resnet18")
    groups = finetune._groups(net, head, finetune.FineTuneConfig(lr=1.0, layer_decay=0.5))
    peak = {p: group["peak"] for group in groups for p in group["params"]}
    decay = {p: group["weight_decay"] for group in groups for p in group["params"]}
    assert set(peak) == {*net.parameters(), *head.parameters()} and len(peak) == len(groups)
    assert peak[head.weight] == 1
    at = {"layer4": 0.5, "layer3": 0.25, "layer2": 0.125, "layer1": 0.0625}
    at |= {"conv1": 0.03125, "bn1": 0.03125}
    for name, value in net.backbone.named_parameters():
        assert peak[value] == at[name.split(".")[0]], name
        assert (decay[value] > 0) == (value.ndim == 4), name
    small = finetune.stages(models.build_encoder("small").backbone)
    assert [len(stage) for stage in small] == [2, 1, 1, 1]

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.token = torch.nn.Parameter(torch.zeros(3))
            self.block = torch.nn.Sequential(torch.nn.Linear(3, 3))

    odd = models.Encoder("odd", Odd(), bands=3, stem="small", width=3)
    groups = finetune._groups(odd, torch.nn.Linear(3, 2), finetune.FineTuneConfig(lr=1.0))
    assert any(odd.backbone.token is p for group in groups for p in group["params"])


def test_the_rate_rises_and_falls_and_reaches_the_layers(store, monkeypatch):
    assert warmup_cosine(0, 100, 0.1) == pytest.approx(0.1)
    assert warmup_cosine(9, 100, 0.1) == warmup_cosine(10, 100, 0.1) == 1
    assert warmup_cosine(55, 100, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(99, 100, 0.1) < 0.001 and warmup_cosine(0, 1, 0.0) == 1
    rates = []
    step = torch.optim.AdamW.step

    def watched(self, *given, **named):
        rates.append(sorted({group["lr"] for group in self.param_groups}, reverse=True))
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    config = finetune.FineTuneConfig(**{**vars(QUICK), "batch_size": 13, "warmup": 0.0})
    finetune.fine_tune(store, untrained(store), config=config)
    n = (store.scenes["split"] == "train").sum()
    assert len(rates) == 2 * (n // 13) and n % 13  # what does not fill a batch is left out
    assert rates[0] == pytest.approx([5e-3 * 0.7**d for d in range(5)])
    assert rates[-1][0] == pytest.approx(5e-3 * warmup_cosine(len(rates) - 1, len(rates), 0.0))


def test_the_views_follow_the_seed(store, monkeypatch):
    seeds, drawn = [], Views.__call__

    def watched(self, chips, *, mean, std, generator):
        seeds.append(generator.initial_seed())
        return drawn(self, chips, mean=mean, std=std, generator=generator)

    monkeypatch.setattr(Views, "__call__", watched)
    config = finetune.FineTuneConfig(**{**vars(QUICK), "epochs": 1, "batch_size": 100})
    for seed in (0, 0, 1):
        finetune.fine_tune(store, untrained(store), config=config, seed=seed)
    assert len(seeds) == 3 and seeds[0] == seeds[1] != seeds[2]


def test_fine_tuning_undoes_the_split_of_batch_norm(store):
    encoder = layers.split_batchnorm(untrained(store), 4)
    small = pd.Series(np.where(np.arange(len(store)) < 5, "train", "test"))
    tuned = finetune.fine_tune(store, encoder, split=small, config=QUICK)
    assert tuned.result.n_train == 5 and encoder.backbone[1].splits == 4
    assert tuned.encoder.backbone[1].splits == 1 and tuned.logs["val"].isna().all()


def test_an_encoder_of_several_processes_is_tuned_in_one(store):
    encoder = layers.split_batchnorm(untrained(store), 1)
    for module in encoder.modules():
        if isinstance(module, layers.SplitBatchNorm2d):
            module.sharing = 2  # as a run of torchrun has it: it asks for a process group
    tuned = finetune.fine_tune(store, encoder, config=QUICK)
    assert np.isfinite(tuned.result.value) and encoder.backbone[1].sharing == 2


def test_fine_tuning_refuses_in_one_sentence(store):
    encoder = untrained(store)
    with pytest.raises(ValueError, match="store's 3 bands .* came one for 4"):
        finetune.fine_tune(store, models.build_encoder(bands=4), config=QUICK)
    with pytest.raises(ValueError, match="a column 'fuel' of labels"):
        finetune.fine_tune(store, encoder, label="fuel", config=QUICK)
    with pytest.raises(ValueError, match="finite loss, came nan in epoch 1; lower lr"):
        hot = copy.deepcopy(encoder)
        hot.backbone[0].weight.fill_(torch.nan)
        finetune.fine_tune(store, hot, config=QUICK)
    for bad in (
        {"epochs": 0},
        {"batch_size": 1},
        {"lr": -1.0},
        {"layer_decay": 1.1},
        {"warmup": 1.0},
    ):
        with pytest.raises(ValueError, match="expected"):
            finetune.FineTuneConfig(**bad)
    with pytest.raises(ValueError, match="lr > 0"):
        evaluate.SGD(lr=0)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [evaluate.linear, evaluate.knn, evaluate.cross_validate])
def test_labels_and_vectors_that_do_not_do(measure):
    found = embeddings()
    for label, words in ((None, "came 0 in 240|came none among 240"), ("a", "two classes or more")):
        with pytest.raises(ValueError, match=words):
            measure(Embeddings(found.vectors, found.scenes.assign(label=label)))
    broken = found.vectors.copy()
    broken[7] = np.inf
    with pytest.raises(ValueError, match="finite vectors, 1 of 240 .* row 7"):
        measure(Embeddings(broken, found.scenes))
    with pytest.raises(ValueError, match="a column 'koeppen' of labels"):
        measure(found, label="koeppen")


def test_one_class_in_training_and_unused_categories():
    found = embeddings()
    table = found.scenes.copy()
    table.loc[(table["split"] == "train"), "label"] = "a"
    for call in (evaluate.linear, evaluate.knn, functools.partial(evaluate.linear, solver="sgd")):
        with pytest.raises(ValueError, match="two classes or more of 'label'"):
            call(Embeddings(found.vectors, table))
    kinds = pd.Categorical(found.scenes["label"], categories=list("abcxyz"))
    result = evaluate.linear(Embeddings(found.vectors, found.scenes.assign(label=kinds)))
    assert list(result.classes.index) == ["a", "b", "c"]
    assert result.value == evaluate.linear(found).value and len(result.per_class) == 3


def test_solvers_that_are_none():
    with pytest.raises(ValueError, match="lbfgs, sgd or a probe.SGD, came 'adam'"):
        evaluate.linear(embeddings(), solver="adam")


# --- where probes are computed ---------------------------------------------------------------

MEASURES = {
    "linear": evaluate.linear,
    "sgd": functools.partial(evaluate.linear, solver=evaluate.SGD(epochs=5)),
    "knn": evaluate.knn,
    "multi_label": functools.partial(evaluate.multi_label, label="label"),
    "same_place": evaluate.same_place,
}


@pytest.mark.gpu
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_gpu_finds_what_the_cpu_finds(measure):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = embeddings(noise=2.0)
    here, there = (measure(found, device=name) for name in ("cpu", "cuda"))
    assert there.value == pytest.approx(here.value, abs=0.02)
    assert there.n_test == here.n_test and there.more.keys() == here.more.keys()
    if here.probabilities is not None:
        np.testing.assert_allclose(there.probabilities, here.probabilities, atol=2e-3)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_probe_computes_where_it_is_told(measure, monkeypatch):
    asked = []

    def pick(name):
        asked.append(name)
        return torch.device("cpu")

    for room in ("linear", "multilabel", "retrieval"):
        monkeypatch.setattr(f"geossl.evaluate.{room}.pick_device", pick)
    measure(embeddings(), device="auto")
    assert asked == ["auto"]


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_device_that_is_not_there_is_told(measure):
    with pytest.raises(ValueError, match="such as auto, cpu or cuda; came 'abacus'"):
        measure(embeddings(), device="abacus")
