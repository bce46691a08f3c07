"""The gate's rules on measures that are known: what is refused, and what is taken for noise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from neural_photo_editor.evaluation.gate_rules import (
    GateCheck,
    GateRules,
    Pair,
    bootstrap_interval,
    judge_pairs,
)

RULES = GateRules(
    tolerances={
        "paint_difference": 1.0,
        "change_inside": 4.0,
        "region_mismatch": 0.1,
        "network_calls": 0.0,
        "seconds": 0.25,
    },
    bounds={"paint_difference": 20.0},
)
USUAL = {
    "drift": 0.0,
    "changed_outside": 0.0,
    "paint_difference": 5.0,
    "change_inside": 30.0,
    "network_calls": 50.0,
    "seconds": 1.0,
}
CELLS = [(region, bucket) for region in ("hair", "lip") for bucket in ("0%-34%", "67%-100%")]


def _pairs(worse: Sequence[dict[str, float]] | dict[str, float] = (), per_cell: int = 4) -> Any:
    """16 pairs; of pair i the candidate's measures are the usual ones plus worse[i]."""
    pairs = []
    for number, (region, bucket) in enumerate(CELLS * per_cell):
        added = worse if isinstance(worse, dict) else worse[number] if worse else {}
        candidate = {**USUAL, "region_mismatch": 0.0}
        for metric, value in added.items():
            candidate[metric] += value
        pairs.append(Pair(f"r{number}", region, bucket, candidate, dict(USUAL)))
    return pairs


def _failed(pairs: list[Pair], rules: GateRules = RULES, *, first: bool = False) -> list[GateCheck]:
    return [check for check in judge_pairs(pairs, rules, first=first) if not check.passed]


def _groups(checks: list[GateCheck]) -> set[tuple[str, str, str]]:
    return {(check.metric, check.region, check.bucket) for check in checks}


def test_the_same_measures_pass_and_every_rule_was_applied() -> None:
    checks = judge_pairs(_pairs(), RULES, first=False)
    assert all(check.passed for check in checks)
    compared = {(c.region, c.bucket) for c in checks if c.metric == "change_inside"}
    assert compared == {
        (r, b) for r in ("all", "hair", "lip") for b in ("all", *dict(CELLS).values(), "0%-34%")
    }
    every = {"failed", "refused_by_both", "not_compared", "drift", "changed_outside"}
    assert {c.metric for c in checks} == {*RULES.tolerances, *every}


def test_a_regression_in_one_cell_is_named_by_metric_region_and_bucket() -> None:
    worse = [{"paint_difference": 3.0} if cell == ("lip", "67%-100%") else {} for cell in CELLS * 4]
    failed = _failed(_pairs(worse))
    assert ("paint_difference", "lip", "67%-100%") in _groups(failed)
    assert {check.metric for check in failed} == {"paint_difference"}
    assert not any(check.region == "hair" or check.bucket == "0%-34%" for check in failed)
    (cell,) = [check for check in failed if check.bucket == "67%-100%" and check.region == "lip"]
    assert (cell.current, cell.candidate, cell.low, cell.high) == (5.0, 8.0, 3.0, 3.0)
    assert str(cell) == (
        "paint_difference, region lip, 67%-100% of the noise, 4 edits: +3 (+3 to +3), tolerance 1"
    )


def test_better_measures_pass_but_less_change_is_a_change() -> None:
    assert not _failed(_pairs({"paint_difference": -4.0, "seconds": -0.9, "network_calls": -40.0}))
    for change in (-10.0, 10.0):
        assert {c.metric for c in _failed(_pairs({"change_inside": change}))} == {"change_inside"}
    for change in (-3.0, 3.0):
        assert not _failed(_pairs({"change_inside": change}))


