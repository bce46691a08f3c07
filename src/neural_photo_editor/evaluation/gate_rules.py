"""When a candidate may take the place of the current bundle: the rules, and who fails them.

Every measure is taken of the same edit by both bundles, so their difference is free of what
differs from edit to edit. Of a group of edits (a region at a part of the noise, a region, a part
of the noise, and all edits) the mean difference is judged by a bootstrap interval: the group fails
when even the lower end of its 95 % interval is worse than the tolerance. So what may be noise is
no regression, and a small regression is one as soon as enough edits agree on it. Single edits have
caps of their own, since one that is broken is lost among good ones; and what could not be compared
is no pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import stats

from neural_photo_editor.common.seeding import numpy_generator

ALL = "all"
EACH = "each edit"
"""Stands for a region where the worst single edit is judged."""

RESAMPLES = 2000

TITLES = {
    "paint_difference": "distance from the paint, CIEDE2000",
    "color_patches": "patches of color, of 255",
    "seam": "seam (photo: 1)",
    "feature_distance": "distance from real photos, deviations",
    "change_inside": "mean change inside, of 255",
    "region_mismatch": "region marked otherwise, 1 - IoU",
    "drift": "largest change outside, of 255",
    "changed_outside": "share of pixels changed outside",
    "failed": "edits refused",
    "refused_by_both": "share of edits refused by both",
    "not_compared": "rules without enough edits",
    "network_calls": "network calls per edit, share",
    "seconds": "seconds per edit, share",
}
"""All metrics, in the order of the report."""

EITHER_WAY = ("change_inside",)
"""Metrics that are worse in either direction; all others are worse when they are higher."""


class GateRules(BaseModel):
    """What is compared with what.

    Attributes:
        tolerances: metric -> how much worse than the current bundle's a group's mean may be; of
            ``network_calls`` and ``seconds`` the share by which they may grow.
        caps: metric -> how much worse any single edit may be.
        bounds: metric -> what the candidate's mean over a region, and over all edits, may be at
            most, whatever the current bundle's is.
        bucket_edges: where the parts of the noise end, as shares of the schedule's timesteps.
        least_edits: groups of fewer edits are not judged by themselves; a rule that fewer edits
            in all can be judged by fails.
        most_refused: largest share of the edits that both bundles may refuse.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tolerances: dict[
        Literal[
            "paint_difference", "color_patches", "seam", "feature_distance", "change_inside",
            "region_mismatch", "network_calls", "seconds",
        ],
        float,
    ]  # fmt: skip
    caps: dict[
        Literal[
            "paint_difference", "color_patches", "seam", "feature_distance", "change_inside",
            "region_mismatch",
        ],
        float,
    ] = {}  # fmt: skip
    bounds: dict[
        Literal["paint_difference", "color_patches", "seam", "feature_distance"], float
    ] = {}
    bucket_edges: tuple[float, ...] = (0.34, 0.67)
    least_edits: int = Field(default=3, ge=3)
    most_refused: float = Field(default=0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _check_edges(self) -> Self:
        edges = (0.0, *self.bucket_edges, 1.0)
        if any(low >= high for low, high in pairwise(edges)):
            raise ValueError("bucket_edges must increase and lie between 0 and 1")
        return self

    def bucket(self, share: float) -> str:
        """Return the name of the part of the noise that an edit from ``share`` of it belongs to."""
        edges = [0.0, *self.bucket_edges, 1.0]
        below = sum(share > edge for edge in self.bucket_edges)
        return f"{edges[below]:.0%}-{edges[below + 1]:.0%}"


@dataclass(frozen=True)
class Pair:
    """One recipe's edit by both bundles.

    Attributes:
        name: of the recipe.
        region: what is edited, such as ``hair``.
        bucket: part of the noise it starts from.
        candidate, current: measures by name; of a refused edit None, and of ``current`` also where
            there is no current bundle.
        errors: what the bundles said that refused it, by "candidate" or "current".
    """

    name: str
    region: str
    bucket: str
    candidate: Mapping[str, float] | None
    current: Mapping[str, float] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)

    def worsening(self, metric: str) -> float | None:
        """Return the candidate's measure minus the current's, None where one is absent."""
        if self.candidate is None or metric not in self.candidate:
            return None
        if metric == "region_mismatch":  # By itself a comparison with the current bundle.
            return self.candidate[metric]
        if self.current is None or metric not in self.current:
            return None
        before, after = self.current[metric], self.candidate[metric]
        return after / before - 1.0 if metric in ("network_calls", "seconds") else after - before


