"""What was measured of many edits, as tables and plots."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from neural_photo_editor.evaluation.edit_sweep import Cell

Table = Mapping[Cell, Mapping[str, float]]
"""Means of each metric over the edits of a cell."""

TITLES = {
    "count": "edits",
    "max_difference_outside": "largest change outside, of 255",
    "unchanged_outside": "share unchanged outside",
    "change_inside": "mean change from the photo inside, of 255",
    "seam": "seam (photo: 1)",
    "paint_difference": "distance from the paint, CIEDE2000",
    "kernel_distance": "kernel distance from real photos",
    "frechet_distance": "Frechet distance from real photos",
    "inception_kernel_distance": "Inception kernel distance from real photos (KID)",
    "inception_frechet_distance": "Inception Frechet distance from real photos (FID)",
}
"""Metrics in the order of the tables."""

LEAST_TOPS = {"max_difference_outside": 1.0, "unchanged_outside": 1.0}
"""Metrics that are to be constant: their axes go from 0 to this at least, or every rounding error
would look like a change."""

COLUMNS = 3


def write_csv(table: Table, path: Path) -> None:
    """Write one line per cell; a metric that a cell lacks is left empty."""
    names = _metrics_of(table)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["region", "timestep", "steps", *names])
        for cell, metrics in table.items():
            values = [f"{metrics[name]:.6g}" if name in metrics else "" for name in names]
            writer.writerow([cell.region, cell.timestep, cell.steps, *values])


def write_markdown(table: Table, path: Path) -> None:
    """Write one row per region and timestep, the cells of all numbers of steps averaged."""
    names = _metrics_of(table)
    lines = [
        "| region | t | " + " | ".join(TITLES[name] for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for region, timestep in dict.fromkeys((cell.region, cell.timestep) for cell in table):
        cells = [m for c, m in table.items() if (c.region, c.timestep) == (region, timestep)]
        values = []
        for name in names:
            present = [metrics[name] for metrics in cells if name in metrics]
            values.append(f"{_combined(name, present):.4g}" if present else "")
        lines.append(f"| {region} | {timestep} | " + " | ".join(values) + " |")
    path.write_text("\n".join(lines) + "\n")


def draw_plots(table: Table, folder: Path) -> list[str]:
    """Draw each metric over the timestep, ``by_timestep.png``, and the steps, ``by_steps.png``.

    One curve per region: its mean over the other quantity.

    Returns:
        The files' names.
    """
    by_timestep = plot_metrics(table, x=lambda cell: cell.timestep, label="start timestep")
    by_timestep.savefig(folder / "by_timestep.png", dpi=110)
    by_steps = plot_metrics(table, x=lambda cell: cell.steps, label="steps")
    by_steps.savefig(folder / "by_steps.png", dpi=110)
    return ["by_timestep.png", "by_steps.png"]


def plot_metrics(table: Table, *, x: Callable[[Cell], int], label: str) -> Figure:
    """Plot each metric in axes of its own over one quantity of the cells, named by ``label``."""
    names = [name for name in _metrics_of(table) if name != "count"]
    places = sorted({x(cell) for cell in table})
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        for region in dict.fromkeys(cell.region for cell in table):
            cells = {c: m[name] for c, m in table.items() if c.region == region and name in m}
            measured = sorted({x(cell) for cell in cells})
            means = [_mean([v for c, v in cells.items() if x(c) == place]) for place in measured]
            if means:
                axis.plot(
                    measured, means, label=region,
                    linewidth=1.3, marker="o", markersize=3, clip_on=False,
                )  # fmt: skip
        if name in LEAST_TOPS:
            axis.set_ylim(0.0, max(axis.get_ylim()[1], LEAST_TOPS[name]))
        axis.set_xticks(places)
        axis.set_title(TITLES[name], fontsize=9)
        axis.set_xlabel(label, fontsize=8)
        axis.grid(alpha=0.25)
    axes[0].legend(fontsize=7)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    return figure


def _metrics_of(table: Table) -> list[str]:
    present = {name for metrics in table.values() for name in metrics}
    return [name for name in TITLES if name in present]


def _combined(name: str, values: list[float]) -> float:
    """Sum counts, take the worst change outside the mask, and average everything else."""
    if name == "count":
        return sum(values)
    return max(values) if name == "max_difference_outside" else _mean(values)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
