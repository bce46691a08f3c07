"""The local record of a run: metrics.csv."""

import csv
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """Appends a row per logged set of metrics to ``run_dir/metrics.csv``, with the Unix time.

    Unlike Lightning's CSVLogger it continues the file of a resumed run: rows from the step where
    the run continues are replaced, earlier ones stay.

    Args:
        run_dir: run folder.
        resumed_from: checkpoint the training continues from; None starts the file anew.
    """

    def __init__(self, run_dir: str | Path, *, resumed_from: str | None = None) -> None:
        super().__init__()
        self._resumed = resumed_from is not None
        self.path = Path(run_dir) / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Do nothing: config.yaml beside the file holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row: dict[str, float | str] = {"step": step or 0, "time": round(time.time(), 3), **metrics}
        if self._columns is None:
            old = read_metrics(self.path) if self._resumed else []
            self._rewrite([kept for kept in old if kept["step"] < (step or 0)], row)
        elif not row.keys() <= set(self._columns):
            self._rewrite(read_metrics(self.path), row)
        assert self._columns is not None
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _rewrite(self, rows: list[dict[str, float]], new: Mapping[str, float | str]) -> None:
        columns = dict.fromkeys(("step", "epoch", "time"))
        for row in (*rows, new):
            columns.update(dict.fromkeys(row))
        self._columns = list(columns)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows({**row, "step": int(row["step"])} for row in rows)
        partial.replace(self.path)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read a metrics.csv: in each row the step, the time and what was logged. [] if absent."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if value not in ("", None)}
            for row in csv.DictReader(file)
        ]


def best_value(path: Path, metric: str, *, mode: str) -> float:
    """Return the best value of a metric in a metrics.csv; what a sweep compares trials by.

    Args:
        path: the file.
        metric: such as ``val/loss``.
        mode: "min" or "max", which of them is better.

    Returns:
        The value; NaN, which fails a trial, if the metric was never logged or always NaN.
    """
    values = [row[metric] for row in read_metrics(path) if metric in row]
    better = max if mode == "max" else min
    return better((value for value in values if not math.isnan(value)), default=math.nan)