def test_noise_is_no_regression_and_a_real_one_is_not_missed() -> None:
    rng = np.random.default_rng(0)
    refused = {0.0: 0, 3.0: 0}
    for shift in refused:
        for _ in range(50):
            worse = [{"paint_difference": w} for w in rng.normal(shift, 2.0, 16)]
            refused[shift] += bool(_failed(_pairs(worse)))
    # The tolerance is 1: of no difference 16 edits of such noise say so, of 3 also.
    assert refused[0.0] <= 2
    assert refused[3.0] >= 48


def test_one_outlier_among_good_edits_is_noise() -> None:
    worse = [{"paint_difference": 12.0 if number == 0 else 0.0} for number in range(16)]
    assert not _failed(_pairs(worse))


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(values, name="a")
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert (low, high) == bootstrap_interval(values, name="a")


def test_the_interval_of_few_values_holds_their_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    for n in (3, 5, 12):
        intervals = [bootstrap_interval(rng.normal(0.0, 1.0, n), name="a") for _ in range(300)]
        held = np.mean([low <= 0.0 <= high for low, high in intervals])
        assert 0.90 <= held <= 1.0, n


@pytest.mark.parametrize("metric", ["drift", "changed_outside"])
@pytest.mark.parametrize("value", [1e-6, 1.0, float("nan")])
def test_any_change_outside_the_mask_is_refused(metric: str, value: float) -> None:
    worse: list[dict[str, float]] = [{} for _ in range(16)]
    worse[7] = {metric: value}
    for first in (False, True):
        (check,) = _failed(_pairs(worse), first=first)
        assert (check.metric, check.recipes) == (metric, ("r7",))


def test_an_edit_that_only_the_candidate_refuses_is_a_reason() -> None:
    pairs = _pairs()
    pairs[3] = Pair("r3", "hair", "0%-34%", None, dict(USUAL))
    pairs[4] = Pair("r4", "hair", "0%-34%", None, None)
    pairs[5] = Pair("r5", "hair", "0%-34%", dict(USUAL), None)
    (check,) = _failed(pairs)
    assert (check.metric, check.recipes) == ("failed", ("r3",))
    (check,) = _failed(pairs, first=True)
    assert check.recipes == ("r3", "r4")


def test_a_candidate_that_makes_no_edit_at_all_is_refused() -> None:
    pairs = [Pair(f"r{i}", "hair", "refused", None, None) for i in range(5)]
    refused = {"failed", "refused_by_both", "not_compared"}
    assert {check.metric for check in _failed(pairs)} == refused


def test_one_more_network_call_or_much_more_time_is_refused() -> None:
    worse: list[dict[str, float]] = [{} for _ in range(16)]
    worse[2] = {"network_calls": 1.0}
    assert _groups(_failed(_pairs(worse))) == {("network_calls", "all", "all")}
    assert _groups(_failed(_pairs({"seconds": 0.4}))) == {("seconds", "all", "all")}
    assert not _failed(_pairs({"seconds": 0.2}))
    # A machine that was busy for a few edits.
    assert not _failed(_pairs([{"seconds": 9.0 if i < 4 else 0.0} for i in range(16)]))


def test_regions_marked_otherwise_are_refused() -> None:
    worse = [{"region_mismatch": 0.3 if region == "lip" else 0.0} for region, _ in CELLS * 4]
    failed = _failed(_pairs(worse))
    assert {(c.metric, c.region) for c in failed if c.region != "all"} == {
        ("region_mismatch", "lip")
    }


def test_measures_that_are_no_numbers_are_refused() -> None:
    failed = _failed(_pairs({"change_inside": float("nan"), "paint_difference": float("nan")}))
    assert {check.metric for check in failed} == {"change_inside", "paint_difference"}


