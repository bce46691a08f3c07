"""A picture of how a run went."""

from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from neural_photo_editor.training.metrics_csv import read_metrics
from neural_photo_editor.training.optional_file import write_optional

COLUMNS = 3


def draw_curves(metrics: Path, picture: Path, *, title: str) -> None:
    """Draw every metric of a metrics.csv over the steps, related ones in one panel, as PNG.

    See `write_optional`.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in read_metrics(metrics):
        for name, value in row.items():
            if name not in ("step", "epoch", "time"):
                panels[_panel(name)][name].append((row["step"], value))
    if not panels:
        return
    last_step = max(point[0] for curves in panels.values() for c in curves.values() for point in c)
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 2.9 * rows), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, (panel, curves) in zip(axes, sorted(panels.items()), strict=False):
        for name, points in sorted(curves.items()):
            steps, values = zip(*points, strict=True)
            axis.plot(
                steps,
                values,
                label=name,
                linewidth=1.3,
                marker="o" if len(points) < 12 else None,
                markersize=3,
            )
        axis.set_title(panel, fontsize=10)
        axis.grid(alpha=0.25)
        axis.set_xlim(0, max(1.0, 1.03 * last_step))
        if len(curves) > 1:
            axis.legend(fontsize=6)
        if panel == "loss" and min(v for c in curves.values() for _, v in c) > 0:
            axis.set_yscale("log")
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    write_optional(picture, lambda partial: figure.savefig(partial, dpi=110, format="png"))


def _panel(name: str) -> str:
    """Name the panel of a metric: losses together, each other quantity with its kind."""
    parts = name.split("/")
    quantity = parts[1] if len(parts) > 1 else parts[0]
    if "loss" in quantity:
        return "loss"
    if quantity in ("d_real", "d_fake"):
        return "discriminator"
    if quantity.endswith("_gib"):
        return "memory_gib"
    if quantity.endswith("_gain"):  # Near 0, where the others are not.
        return quantity
    kind = quantity.split("_")[0]
    return kind if kind in ("psnr", "ssim", "perceptual", "segmenter") else quantity