@dataclass(frozen=True)
class GateCheck:
    """One rule applied to one group of edits.

    Attributes:
        metric: a key of TITLES.
        region, bucket: the group; "all" for any; region EACH: ``candidate`` is the worst edit's
            worsening.
        edits: number of edits in it.
        current, candidate: their means (of seconds medians), None where there is none.
        worsening, low, high: mean (of seconds median) difference and its 95 % interval.
        limit: what ``low``, or for a bound the candidate's mean, must not exceed.
        passed: the verdict.
        recipes: names of the edits at fault, where single ones are; of ``not_compared`` the
            metrics.
    """

    metric: str
    region: str
    bucket: str
    edits: int
    limit: float
    passed: bool
    current: float | None = None
    candidate: float | None = None
    worsening: float | None = None
    low: float | None = None
    high: float | None = None
    recipes: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Return the check as a JSON object."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __str__(self) -> str:
        bucket = "any noise" if self.bucket == ALL else f"{self.bucket} of the noise"
        region = EACH if self.region == EACH else f"region {self.region}"
        what = f"{self.metric}, {region}, {bucket}, {self.edits} edits"
        if self.recipes:
            return f"{what}: {', '.join(self.recipes[:5])}"
        if self.worsening is None:
            return f"{what}: {self.candidate:.4g}, at most {self.limit:.4g}"
        return (
            f"{what}: {self.worsening:+.3g} ({self.low:+.3g} to {self.high:+.3g}), "
            f"tolerance {self.limit:.3g}"
        )


def judge_pairs(pairs: Sequence[Pair], rules: GateRules, *, first: bool) -> list[GateCheck]:
    """Apply all rules.

    Args:
        pairs: of all recipes, at least one.
        first: whether there is no current bundle; then only the bounds count.
    """
    checks = [_no_failure(pairs, first=first), *_nothing_outside(pairs)]
    checks.append(_enough(pairs, rules, first=first))
    for bounded, bound in rules.bounds.items():
        checks += _bounded(pairs, bounded, bound, least=rules.least_edits)
    if not first:
        checks.append(_refused_by_both(pairs, rules.most_refused))
        checks += [_capped(pairs, metric, cap) for metric, cap in rules.caps.items()]
        for metric, tolerance in rules.tolerances.items():
            checks += _compared(pairs, metric, tolerance, least=rules.least_edits)
    return checks


