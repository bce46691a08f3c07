"""The local record of a run: metrics.csv."""

import csv
import math
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from neural_photo_editor.common.log import get_logger

_log = get_logger(__name__)


class MetricsCSV(Logger):
    """Appends a row per logged set of metrics to ``run_dir/metrics.csv``, with the Unix time.

    Unlike Lightning's CSVLogger it continues the file of a resumed run: rows from the step where
    the run continues are replaced, earlier ones stay. Rows that a full disk refuses are written
    with the next one that it takes.

    Args:
        run_dir: run folder.
        resumed_from: checkpoint the training continues from; None starts the file anew.
    """

    def __init__(self, run_dir: str | Path, *, resumed_from: str | None = None) -> None:
        super().__init__()
        self._resumed = resumed_from is not None
        self.path = Path(run_dir) / "metrics.csv"
        self._columns: list[str] | None = None
        self._waiting: list[dict[str, float | str]] = []

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
        self._waiting.append({"step": step or 0, "time": round(time.time(), 3), **metrics})
        try:
            while self._waiting:
                self._write(self._waiting[0])
                del self._waiting[0]
        except OSError as error:
            if len(self._waiting) == 1:
                _log.warning("metrics.csv waits for space: %s", error)

    def _write(self, row: dict[str, float | str]) -> None:
        if self._columns is None:
            old = read_metrics(self.path) if self._resumed else []
            self._rewrite([kept for kept in old if kept["step"] < float(row["step"])], row)
        elif not row.keys() <= set(self._columns):
            self._rewrite(read_metrics(self.path), row)
        assert self._columns is not None
        size = self.path.stat().st_size
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)
        except OSError:
            os.truncate(self.path, size)  # A part of the row may have found space.
            raise

    def _rewrite(self, rows: list[dict[str, float]], new: Mapping[str, float | str]) -> None:
        columns = dict.fromkeys(("step", "epoch", "time"))
        for row in (*rows, new):
            columns.update(dict.fromkeys(row))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        try:
            with partial.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(columns), restval="")
                writer.writeheader()
                writer.writerows({**row, "step": int(row["step"])} for row in rows)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(self.path)
        self._columns = list(columns)


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
