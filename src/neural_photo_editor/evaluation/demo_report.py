"""The demo's checks and its report, from what the chain and the server left behind."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.report import Check, Figure, Section, Table, write_report
from neural_photo_editor.evaluation.showcase import ShownEdit

KINDS = ("denoiser", "segmenter", "upscaler")

_PICTURE_TEXTS = {
    "denoiser": "New portraits from pure noise, always the same seeds; one row per sampler.",
    "segmenter": "Held-out photos, their true regions, and the segmenter's.",
    "upscaler": "Shrunk photos enlarged again: bicubic, the network, and the truth.",
}
_PICTURE_TITLES = {
    "denoiser": "Drawn from noise",
    "segmenter": "Segmentation beside truth",
    "upscaler": "Bicubic beside super-resolution",
}


def demo_checks(
    evaluations: Mapping[str, EvaluationResult],
    edits: Sequence[ShownEdit],
    *,
    require: Mapping[str, float],
) -> list[Check]:
    """Compare what was measured with what the demo must reach.

    Args:
        evaluations: by kind.
        edits: the edits made by the server.
        require: bounds ``mean_iou``, ``psnr_gain`` (dB), ``movement``, ``patches``,
            ``hair_detail`` and ``hair_shading``.
    """
    mean_iou = evaluations["segmenter"].metrics["mean_iou"]
    gain = evaluations["upscaler"].metrics["psnr_gain"]
    checks = [
        Check("segmenter: mean IoU over the regions", mean_iou, require["mean_iou"]),
        Check("upscaler: PSNR above bicubic", gain, require["psnr_gain"], unit=" dB"),
    ]
    for shown in edits:
        title = shown.edit.title
        outside = shown.max_difference_outside
        checks.append(Check(f"{title}: largest change outside the mask", outside, 0, "at most"))
        if shown.movement is not None:
            way = require["movement"]
            checks.append(Check(f"{title}: share of the way to the paint", shown.movement, way))
        if shown.patches is not None:
            most = require["patches"]
            checks.append(Check(f"{title}: patches of color", shown.patches, most, "at most"))
        if shown.edit.regions == ("hair",):
            assert shown.detail is not None
            assert shown.shading is not None
            detail, shading = require["hair_detail"], require["hair_shading"]
            checks.append(Check(f"{title}: fine contrast kept", shown.detail, detail))
            checks.append(Check(f"{title}: light and shade kept", shown.shading, shading))
    return checks


def write_demo_report(
    folder: Path,
    *,
    runs: Mapping[str, Path],
    evaluations: Mapping[str, EvaluationResult],
    edits: Sequence[ShownEdit],
    checks: Sequence[Check],
    durations_s: Mapping[str, float],
    bundle_digest: str,
) -> Path:
    """Copy the runs' pictures beside the edits' and write the page.

    Args:
        folder: holds the edits' pictures and receives everything.
        runs: training run folder of each kind.
        evaluations: by kind.
        edits: the edits made by the server.
        checks: from :func:`demo_checks`.
        durations_s: seconds of each stage, in order.
        bundle_digest: identifies what served the edits.
    """
    sections = [
        Section(
            "Edits",
            "Each photo went to the server with a mask, strokes or the names of regions. "
            "Pixels outside the mask come back byte for byte.",
            [Figure(s.picture.name, s.edit.title, facts=s.facts) for s in edits],
        )
    ]
    for kind in KINDS:
        evaluation = evaluations[kind]
        names = [
            _copy(runs[kind] / "evaluation" / picture, folder / f"{kind}-{picture}")
            for picture in evaluation.pictures
        ]
        text = f"{_PICTURE_TEXTS[kind]} Measured on {evaluation.num_samples} held-out portraits."
        sections.append(
            Section(
                _PICTURE_TITLES[kind], text, [Figure(n) for n in names], _tables(evaluation.metrics)
            )
        )
    curves = [
        Figure(_copy(runs[kind] / "curves.png", folder / f"{kind}-curves.png"), kind.capitalize())
        for kind in KINDS
        if (runs[kind] / "curves.png").is_file()
    ]
    sections.append(Section("Training curves", figures=curves))
    durations = {**durations_s, "total": sum(durations_s.values())}
    text = (
        "Wall-clock seconds of each stage's last attempt. A repeated demo skips what did not "
        "change; of a stage continued after a stop, the time before the stop is not counted."
    )
    sections.append(Section("Durations", text, tables=[Table(("Stage", "Seconds"), durations)]))
    return write_report(
        folder,
        title="Neural Photo Editor: the demo",
        summary="Three networks, trained on drawn portraits, exported, packed and served on this "
        f"machine, then asked to edit portraits they never saw. Bundle {bundle_digest[:12]}.",
        checks=checks,
        sections=sections,
    )


def _tables(metrics: Mapping[str, float]) -> list[Table]:
    """Put plain metrics into one table, those of a group ("iou/hair") into another."""
    plain = {name: value for name, value in metrics.items() if "/" not in name}
    tables = [Table(("Metric", "Value"), plain)]
    groups = sorted({name.partition("/")[0] for name in metrics if "/" in name})
    for group in groups:
        rows = {n.partition("/")[2]: v for n, v in metrics.items() if n.startswith(f"{group}/")}
        tables.append(Table((group, "Value"), rows))
    return tables


def _copy(source: Path, target: Path) -> str:
    shutil.copyfile(source, target)
    return target.name