def bootstrap_interval(
    values: NDArray[np.float64],
    *,
    name: str,
    statistic: Callable[..., NDArray[np.float64]] = np.mean,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a statistic (Efron and Tibshirani 1993, 13).

    Percentile intervals of few values are too narrow (Hesterberg 2015, 4.2). So deviations are
    widened by sqrt(n / (n - 1)), by which resampled means vary too little, and by the ratio of
    Student's quantile to the normal one, since n values do not tell their own spread exactly.

    Args:
        values: float, (n,), n at least 3.
        name: of what they are; the resampling depends on it and on n alone.
        statistic: of (RESAMPLES, n) along axis 1.
    """
    n = len(values)
    rows = numpy_generator("bootstrap", name, n).integers(0, n, (RESAMPLES, n))
    center = float(statistic(values[None], axis=1)[0])
    quantiles = stats.t.ppf(0.975, n - 1), stats.norm.ppf(0.975)
    widening = np.sqrt(n / (n - 1)) * quantiles[0] / quantiles[1]
    deviations = (statistic(values[rows], axis=1) - center) * widening
    low, high = np.percentile(deviations, (2.5, 97.5))
    return center + float(low), center + float(high)


def groups(pairs: Sequence[Pair], *, least: int) -> Iterator[tuple[str, str, list[Pair]]]:
    """Yield region, bucket and edits of each group of enough edits, the largest first.

    A group of the same edits as a larger one's, such as a region with one bucket, is left out.
    """
    regions = [ALL, *dict.fromkeys(pair.region for pair in pairs)]
    buckets = [ALL, *sorted({pair.bucket for pair in pairs}, key=_first_number)]
    seen = set()
    for region in regions:
        for bucket in buckets:
            group = [p for p in pairs if region in (ALL, p.region) and bucket in (ALL, p.bucket)]
            names = tuple(pair.name for pair in group)
            if len(group) >= least and names not in seen:
                seen.add(names)
                yield region, bucket, group


def _first_number(bucket: str) -> float:
    return float(bucket.partition("%")[0])


def _no_failure(pairs: Sequence[Pair], *, first: bool) -> GateCheck:
    """The candidate makes every edit that the current bundle makes, and at least one."""
    failed = [p.name for p in pairs if p.candidate is None and (first or p.current is not None)]
    made = any(pair.candidate is not None for pair in pairs)
    names = tuple(failed if made else (pair.name for pair in pairs))
    return GateCheck(
        "failed", ALL, ALL, len(pairs), 0.0, not names, candidate=float(len(names)), recipes=names
    )


def _nothing_outside(pairs: Sequence[Pair]) -> Iterator[GateCheck]:
    for metric in ("drift", "changed_outside"):
        made = {p.name: p.candidate[metric] for p in pairs if p.candidate is not None}
        # Written so that NaN fails.
        bad = tuple(name for name, value in made.items() if not value <= 0.0)
        worst = max(made.values(), default=0.0)
        yield GateCheck(metric, ALL, ALL, len(made), 0.0, not bad, candidate=worst, recipes=bad)


def _enough(pairs: Sequence[Pair], rules: GateRules, *, first: bool) -> GateCheck:
    """Every rule has edits to be judged by: no verdict on nothing."""
    edits: dict[str, int] = {
        bounded: sum(p.candidate is not None and bounded in p.candidate for p in pairs)
        for bounded in rules.bounds
    }
    if not first:
        edits |= {
            metric: sum(p.worsening(metric) is not None for p in pairs)
            for metric in (*rules.tolerances, *rules.caps)
        }
    lacking = tuple(metric for metric, number in edits.items() if number < rules.least_edits)
    count = float(len(lacking))
    return GateCheck(
        "not_compared", ALL, ALL, len(pairs), 0.0, not lacking, candidate=count, recipes=lacking
    )


def _refused_by_both(pairs: Sequence[Pair], most: float) -> GateCheck:
    refused = tuple(p.name for p in pairs if p.candidate is None and p.current is None)
    share = len(refused) / len(pairs)
    bad = refused if share > most else ()
    return GateCheck(
        "refused_by_both", ALL, ALL, len(pairs), most, not bad, candidate=share, recipes=bad
    )


def _capped(pairs: Sequence[Pair], metric: str, cap: float) -> GateCheck:
    worse = {p.name: value for p in pairs if (value := p.worsening(metric)) is not None}
    if metric in EITHER_WAY:
        worse = {name: abs(value) for name, value in worse.items()}
    # Written so that NaN fails.
    bad = tuple(name for name, value in worse.items() if not value <= cap)
    worst = max(worse.values(), default=0.0)
    return GateCheck(metric, EACH, ALL, len(worse), cap, not bad, candidate=worst, recipes=bad)


def _bounded(
    pairs: Sequence[Pair], metric: str, bound: float, *, least: int
) -> Iterator[GateCheck]:
    measured = [p for p in pairs if p.candidate is not None and metric in p.candidate]
    for region, bucket, group in groups(measured, least=min(least, max(1, len(measured)))):
        if bucket == ALL:
            mean = float(np.mean([p.candidate[metric] for p in group if p.candidate is not None]))
            passed = mean <= bound
            yield GateCheck(metric, region, ALL, len(group), bound, passed, candidate=mean)


def _compared(
    pairs: Sequence[Pair], metric: str, tolerance: float, *, least: int
) -> Iterator[GateCheck]:
    measured = [pair for pair in pairs if pair.worsening(metric) is not None]
    statistic = np.median if metric == "seconds" else np.mean
    for region, bucket, group in groups(measured, least=least):
        if metric in ("network_calls", "seconds") and (region, bucket) != (ALL, ALL):
            continue
        worse = np.array([pair.worsening(metric) for pair in group], dtype=np.float64)
        if metric == "network_calls":  # Counted, not measured: nothing of it is noise.
            low = high = float(worse.mean())
        else:
            low, high = bootstrap_interval(worse, name=metric, statistic=statistic)
        passed = low <= tolerance
        if metric in EITHER_WAY:
            passed = passed and high >= -tolerance
        before, after = (
            float(statistic([getattr(pair, side)[metric] for pair in group]))
            if metric != "region_mismatch"  # Neither bundle's own.
            else None
            for side in ("current", "candidate")
        )
        yield GateCheck(
            metric,
            region,
            bucket,
            len(group),
            tolerance,
            passed,
            current=before,
            candidate=after,
            worsening=float(statistic(worse)),
            low=low,
            high=high,
        )
