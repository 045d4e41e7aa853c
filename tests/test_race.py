"""Races: what they promise and cost, and that the race of a survey goes on and leaves the test part alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from probe.config import Home
from probe.datasets import open_dataset
from probe.datasets.dataset import TEST
from probe.heads import HEADS
from probe.heads.head import Samples
from probe.runs import list_runs
from probe.stats.racing import disagreements, least_share
from probe.survey.expect import Curve, expected_accuracies, folds_of, learning_curve
from probe.survey.race import ALPHA, Candidate, Judge, Judged, Terms, race_order, run_race
from probe.units import group_codes
from tests.onnx_files import cnn
from tests.shell import Shell

SAMPLE = "fashion-sample"


def runners(count: int) -> list[Candidate]:
    """Two heads on each of `count` backbones."""
    return [Candidate(f"net{number}", "pooled", head) for number in range(count) for head in ("a", "b")]


def judge_of(rates: dict[Candidate, float], seed: int) -> Judge:
    """Candidates that are right by chance, at rates of their own."""
    rng = np.random.default_rng(seed)

    def judge(start: int, stop: int, candidates: Sequence[Candidate]) -> Judged:
        return Judged({one: rng.random(stop - start) < rates[one] for one in candidates})

    return judge


def test_one_that_is_as_good_as_every_other_is_rarely_shown_to_be_worse() -> None:
    """Of races among equals one in twenty may lose each of them, at most."""
    rates = dict.fromkeys(runners(2), 0.8)
    terms = Terms(2000, 1500, 10, 0.5)
    lost = [
        runners(2)[0] in run_race(list(rates), terms, judge_of(rates, seed)).dropped for seed in range(300)
    ]
    assert np.mean(lost) <= ALPHA


def test_what_is_worse_drops_out_and_the_budget_is_kept() -> None:
    candidates = runners(4)
    rates = {one: 0.6 + 0.05 * place for place, one in enumerate(candidates)}
    for seed in range(20):
        found = run_race(candidates, Terms(20_000, 15_000, 10, 0.2), judge_of(rates, seed))
        assert found.passes <= 0.2 * found.full
        assert found.share == found.passes / (4 * 20_000)
        assert found.kept == candidates[-1]
        assert {candidates[0], candidates[1]} <= set(found.dropped)
        assert found.right[candidates[0]] <= found.judged[candidates[0]] <= found.judged[candidates[-1]]
        seen = [look.fitted_on + look.judged for look in found.looks]
        assert [look.fitted_on for look in found.looks][1:] == seen[:-1]


def test_a_budget_that_shows_nothing_is_spent_on_what_looks_best() -> None:
    candidates = runners(7)
    rates = dict.fromkeys(candidates, 0.7)
    found = run_race(candidates, Terms(2000, 1500, 10, 0.2), judge_of(rates, 0))
    backbones = [len({one.backbone for one in (*found.survivors, *found.left)})]
    for look in range(1, 1 + len(found.looks)):
        backbones.append(backbones[-1] - len({one.backbone for one, at in found.left.items() if at == look}))
    assert backbones[0] > backbones[1] > backbones[-1] == 2
    assert len({one.backbone for one in found.survivors}) == 2
    assert 0.19 < found.share <= 0.2
    assert found.judged[found.survivors[0]] > 2 * min(found.judged.values())
    assert not set(found.left) & set(found.dropped)


def test_of_two_heads_the_one_that_is_worse_on_few_images_may_be_kept() -> None:
    candidates = runners(3)
    late, early = candidates[0], candidates[1]
    rates = dict.fromkeys(candidates, 0.6) | {late: 0.75, early: 0.8}
    falls = {"a": 0.3, "b": 0.9}
    by_chance = judge_of(rates, 0)

    def judge(start: int, stop: int, some: Sequence[Candidate]) -> Judged:
        curves = {
            one: Curve(stop / 3, stop / 1.5, (1 - rates[one]) / falls[one.head], 1 - rates[one])
            for one in some
        }
        return Judged(by_chance(start, stop, some).correct, curves=curves)

    found = run_race(candidates, Terms(4000, 3000, 2, 0.5), judge)
    assert found.kept == late
    assert found.survivors == (late, early)
    assert {*found.dropped, *found.left} == set(candidates[2:])
    falls["a"] = 1.0
    found = run_race(candidates, Terms(4000, 3000, 2, 0.5), judge)
    assert found.kept == early
    assert late in found.looks[-1].dropped, "at the end it is told"


def test_what_is_expected_of_all_images_is_told_from_a_part() -> None:
    """Classes in a checkerboard on a sphere: neighbours learn it slowly, and a plane never does."""
    points = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    labels = (np.floor(directions * 1.5).sum(axis=1) % 2).astype(np.intp)

    def part(start: int, stop: int) -> Samples:
        return Samples(points[start:stop], labels[start:stop])

    head = HEADS["knn"].fit(part(0, 1600), part(1600, 2000), 2).head
    reached = float((head.predict_proba(points[2000:]).argmax(axis=1) == labels[2000:]).mean())
    knn, ridge = (Candidate("points", "xyz", name) for name in ("knn", "ridge"))
    curves = {one: learning_curve(HEADS[one.head], part(0, 400), np.arange(400)) for one in (knn, ridge)}
    expected = expected_accuracies(curves, 2000)
    now = 1 - curves[knn].error_at_many
    assert now + (reached - now) / 4 < expected[knn] < reached + 0.01
    assert expected[ridge] < 0.65


def test_the_candidates_of_a_head_learn_at_the_same_rate_and_never_the_worse_for_more_images() -> None:
    one, other, third = Candidate("x", "y", "a"), Candidate("z", "y", "a"), Candidate("x", "y", "b")
    curves = {
        one: Curve(100, 200, 0.3, 0.2),
        other: Curve(100, 200, 0.5, 0.2),
        third: Curve(100, 200, 0.1, 0.2),
    }
    assert expected_accuracies(curves, 400) == pytest.approx({one: 0.85, other: 0.85, third: 0.8})
    perfect = {one: Curve(100, 200, 0.0, 0.0)}
    assert expected_accuracies(perfect, 400) == {one: 1.0}


def test_folds_keep_units_together_and_leave_a_unit_of_each_class_to_fit_on() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 300)
    places = np.repeat(np.arange(0, 300, 2), 2)
    folds = folds_of(places, labels, 5)
    assert (folds[::2] == folds[1::2]).all()
    assert set(labels[folds < 0].tolist()) == {0, 1, 2}
    assert np.ptp(np.bincount(folds[folds >= 0])) <= 6


def test_what_fails_leaves_the_race() -> None:
    good, bad = runners(1)

    def judge(start: int, stop: int, candidates: Sequence[Candidate]) -> Judged:
        return Judged({good: np.ones(stop - start, bool)}, {bad: "no weights"})

    found = run_race([good, bad], Terms(1000, 800, 2, 0.5), judge)
    assert found.kept == good
    assert found.failed == {bad: "no weights"}
    assert len(found.looks) == 1


def test_groups_count_as_the_groups_they_are() -> None:
    wins = np.repeat([True, True, True, False], 25)
    assert disagreements(wins, ~wins) == (75, 25)
    in_groups = disagreements(wins, ~wins, np.repeat(["a", "b", "c", "d"], 25))
    assert sum(in_groups) == pytest.approx(4, abs=1)
    assert least_share(75, 25, 0.01) > 0.5 > least_share(*in_groups, 0.01)
    assert least_share(0, 3, 0.01) == 0
    assert least_share(7, 0, 0.5**7) == pytest.approx(0.5)


def test_every_beginning_of_the_order_has_the_classes_in_their_shares() -> None:
    labels = np.random.default_rng(0).choice(3, 900, p=[0.7, 0.25, 0.05])
    units = group_codes(np.array([f"{row // 2}" if row < 100 else "" for row in range(900)]))
    order = race_order(labels, units, 0)
    assert sorted(order.tolist()) == list(range(900))
    assert set(labels[order[:6]].tolist()) == {0, 1, 2}
    for count in (90, 300, 600):
        found = np.bincount(labels[order[:count]], minlength=3) / count
        assert np.abs(found - np.bincount(labels) / 900).max() < 0.03
    places = np.argsort(order)
    assert (np.abs(places[0:100:2] - places[1:100:2]) == 1).all()
    assert not np.array_equal(order, race_order(labels, units, 1))


def test_a_race_of_a_survey(shell: Shell, tmp_path: Path) -> None:
    net = cnn(tmp_path / "net.onnx")
    words = ["survey", SAMPLE, "--limit", 900, "--size", 16, "--preprocess", "unit", "--budget", "60%"]
    words += ["--backbones", f"pixels,{net}", "--heads", "ridge,majority"]
    plan = shell("survey", *words[1:], "--dry-run")
    assert "a race of 4 candidates within 1,080 image passes" in plan
    found = shell.json(*words)
    assert found["race"]["share"] <= 0.6
    assert found["race"]["passes"] == found["race"]["share"] * 1800
    assert found["rows"][0]["standing"] == "best"
    assert (found["rows"][0]["backbone"], found["rows"][0]["head"]) == ("pixels", "ridge")
    assert {row["standing"] for row in found["rows"] if row["head"] == "majority"} <= {"dropped", "left"}
    assert any("--backbones pixels --outputs pixels --heads ridge" in note for note in found["notes"])

    home = Home(shell.home)
    images = open_dataset(SAMPLE, home).thinned(900)
    kept_apart = set(images.ids[images.splits == TEST].tolist())
    runs, _ = list_runs(home)
    assert {run.record.dataset for run in runs} == {"fashion-sample-race"}
    for run in runs:
        assert not kept_apart & set(run.predictions.ids.tolist())
    assert shell.json(*words) == found, "finished looks are not repeated"
    assert len(list_runs(home)[0]) == len(runs)
    assert "look 1: fitted on" in shell(*words)
    assert shell.json("stores", "ls") == [] or all(row["internal"] for row in shell.json("stores", "ls"))


def test_a_backbone_without_weights_fails_its_rows_in_a_race(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.internet.time.sleep", lambda _: None)
    words = ["survey", SAMPLE, "--limit", 300, "--size", 32, "--budget", "0.5", "--heads", "ridge,majority"]
    found = shell.json(*words, "--backbones", "pixels,resnet50", code=1)
    assert found["failed"] == 2
    assert {row["backbone"] for row in found["rows"] if row["problem"]} == {"resnet50"}
    alone = shell.json(*words[:-1], "ridge", "--backbones", "pixels,resnet50", code=1)
    assert {row["standing"] for row in alone["rows"]} == {"failed"}


def test_a_race_needs_somebody_to_race_against_and_a_budget_for_a_look(shell: Shell) -> None:
    words = ["survey", SAMPLE, "--limit", 100, "--size", 4, "--backbones", "pixels"]
    shell(*words, "--budget", "50%", code=2)
    assert "nothing to race against" in shell.error
    shell(*words, "--heads", "ridge,majority", "--budget", "1%", code=2)
    assert "does not pay for a look" in shell.error


@pytest.mark.parametrize("budget", ["0", "120%", "much", "-5%"])
def test_a_budget_is_a_share(shell: Shell, budget: str) -> None:
    shell("survey", SAMPLE, "--backbones", "pixels", "--budget", budget, code=2)
    assert "such as 20% or 0.2" in shell.error