def test_bounds_hold_by_region_with_and_without_a_current_bundle() -> None:
    worse = [{"paint_difference": 16.0 if region == "hair" else 0.0} for region, _ in CELLS * 4]
    (check,) = _failed(_pairs(worse), first=True)
    assert (check.metric, check.region, check.candidate, check.limit) == (
        "paint_difference", "hair", 21.0, 20.0
    )  # fmt: skip
    assert "21, at most 20" in str(check)
    assert check in _failed(_pairs(worse))
    # Without a current bundle nothing else is judged.
    assert not _failed(_pairs({"change_inside": 99.0, "seconds": 9.0}), first=True)


def test_small_groups_are_judged_within_larger_ones_only() -> None:
    pairs = _pairs(per_cell=2)
    cells = {(c.region, c.bucket) for c in judge_pairs(pairs, RULES, first=False)}
    assert cells == {("all", "all"), ("hair", "all"), ("lip", "all"),
                     ("all", "0%-34%"), ("all", "67%-100%")}  # fmt: skip
    few = judge_pairs(pairs[:1], RULES, first=True)
    assert {c.metric for c in few} == {
        "failed", "not_compared", "drift", "changed_outside", "paint_difference"
    }  # fmt: skip


def test_a_verdict_on_too_few_edits_is_a_refusal() -> None:
    worse = {"paint_difference": 12.0, "network_calls": 2450.0, "seconds": 49.0}
    (check,) = _failed(_pairs(worse)[:2])
    assert (check.metric, check.recipes) == ("not_compared", (*RULES.bounds, *[
        metric for metric in RULES.tolerances if metric not in RULES.bounds
    ]))  # fmt: skip
    assert "paint_difference" in str(check)
    (check,) = _failed(_pairs()[:2], first=True)
    assert (check.metric, check.recipes) == ("not_compared", ("paint_difference",))
    assert not _failed(_pairs()[:3], first=True)


def test_edits_that_both_refuse_show_nothing() -> None:
    pairs = _pairs() * 2
    pairs[:3] = [Pair(f"x{i}", "hair", "refused", None, None) for i in range(3)]
    assert not _failed(pairs)
    pairs[3] = Pair("x3", "hair", "refused", None, None)
    (check,) = _failed(pairs)
    assert (check.metric, check.recipes) == ("refused_by_both", ("x0", "x1", "x2", "x3"))


@pytest.mark.parametrize("value", [9.0, float("nan")])
def test_one_broken_edit_among_good_ones_is_refused_by_its_cap(value: float) -> None:
    rules = RULES.model_copy(update={"caps": {"change_inside": 8.0}})
    for change in (value, -value):
        worse: list[dict[str, float]] = [{} for _ in range(16)]
        worse[5] = {"change_inside": change}
        checks = [c for c in _failed(_pairs(worse), rules) if c.region == "each edit"]
        assert [(c.metric, c.recipes, c.limit) for c in checks] == [("change_inside", ("r5",), 8.0)]
        assert str(checks[0]) == "change_inside, each edit, any noise, 16 edits: r5"
    assert not _failed(_pairs([{"change_inside": 7.0}] + [{}] * 15), rules)
    # Without a current bundle nothing is worse than anything.
    assert not [c for c in _failed(_pairs(worse), rules, first=True) if c.region == "each edit"]


@pytest.mark.parametrize(
    ("share", "bucket"),
    [(0.002, "0%-34%"), (0.34, "0%-34%"), (0.35, "34%-67%"), (0.9, "67%-100%"), (1.0, "67%-100%")],
)
def test_parts_of_the_noise(share: float, bucket: str) -> None:
    assert RULES.bucket(share) == bucket


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerances": {"beauty": 1.0}},
        {"tolerances": {"seam": float("nan")}},
        {"tolerances": {}, "bucket_edges": (0.6, 0.3)},
        {"tolerances": {}, "bounds": {"drift": 3.0}},
        {"tolerances": {}, "least_edits": 2},
        {"tolerances": {}, "caps": {"seconds": 1.0}},
        {"tolerances": {}, "most_refused": 1.0},
        {"tolerances": {}, "speed": 3},
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GateRules.model_validate(wrong)
