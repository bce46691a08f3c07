"""The gate's page: the verdict, a table by region and part of the noise, pictures side by side."""

from pathlib import Path

from neural_photo_editor.evaluation.gate_rules import ALL, EACH, TITLES, GateCheck, Pair
from neural_photo_editor.evaluation.promotion import PICTURES, GateResult
from neural_photo_editor.evaluation.report import Check, Figure, Grid, Section, write_report

NUM_WORST = 6
NUM_SAMPLED = 6

_OF_ALL_EDITS = (
    "failed", "refused_by_both", "not_compared", "drift", "changed_outside", "network_calls",
    "seconds",
)  # fmt: skip
"""Metrics that are not judged by groups."""

_HOW_TO_READ = (
    "Mean worsening from the current to the candidate bundle, with its 95 % interval. A cell fails "
    "when the lower end exceeds the tolerance; of the change inside also when the upper end lies "
    "below minus the tolerance."
)
_HOW_TO_READ_FIRST = "There is no current bundle: the candidate's means, which have upper bounds."


def write_gate_report(result: GateResult, folder: Path) -> Path:
    """Write ``report.html``, all pictures inside.

    Args:
        result: of `run_gate`.
        folder: where `run_gate` left the pictures.
    """
    worst = sorted(result.pairs, key=lambda pair: _badness(pair, result), reverse=True)
    shown = list(worst[:NUM_WORST])
    others = [pair for pair in result.pairs if pair not in shown]
    sample = others[:: max(1, len(others) // NUM_SAMPLED)][:NUM_SAMPLED]
    first = result.current_digest is None
    sections = [
        _verdict(result),
        Section(
            "By region and part of the noise",
            _HOW_TO_READ_FIRST if first else _HOW_TO_READ,
            tables=[_grid(result)],
        ),
        Section("The edits that differ most", figures=_figures(shown, folder)),
        Section("A sample of the others", figures=_figures(sample, folder)),
    ]
    against = "no current bundle" if first else f"current {str(result.current_digest)[:12]}"
    return write_report(
        folder,
        title=f"Promotion gate: {'passed' if result.passed else 'refused'}",
        summary=f"Candidate {result.candidate_digest[:12]} against {against}, "
        f"{len(result.pairs)} recipes {result.recipes_digest[:12]}, {result.created}.",
        checks=[_check(check) for check in result.checks],
        sections=sections,
        embed=True,
    )


def _verdict(result: GateResult) -> Section:
    if result.passed:
        return Section("Passed", "No rule is broken.")
    failed = [check for check in result.checks if not check.passed]
    rows = [
        ["✗ fails", TITLES[c.metric], c.region, c.bucket, str(c).partition(" edits: ")[2]]
        for c in failed
    ]
    headers = ("", "Metric", "Region", "Noise", "Why")
    return Section("Refused", "These rules are broken:", tables=[Grid(headers, rows)])


def _grid(result: GateResult) -> Grid:
    """Return a row for each group and a column for each metric that is judged by groups."""
    judged = [check for check in result.checks if check.metric not in _OF_ALL_EDITS]
    metrics = [name for name in TITLES if any(check.metric == name for check in judged)]
    cells = {(check.region, check.bucket, check.metric): check for check in judged}
    if result.current_digest is not None:
        # Bounds are in the list below: here they would hide the comparisons.
        cells = {
            (check.region, check.bucket, check.metric): check
            for check in judged
            if check.worsening is not None
        }
    rows = []
    for region, bucket in sorted({key[:2] for key in cells}, key=lambda key: _place(key, result)):
        of_group = [cells.get((region, bucket, metric)) for metric in metrics]
        edits = max(check.edits for check in of_group if check is not None)
        rows.append([region, bucket, str(edits), *map(_cell, of_group)])
    return Grid(("Region", "Noise", "Edits", *(TITLES[metric] for metric in metrics)), rows)


def _place(group: tuple[str, str], result: GateResult) -> tuple[bool, int, bool, int]:
    """All edits last; regions in the order of the recipes, parts of the noise upwards."""
    region, bucket = group
    regions = list(dict.fromkeys(pair.region for pair in result.pairs))
    start = 0 if bucket == ALL else int(bucket.partition("%")[0])
    place = regions.index(region) if region in regions else 0
    return region == ALL, place, bucket == ALL, start


def _cell(check: GateCheck | None) -> str:
    if check is None:
        return "-"
    word = "✓ holds" if check.passed else "✗ fails"
    if check.worsening is None:
        return f"{word} {check.candidate:.3g}"
    return f"{word} {check.worsening:+.2g} ({check.low:+.2g} to {check.high:+.2g})"


def _check(check: GateCheck) -> Check:
    group = [part for part in (check.region, check.bucket) if part != ALL]
    kind = "worsening, lower end" if check.worsening is not None else "candidate"
    if check.region == EACH:
        kind = "largest worsening"
    name = f"{TITLES[check.metric]}, {' at '.join(group) or 'all edits'}: {kind}"
    value = check.low if check.worsening is not None else check.candidate
    assert value is not None
    if not check.passed and value <= check.limit and check.high is not None:
        # Fails by changing too little: said as a change in the other direction.
        return Check(f"{name}, downwards", -check.high, check.limit, "at most")
    return Check(name, value, check.limit, "at most")


def _figures(pairs: list[Pair], folder: Path) -> list[Figure]:
    figures = []
    for pair in pairs:
        file = f"{PICTURES}/{pair.name}.png"
        if (folder / file).is_file():
            caption = "; ".join(f"{side} refused: {text}" for side, text in pair.errors.items())
            title = f"{pair.name}: {pair.region}, {pair.bucket} of the noise"
            figures.append(Figure(file, title, caption, _facts(pair)))
    return figures


def _facts(pair: Pair) -> dict[str, str]:
    facts = {}
    for metric, title in TITLES.items():
        after = (pair.candidate or {}).get(metric)
        before = (pair.current or {}).get(metric)
        if after is not None:
            facts[title.partition(",")[0]] = (
                f"{after:.3g}" if before is None else f"{before:.3g} → {after:.3g}"
            )
    return facts


def _badness(pair: Pair, result: GateResult) -> float:
    """Return how far an edit's worst measure goes beside its limit; of broken edits infinity."""
    if pair.candidate is None or not pair.candidate["drift"] <= 0.0:
        return float("inf")
    limits: dict[str, float] = {str(name): limit for name, limit in result.rules.tolerances.items()}
    measures = {metric: pair.worsening(metric) for metric in limits}
    if result.current_digest is None:
        limits = {str(name): limit for name, limit in result.rules.bounds.items()}
        measures = {metric: pair.candidate.get(metric) for metric in limits}
    shares = [
        abs(value) / limits[metric]
        for metric, value in measures.items()
        if value is not None and limits[metric] > 0.0 and metric not in _OF_ALL_EDITS
    ]
    return max(shares, default=0.0)
